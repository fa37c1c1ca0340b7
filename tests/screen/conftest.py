"""A real machine whose screen can be had: QEMU with SeaBIOS, and nothing to boot."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.clients.capture import Picture, from_ppm
from tests.host.conftest import sway  # noqa: F401 - a fixture
from wlproxy.host.errors import QmpError
from wlproxy.host.qemu.qmp import QmpClient

QEMU = "qemu-system-x86_64"
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Has glibc give back what was freed of larger blocks, so that what QEMU has is what it still needs."""
PATIENCE = 30
"""Seconds for QEMU to get somewhere, on a busy machine without KVM."""


class Machine:
    """A virtual machine.  Its monitor is free but for the moment that one asks it something."""

    def __init__(self, directory: Path, *options: str, alone: bool = False) -> None:
        """Start it.

        Args:
            directory: for its sockets.
            options: what it has.
            alone: whether the options are all that it has, its monitor among them.
        """
        self.directory = directory
        self.monitor = directory / "qmp"
        if not alone:
            display = "-accel", "tcg", "-m", "32", "-display", "dbus,p2p=on"
            monitor = "-qmp", f"unix:{self.monitor},server=on,wait=off"
            options = ("-nodefaults", "-machine", "pc", *display, *monitor, *options)
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [QEMU, "-no-user-config", *options],
                env={**os.environ, **GIVES_BACK},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not alone:
            self.wait_monitor(self.monitor)

    def wait_monitor(self, path: Path) -> None:
        """Wait until the monitor answers there: its socket is seen before that."""
        self.monitor = path
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                QmpClient(path).close()
            except QmpError:
                time.sleep(0.01)
            else:
                return
        self.stop()
        pytest.fail(f"QEMU: {(self.directory / 'log').read_text()}")

    def execute(self, command: str, **arguments: str) -> object:
        with QmpClient(self.monitor) as monitor:
            return monitor.execute(command, **arguments)

    def picture(self) -> Picture:
        """What QEMU says is on the screen."""
        dump = self.directory / "dump.ppm"
        self.execute("screendump", filename=str(dump))
        return from_ppm(dump.read_bytes())

    def still_picture(self) -> Picture:
        """The same, with the machine stopped, so that it stays like that."""
        self.execute("stop")
        return self.picture()

    @property
    def status(self) -> object:
        answer = self.execute("query-status")
        assert isinstance(answer, dict)
        return answer["status"]

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE)


MakeMachine = Callable[..., Machine]


def _lacking() -> str:
    if not shutil.which(QEMU):
        return f"needs {QEMU}: apt-get install qemu-system-x86"
    known = subprocess.run(
        [QEMU, "-display", "help"], capture_output=True, text=True, check=True
    )
    if "dbus" not in known.stdout.split():
        return "needs QEMU's ui-dbus.so: apt-get install qemu-system-modules-opengl"
    return ""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[MakeMachine]:
    """Start machines, which end with the test."""
    if lacking := _lacking():
        pytest.skip(lacking)
    made: list[Machine] = []

    def make(*options: str, alone: bool = False) -> Machine:
        directory = tmp_path / f"vm{len(made)}"
        directory.mkdir()
        # The path of a socket is short, that of a test's directory perhaps not.
        assert len(os.fsencode(directory)) < 90
        made.append(Machine(directory, *options, alone=alone))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def has_text(picture: Picture) -> bool:
    """Whether the firmware has written something: light grey, in VGA's text mode."""
    grey = bytes((0xA8, 0xA8, 0xA8, 0xFF))
    size = picture.width, picture.height
    return size == (720, 400) and picture.data.count(grey) > 1000


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Ask again and again, since nothing tells when a machine has drawn something."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"in vain: {what}")
        time.sleep(0.02)
