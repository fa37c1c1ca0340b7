"""An app that is ended from outside prints why, however it is ended.

libwayland prints the text of `wl_display.error` to stderr; where the connection is reset
before it could read that, it has nothing to print.
"""

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from tests.host.conftest import Weston, running_weston
from tests.peers.app import App, Disconnected, ProtocolError
from tests.peers.loopback import Loopback
from wlproxy_guest.quotas import Limits

IMPLEMENTATION = ProtocolError("wl_display", 1, 3)

End = Callable[[Loopback], Awaitable[None]]


async def proxy_stops(loopback: Loopback) -> None:
    loopback.host.stop()


async def proxy_is_killed(loopback: Loopback) -> None:
    await loopback.stop("host")


async def agent_stops(loopback: Loopback) -> None:
    await loopback.agent.stop()


async def compositor_dies(loopback: Loopback) -> None:
    await loopback.stop("compositor")


@pytest.fixture(scope="module")
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    with running_weston(tmp_path_factory) as weston:
        yield weston


ENDS: list[tuple[End, str]] = [
    (proxy_stops, "wlproxy: the host's proxy was stopped"),
    (proxy_is_killed, "wlproxy: the connection to the host was lost"),
    (agent_stops, "wlproxy: the agent was stopped"),
    (compositor_dies, "wlproxy: the compositor"),
]


def flood(app: App) -> None:
    """Leave something unread at the other end, whenever that is."""
    for _ in range(100):
        app.display.sync()
    app.display.flush()


@pytest.mark.parametrize(("end", "words"), ENDS, ids=[e.__name__ for e, _ in ENDS])
async def test_app_gets_to_read_why(
    loopback: Loopback,
    nursery: trio.Nursery,
    end: End,
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    app = await loopback.app()
    await app.window()
    flood(app)

    nursery.start_soon(end, loopback)
    error = await app.disconnected()
    app.close()

    assert error == IMPLEMENTATION
    assert words in capfd.readouterr().err


async def test_app_over_a_limit_gets_to_read_why(
    bare: Loopback, capfd: pytest.CaptureFixture[str]
) -> None:
    await bare.start_compositor()
    await bare.start_agent(Limits(clients=1))
    await bare.start_host()
    app = await bare.app()

    # libwayland makes ENOMEM of this one, and has no protocol error for the app.
    with pytest.raises(Disconnected) as caught:
        await bare.app()
    assert caught.value.error is None
    app.close()

    assert "wlproxy: over 1 apps at once" in capfd.readouterr().err
    await bare.quiet()


QT_APP = """
import sys
from PyQt6.QtWidgets import QApplication, QLabel
app = QApplication(sys.argv)
label = QLabel("text")
label.show()
app.exec()
"""
PROGRAMS = {
    "gtk4-demo": ["gtk4-demo"],
    "qt6": ["/usr/bin/python3", "-c", QT_APP],
    "weston-flower": ["weston-flower"],
}
DEBIANS_PYTHON = "/usr/lib/python3/dist-packages"
ENVIRON = {
    "GDK_BACKEND": "wayland",
    "GSK_RENDERER": "cairo",
    "G_MESSAGES_DEBUG": "Gdk",  # where GTK hides what libwayland prints
    "QT_QPA_PLATFORM": "wayland",
}


async def run_program(command: list[str], display: Path) -> trio.Process:
    """Start a program; what it says is one stream."""
    runtime = {
        "XDG_RUNTIME_DIR": str(display.parent),
        "WAYLAND_DISPLAY": str(display),
    }
    return await trio.lowlevel.open_process(
        command,
        env={**os.environ, **ENVIRON, **runtime},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


async def last_words(process: trio.Process) -> str:
    """Wait for a program's end; returns all that it has said."""
    assert process.stdout is not None
    said = b""
    try:
        async with process.stdout:
            with trio.fail_after(30):
                async for some in process.stdout:
                    said += some
    finally:
        process.kill()
        await process.wait()
    return said.decode(errors="replace")


@pytest.fixture
def command(request: pytest.FixtureRequest) -> list[str]:
    """A program that is there, and its arguments: the parameter, or what it names.

    In no test: pytest-trio would drop the reason.
    """
    words = PROGRAMS.get(request.param) or request.param.split()
    if not shutil.which(words[0]):
        pytest.skip(f"needs {words[0]}")
    if request.param == "qt6" and not Path(DEBIANS_PYTHON, "PyQt6").is_dir():
        pytest.skip("needs python3-pyqt6")
    return words


@pytest.mark.slow
@pytest.mark.parametrize("end", [proxy_stops, proxy_is_killed, agent_stops])
@pytest.mark.parametrize("command", PROGRAMS, indirect=True)
async def test_program_prints_why(
    bare: Loopback, nursery: trio.Nursery, weston: Weston, command: list[str], end: End
) -> None:
    await bare.start_agent()
    await bare.start_host(Path(weston.socket))
    process = await run_program(command, bare.display)
    await bare.until(lambda: bare.status()["surfaces"] or process.poll() is not None)

    nursery.start_soon(end, bare)

    assert dict(ENDS)[end] in await last_words(process)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["foot --config=/dev/null", "wayland-info"], indirect=True
)
async def test_program_without_a_host_prints_why(
    bare: Loopback, command: list[str]
) -> None:
    await bare.start_agent()
    process = await run_program(command, bare.display)
    assert "wlproxy: the host is not connected" in await last_words(process)
