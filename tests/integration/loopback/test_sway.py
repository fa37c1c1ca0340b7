"""Protocols of KDE and wlroots through agent and proxy to a real sway."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.host.conftest import running_sway
from tests.peers.kde import KdeDecorationManager
from tests.peers.loopback import VM, Loopback

pytestmark = pytest.mark.lab

SERVER = 2
TOPLEVELS = "zwlr_foreign_toplevel_manager_v1"


@pytest.fixture(scope="module")
def sway() -> Iterator[Path]:
    with running_sway() as sway:
        yield sway


async def test_sway_draws_the_title_bar(bare: Loopback, sway: Path) -> None:
    """As GTK 3 asks for it; sway shows this protocol to clients of its contexts, too."""
    await bare.start_agent()
    await bare.start_host(sway)
    app = await bare.app()
    manager = app.bind(KdeDecorationManager)
    default = app.record(manager, "default_mode")
    window = await app.window()
    decoration = app.keep(manager.create(window.surface))
    mode = app.record(decoration, "mode")
    decoration.request_mode(SERVER)
    await app.until(lambda: (SERVER,) in mode)

    assert default == [(SERVER,)]
    decoration.release()
    await app.roundtrip()


async def list_windows(bare: Loopback) -> str:
    """Have wlrctl list the windows, as an app of the guest."""
    done = await trio.run_process(
        ["wlrctl", "toplevel", "list"],
        env={**os.environ, "WAYLAND_DISPLAY": str(bare.display)},
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout.decode()


async def test_windows_are_listed_where_that_is_allowed(
    bare: Loopback, sway: Path
) -> None:
    await bare.start_agent()
    await bare.start_host(sway, allow=[TOPLEVELS], isolate=False)
    app = await bare.app()
    window = await app.window()
    window.role.set_title("a letter")
    await app.show(window.surface, app.canvas((64, 64)))

    assert TOPLEVELS in app.interfaces
    with trio.fail_after(30):
        assert f"[{VM}] a letter" in await list_windows(bare)


async def test_windows_are_not_listed_elsewhere(bare: Loopback, sway: Path) -> None:
    await bare.start_agent()
    await bare.start_host(sway, isolate=False)
    app = await bare.app()
    window = await app.window()
    window.role.set_title("a letter")
    await app.show(window.surface, app.canvas((64, 64)))

    assert TOPLEVELS not in app.interfaces
    with trio.fail_after(30):
        assert "a letter" not in await list_windows(bare)
