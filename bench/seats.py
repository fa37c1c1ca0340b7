"""What is done through each peer with input: it takes a compositor with a seat, which is sway.

The pointer is a virtual one (zwlr_virtual_pointer_v1).  What moves it is connected to the
compositor itself, whatever peer the app is behind.
"""

import os
import select
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from bench.client import PATIENCE, App, Canvas
from bench.pointer import FRAME, MOTION, VirtualPointer
from bench.processes import BenchError, StalledError
from bench.workloads import WARM_UP, Run, Workload, timed
from tests.clients.wire import Connection, encode
from wlproxy.transport.closable import Closing

WINDOW: Final = (1024, 768)
"""As large as sway's output, so that the pointer is in it and in no other."""
ONE: Final = 1 << 8
"""A pixel, as a wl_fixed."""
MIME: Final = "text/plain"
MEBIBYTE: Final = 1 << 20
LARGE: Final = 16
"""MiB of a large selection."""
AT_ONCE: Final = 1 << 16
"""Bytes that are read at once: what a pipe holds."""
STALLED: Final = 5.0
"""Seconds in which nothing of a selection comes: then no more will."""
TERMINAL: Final = "foot"
ALONE: Final = ("-o", "tweak.max-shm-pool-size-mb=0")
"""Has each of foot's buffers begin with its file: `bench.proxy` would have others copied."""


class Mouse(VirtualPointer):
    """A pointer that goes a pixel forth and back, in the middle of the output."""

    def __init__(self, compositor: str) -> None:
        """As `VirtualPointer`, at the compositor's own display."""
        super().__init__(compositor)
        self.put(0, 1, 1, 2)
        self.wire.roundtrip()
        self._moves = tuple(
            encode(self.pointer, MOTION, "uii", 0, by, 0)
            + encode(self.pointer, FRAME, "")
            for by in (ONE, -ONE)
        )

    def move(self, number: int) -> None:
        """Send a motion of a pixel, to the left if `number` is odd, or else to the right."""
        self.wire.send_raw(self._moves[number % 2])


class PointedApp(App):
    """An app that is told what the pointer does.

    Attributes:
        seat: the wl_seat.
        serial: of the pointer's coming into the window; 0: it has not.
        motions: how many have come.
    """

    def __init__(self, display: str) -> None:
        """Connect, show a window, and wait for the pointer to be in it.

        Raises:
            OSError: nobody listens there.
            TimeoutError: there is no pointer.
        """
        super().__init__(display)
        self.serial = self.motions = 0
        self.seat = self.wire.bind("wl_seat", 5)
        pointer = self.wire.new(self._on_pointer)
        self.wire.send(self.seat, 0, "u", pointer)
        canvas = Canvas(self.wire, self.shm, *WINDOW)
        self.frame(canvas, (0, 0, *WINDOW))
        self.wire.wait(lambda: self.serial, PATIENCE)
        # No picture of it, which the compositor would have to draw for each motion.
        self.wire.send(pointer, 0, "uuii", self.serial, 0, 0, 0)

    def wait_motion(self, number: int) -> None:
        """Wait for a motion, which is counted from 1."""
        self.wire.wait(lambda: self.motions >= number, PATIENCE)

    def copy(self) -> None:
        """Offer a selection, and wait until the compositor has it."""
        manager = self.wire.bind("wl_data_device_manager", 1)
        source, device = self.wire.new(), self.wire.new()
        self.wire.send(manager, 0, "u", source)
        self.wire.send(manager, 1, "uu", device, self.seat)
        self.wire.send(source, 0, "s", MIME)
        self.wire.send(device, 1, "uu", source, self.serial)
        self.sync()

    def wait_asked(self) -> int:
        """Wait until somebody pastes; return the fd to write to, which is the caller's."""
        self.wire.wait(lambda: self.wire.fds, PATIENCE)
        return self.wire.fds.pop()

    def _on_pointer(self, opcode: int, data: bytes) -> None:
        if opcode == 0:
            (self.serial,) = struct.unpack_from("=I", data)
        elif opcode == 2:
            self.motions += 1


class Reader(Closing):
    """Who pastes: at the compositor itself, by zwlr_data_control_v1, which takes no window."""

    def __init__(self, compositor: str) -> None:
        """Connect to the compositor's own display, and wait for a selection.

        Raises:
            OSError: nobody listens there.
            TimeoutError: nobody offers one.
        """
        self._offer = 0
        self._wire = wire = Connection(compositor)
        manager = wire.bind("zwlr_data_control_manager_v1", 1)
        seat = wire.bind("wl_seat", 1)
        device = wire.new(self._on_device)
        wire.send(manager, 1, "uu", device, seat)
        wire.wait(lambda: self._offer, PATIENCE)

    def close(self) -> None:
        """Leave."""
        self._wire.close()

    def ask(self) -> int:
        """Ask for the selection; return the fd to read from, which is the caller's."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            self._wire.send(self._offer, 0, "s", MIME, fds=[theirs])
        finally:
            os.close(theirs)
        return ours

    def _on_device(self, opcode: int, data: bytes) -> None:
        if opcode == 1:
            (self._offer,) = struct.unpack("=I", data)


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
def pasting(size: int, compositor: str, display: str) -> Iterator[Callable[[], None]]:
    """Copy in an app; yield what pastes it, so many bytes, beside the peer."""
    data = memoryview(bytes(size))
    with Mouse(compositor), PointedApp(display) as app:
        app.copy()
        with Reader(compositor) as reader:

            def paste() -> None:
                reading = reader.ask()
                carry(data, app.wait_asked(), reading, STALLED)

            yield paste


@contextmanager
def small_pastes(compositor: str, display: str) -> Iterator[Run]:
    """Paste again and again what fits into a pipe."""
    with pasting(AT_ONCE, compositor, display) as paste:
        timed(paste, WARM_UP)
        yield partial(timed, paste)


@contextmanager
def large_pastes(compositor: str, display: str) -> Iterator[Run]:
    """Paste again and again what is large; a unit is a MiB of it."""
    with pasting(LARGE * MEBIBYTE, compositor, display) as paste:

        def run(units: int) -> list[float]:
            timed(paste, units // LARGE)
            return []

        run(LARGE)
        yield run


@contextmanager
def motions(compositor: str, display: str) -> Iterator[Run]:
    """Move the pointer, and wait until the app has read that it has moved."""
    with Mouse(compositor) as mouse, PointedApp(display) as app:

        def step() -> None:
            next_one = app.motions + 1
            mouse.move(next_one)
            app.wait_motion(next_one)

        timed(step, 10 * WARM_UP)
        yield partial(timed, step)


@contextmanager
def scrolling(display: str) -> Iterator[Run]:
    """Have a terminal print a large file, and end; a unit is a thousand lines of it."""
    environ = {**os.environ, "WAYLAND_DISPLAY": display}

    def run(units: int) -> list[float]:
        words = [TERMINAL, *ALONE, "sh", "-c", f"seq 1 {units * 1000}"]
        try:
            done = subprocess.run(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired as exc:
            raise TimeoutError(f"{TERMINAL} does not end") from exc
        if done.returncode:
            raise BenchError(f"{TERMINAL} has failed:\n{done.stderr}")
        return []

    run(WARM_UP)
    yield run


def on_seat(compositor: str) -> tuple[Workload, ...]:
    """List the workloads that take a seat.

    Args:
        compositor: the compositor's own display.
    """
    return (
        Workload(
            "pointer",
            "motion",
            "wl_pointer.motion, from the device until the app has it",
            partial(motions, compositor),
            *(1000, 300),
            traced=200,
        ),
        Workload(
            "paste-64k",
            "paste",
            f"a selection of {AT_ONCE >> 10} KiB, until it is pasted beside the peer",
            partial(small_pastes, compositor),
            *(200, 40),
            traced=40,
        ),
        Workload(
            "paste-16m",
            "MiB",
            f"a selection of {LARGE} MiB, until it is pasted beside the peer",
            partial(large_pastes, compositor),
            *(8 * LARGE, 2 * LARGE),
            traced=LARGE,
            latency=False,
        ),
        Workload(
            "scroll",
            "1,000 lines",
            f"{TERMINAL} starts, prints them, and ends",
            scrolling,
            *(4000, 500),
            latency=False,
            leaves=True,
            app=TERMINAL,
        ),
    )
