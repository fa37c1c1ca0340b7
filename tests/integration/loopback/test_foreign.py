"""Dialogs over another app's window, if both are of the VM: no window of the host's can be named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pywayland.protocol.xdg_foreign_unstable_v2 import (
    ZxdgExporterV2,
    ZxdgImporterV2,
)

from tests.host.conftest import running_sway
from tests.peers.app import App
from tests.peers.compositor import Compositor
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback

HANDLE = "handle-of-the-host"


def _tell_handle(_exporter: Resource, exported: Resource, _surface: Resource) -> None:
    exported.send("handle", HANDLE)


async def export(app: App) -> tuple[Any, str]:
    """Have an app export a window; return that, and what it was told."""
    window = await app.window()
    exported = app.keep(app.bind(ZxdgExporterV2).export_toplevel(window.surface))
    told = app.record(exported, "handle")
    await app.until(lambda: told)
    return exported, told[0][0]


async def import_(app: App, handle: str) -> list[tuple[Any, ...]]:
    """Have an app put a window over one; return where it is told that this is over."""
    imported = app.keep(app.bind(ZxdgImporterV2).import_toplevel(handle))
    gone = app.record(imported, "destroyed")
    window = await app.window()
    imported.set_parent_of(window.surface)
    await app.roundtrip()
    return gone


async def test_two_apps_of_the_vm(loopback: Loopback, compositor: Compositor) -> None:
    compositor.handlers["zxdg_exporter_v2", "export_toplevel"] = _tell_handle
    compositor.add_global(ZxdgExporterV2, 1)
    compositor.add_global(ZxdgImporterV2, 1)
    one, two = await loopback.app(), await loopback.app()
    _, name = await export(one)

    assert name != HANDLE
    assert not await import_(two, name)
    [asked] = compositor.called("zxdg_importer_v2.import_toplevel")
    assert asked.args[-1] == HANDLE
    assert await import_(two, HANDLE)
    one.close()
    await loopback.until(lambda: loopback.clients() == 1)
    assert await import_(two, name)
    assert len(compositor.called("zxdg_importer_v2.import_toplevel")) == 1


@pytest.fixture(scope="module")
def sway() -> Iterator[Path]:
    with running_sway() as sway:
        yield sway


@pytest.mark.lab
async def test_sway_takes_the_window_of_another_app(bare: Loopback, sway: Path) -> None:
    await bare.start_agent()
    await bare.start_host(sway)
    one, two = await bare.app(), await bare.app()
    exported, name = await export(one)

    gone = await import_(two, name)
    assert not gone
    exported.destroy()
    await one.roundtrip()
    await two.until(lambda: gone)
    assert await import_(two, name)


@pytest.mark.lab
async def test_a_window_of_the_hosts_own_in_sway(bare: Loopback, sway: Path) -> None:
    """It can be imported on the host, and not in the VM, though its handle is known there."""
    await bare.start_agent()
    bare.compositor_path = sway
    await bare.start_host(sway)
    theirs, other = await bare.direct_app(), await bare.direct_app()
    app = await bare.app()
    _, handle = await export(theirs)
    _, name = await export(app)

    assert not await import_(other, handle)
    assert await import_(app, handle)
    assert await import_(other, name)
