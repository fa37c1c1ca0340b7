"""What is done through each peer with input: it takes a compositor with a seat, which is sway.

The pointer is a virtual one (zwlr_virtual_pointer_v1).  What moves it is connected to the
compositor itself, whatever peer the app is behind.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from bench.client import PATIENCE, App, Canvas
from bench.workloads import WARM_UP, Run, Workload, timed
from tests.clients.wire import Connection, encode
from wlproxy.transport.closable import Closing

WINDOW: Final = (1024, 768)
"""As large as sway's output, so that the pointer is in it and in no other."""
ONE: Final = 1 << 8
"""A pixel, as a wl_fixed."""


class Mouse(Closing):
    """A pointer in the compositor's seat, in the middle of its output."""

    def __init__(self, compositor: str) -> None:
        """Connect to the compositor's own display, and wait until its seat has a pointer.

        Raises:
            OSError: nobody listens there.
        """
        self._wire = wire = Connection(compositor)
        manager = wire.bind("zwlr_virtual_pointer_manager_v1", 1)
        self._pointer = wire.new()
        wire.send(manager, 0, "uu", 0, self._pointer)
        wire.send(self._pointer, 1, "uuuuu", 0, 1, 1, 2, 2)
        wire.send(self._pointer, 4)
        wire.roundtrip()
        self._moves = tuple(
            encode(self._pointer, 0, "uii", 0, by, 0) + encode(self._pointer, 4, "")
            for by in (ONE, -ONE)
        )

    def close(self) -> None:
        """Leave; the pointer goes, too."""
        self._wire.close()

    def move(self, number: int) -> None:
        """Send a motion of a pixel, to the left if `number` is odd, or else to the right."""
        self._wire.send_raw(self._moves[number % 2])


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

    def _on_pointer(self, opcode: int, data: bytes) -> None:
        if opcode == 0:
            (self.serial,) = struct.unpack_from("=I", data)
        elif opcode == 2:
            self.motions += 1


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
    )
