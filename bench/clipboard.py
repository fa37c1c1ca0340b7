"""Copies on one side of a peer and pastes on the other.

On one side is an app that is connected through the peer; on the other who is connected to the
compositor itself, by zwlr_data_control_v1 (sway and other wlroots compositors have it), and
needs no window.
"""

import os
import select
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

from bench.client import PATIENCE
from bench.pointer import Mouse, PointedApp
from bench.processes import StalledError
from bench.workloads import WARM_UP, Run, timed
from tests.clients.wire import Connection
from wlproxy.transport.closable import Closing

MIME: Final = "text/plain"
MEBIBYTE: Final = 1 << 20
LARGE: Final = 16
"""MiB of a large selection."""
AT_ONCE: Final = 1 << 16
"""Bytes that are read at once: what a pipe holds."""
STALLED: Final = 5.0
"""Seconds in which nothing of a selection comes: then no more will."""

Paste = Callable[[], None]
Pasting = Callable[[int, str, str], AbstractContextManager[Paste]]
"""Takes a size in bytes, the compositor's own display and the peer's; yields what pastes once."""


class Clipboard:
    """What one connection knows of the selection: offers one, asks for the one there is.

    wl_data_device and zwlr_data_control_device_v1 are alike but for their opcodes.

    Attributes:
        device: the one of the two that it has.
    """

    def __init__(
        self,
        wire: Connection,
        manager: str,
        seat: int,
        *,
        selection: int,
        receive: int,
    ) -> None:
        """Have the seat's selection told.

        Args:
            wire: whose connection it is.
            manager: the interface that makes sources and devices.
            seat: the wl_seat.
            selection: the opcode of the device's event that tells what is offered.
            receive: the opcode of the offer's request for it.
        """
        self._wire = wire
        self._selection = selection
        self._receive = receive
        self._offer = 0
        self._manager = wire.bind(manager, 1)
        self.device = wire.new(self._on_device)
        wire.send(self._manager, 1, "uu", self.device, seat)

    def new_source(self) -> int:
        """Make a source of text."""
        source = self._wire.new()
        self._wire.send(self._manager, 0, "u", source)
        self._wire.send(source, 0, "s", MIME)
        return source

    def wait_offered(self) -> None:
        """Wait until somebody offers a selection."""
        self._wire.wait(lambda: self._offer, PATIENCE)

    def ask(self) -> int:
        """Ask for the selection; return the fd to read from, which is the caller's."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            self._wire.send(self._offer, self._receive, "s", MIME, fds=[theirs])
        finally:
            os.close(theirs)
        return ours

    def wait_asked(self) -> int:
        """Wait until somebody asks; return the fd to write to, which is the caller's."""
        self._wire.wait(lambda: self._wire.fds, PATIENCE)
        return self._wire.fds.pop()

    def _on_device(self, opcode: int, data: bytes) -> None:
        if opcode == self._selection:
            (self._offer,) = struct.unpack("=I", data)


def clipboard_of(app: PointedApp) -> Clipboard:
    """Give an app the selection of its seat."""
    manager = "wl_data_device_manager"
    return Clipboard(app.wire, manager, app.seat, selection=5, receive=1)


class Beside(Closing):
    """Who copies and pastes at the compositor itself, and has no window."""

    def __init__(self, compositor: str) -> None:
        """Connect to the compositor's own display.

        Raises:
            OSError: nobody listens there.
        """
        self._wire = wire = Connection(compositor)
        seat = wire.bind("wl_seat", 1)
        manager = "zwlr_data_control_manager_v1"
        self.clipboard = Clipboard(wire, manager, seat, selection=1, receive=0)

    def close(self) -> None:
        """Leave."""
        self._wire.close()

    def copy(self) -> None:
        """Offer a selection, and wait until the compositor has it."""
        source = self.clipboard.new_source()
        self._wire.send(self.clipboard.device, 0, "u", source)
        self._wire.roundtrip(PATIENCE)


def carry(
    data: memoryview, writing: int, reading: int, patience: float = PATIENCE
) -> None:
    """Write into one end of a connection and read at the other, until all has come.

    Args:
        data: what is written.
        writing: is closed.
        reading: is closed.
        patience: seconds in which nothing is taken and nothing comes.

    Raises:
        StalledError: so it is, or less has come than was written.
    """
    missing = len(data)
    with open(writing, "wb", 0) as to, open(reading, "rb", 0) as source:
        os.set_blocking(writing, False)
        while True:
            wanting = [] if to.closed else [to]
            readable, writable, _ = select.select([source], wanting, [], patience)
            if not readable and not writable:
                raise StalledError(f"{missing} bytes of what was copied do not come")
            if writable:
                data = data[to.write(data) or 0 :]
                if not data:
                    to.close()
            if readable:
                came = len(source.read(AT_ONCE))
                missing -= came
                if not came:
                    break
    if missing:
        raise StalledError(f"{missing} bytes of what was copied are lost")


@contextmanager
def pasting_beside(size: int, compositor: str, display: str) -> Iterator[Paste]:
    """Copy in an app; yield what pastes it, so many bytes, beside the peer."""
    data = memoryview(bytes(size))
    with Mouse(compositor), PointedApp(display) as app:
        here = clipboard_of(app)
        app.wire.send(here.device, 1, "uu", here.new_source(), app.serial)
        app.sync()
        with Beside(compositor) as beside:
            beside.clipboard.wait_offered()

            def paste() -> None:
                reading = beside.clipboard.ask()
                carry(data, here.wait_asked(), reading, STALLED)

            yield paste


@contextmanager
def pasting_through(size: int, compositor: str, display: str) -> Iterator[Paste]:
    """Copy beside the peer; yield what pastes it, so many bytes, in an app."""
    data = memoryview(bytes(size))
    with (
        Mouse(compositor),
        Beside(compositor) as beside,
        PointedApp(display) as app,
    ):
        here = clipboard_of(app)
        beside.copy()
        here.wait_offered()

        def paste() -> None:
            reading = here.ask()
            carry(data, beside.clipboard.wait_asked(), reading, STALLED)

        yield paste


@contextmanager
def small_pastes(pasting: Pasting, compositor: str, display: str) -> Iterator[Run]:
    """Paste again and again what fits into a pipe."""
    with pasting(AT_ONCE, compositor, display) as paste:
        timed(paste, WARM_UP)
        yield partial(timed, paste)


@contextmanager
def large_pastes(pasting: Pasting, compositor: str, display: str) -> Iterator[Run]:
    """Paste again and again what is large; a unit is a MiB of it."""
    with pasting(LARGE * MEBIBYTE, compositor, display) as paste:

        def run(units: int) -> list[float]:
            timed(paste, units // LARGE)
            return []

        run(LARGE)
        yield run
