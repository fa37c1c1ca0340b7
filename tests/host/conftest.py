"""Real peers for the host's modules: weston, QEMU, the udmabuf driver."""

import os
import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lab.ordinary_user import NOBODY, as_nobody
from lab.weston import Weston as WestonProgram
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice
from wlproxy.transport.fds import OwnedFd

READY_TIMEOUT = 30
"""Seconds for a program to say that it is ready, on a busy machine under TCG."""


@contextmanager
def nobody() -> Iterator[None]:
    """Be an ordinary user: does nothing unless we are root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


class Weston:
    """A headless weston and the directory of its socket."""

    def __init__(
        self,
        directory: Path,
        shell: str = "desktop",
        size: tuple[int, int] = (1024, 640),
        settings: str = "",
    ) -> None:
        self.size = size
        self.directory = directory
        self.socket = directory / "wl-test"
        self.environ = {"XDG_RUNTIME_DIR": str(directory), "WAYLAND_DISPLAY": "wl-test"}
        program = WestonProgram()
        command = program.command("pixman", shell, size, self.socket.name)
        config = directory / "weston.ini"
        config.write_text(settings)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            notify = directory / "notify"
            notify.unlink(missing_ok=True)
            ready.bind(str(notify))
            ready.settimeout(READY_TIMEOUT)
            with (directory / "log").open("wb") as log:
                self.process = subprocess.Popen(
                    [*command, f"--config={config}", "--modules=systemd-notify.so"],
                    env={**os.environ, **self.environ, "NOTIFY_SOCKET": str(notify)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                self.stop()
                pytest.fail(f"weston is not ready: {(directory / 'log').read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(READY_TIMEOUT)


@contextmanager
def running_weston(
    tmp_path_factory: pytest.TempPathFactory,
    shell: str = "desktop",
    size: tuple[int, int] = (1024, 640),
    settings: str = "",
) -> Iterator[Weston]:
    """A weston for as long as a fixture lasts; a skip where there is none.

    Args:
        shell: which of its shells.
        size: of its output, in pixels.
        settings: its configuration.
    """
    if not shutil.which("weston"):
        pytest.skip("needs weston: apt-get install weston")
    directory = tmp_path_factory.mktemp("w")
    directory.chmod(0o700)
    weston = Weston(directory, shell, size, settings)
    yield weston
    weston.stop()


@pytest.fixture(scope="session")
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    with running_weston(tmp_path_factory) as weston:
        yield weston


@pytest.fixture(scope="session")
def lab_socket() -> Callable[[str], Path]:
    """Names the compositors that the lab's host VM has up: `wl-pixman`, `wl-gl`."""
    if "WLPROXY_LAB" not in os.environ:
        pytest.skip("runs in the lab's host VM only")
    return Path(os.environ["XDG_RUNTIME_DIR"]).joinpath


@contextmanager
def running_sway(settings: str = "") -> Iterator[Path]:
    """A headless sway for as long as a fixture lasts; a skip where there is none.

    Args:
        settings: more lines of its configuration.
    """
    if not shutil.which("sway"):
        pytest.skip("needs sway: apt-get install sway")
    # Where nobody gets to as well.
    with (
        TemporaryDirectory(prefix="sway-") as name,
        _running_sway(Path(name), settings) as display,
    ):
        yield display


@contextmanager
def _running_sway(directory: Path, settings: str) -> Iterator[Path]:
    ready = directory / "ready"
    os.mkfifo(ready)
    config = directory / "config"
    config.write_text(f"exec echo $WAYLAND_DISPLAY > {ready}\n{settings}\n")
    environ = {
        **os.environ,
        "XDG_RUNTIME_DIR": str(directory),
        "WLR_BACKENDS": "headless",
        "WLR_RENDERER": "pixman",
        "WLR_LIBINPUT_NO_DEVICES": "1",
    }
    environ.pop("WAYLAND_DISPLAY", None)
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
        os.chown(ready, NOBODY, NOBODY)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            as_nobody(["sway", "--config", str(config)]),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    with OwnedFd(os.open(ready, os.O_RDONLY | os.O_NONBLOCK)) as fifo:
        told, _, _ = select.select([fifo], [], [], READY_TIMEOUT)
        display = os.read(fifo.fileno(), 100).decode().strip() if told else ""
    if not display:
        process.kill()
        process.wait()
        pytest.fail(f"sway is not ready: {(directory / 'log').read_text()}")
    yield directory / display
    process.terminate()
    process.wait(READY_TIMEOUT)


@pytest.fixture(scope="session")
def sway() -> Iterator[Path]:
    """The socket of a headless sway (wlroots), which has wp_security_context_v1."""
    with running_sway() as sway:
        yield sway


@pytest.fixture
def udmabuf() -> Iterator[UdmabufDevice]:
    """The driver; only in the lab's host VM, where the test owns its limits."""
    if "WLPROXY_LAB" not in os.environ:
        pytest.skip("runs in the lab's host VM only")
    with UdmabufDevice() as device:
        yield device
