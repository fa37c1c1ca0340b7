"""A pointer in a compositor's seat, what moves it, and an app that is told of it.

By zwlr_virtual_pointer_v1, which sway and other wlroots compositors have.
"""

import struct
import time
from typing import Final

from bench.client import PATIENCE, App, Canvas
from bench.processes import BenchError
from tests.clients.wire import Connection, WaylandError, encode
from wlproxy.transport.closable import Closing

MANAGER: Final = "zwlr_virtual_pointer_manager_v1"
CREATE_VIRTUAL_POINTER: Final = 0
MOTION: Final = 0
MOTION_ABSOLUTE: Final = 1
AXIS: Final = 3
FRAME: Final = 4

STEP_SECONDS: Final = 0.008
"""Between two motions: those of a usual mouse."""
STEPS: Final = 250
"""From one side of the output to the other."""
NULL: Final = 0
WINDOW: Final = (1024, 768)
"""As large as sway's output, so that the pointer is in it and in no other."""
ONE: Final = 1 << 8
"""A pixel, as a wl_fixed."""
NOTCH: Final = 15 * ONE
"""What a wheel's notch scrolls by, as libinput has it."""
VERTICAL: Final = 0


class VirtualPointer(Closing):
    """A pointer that is where it is put.

    Attributes:
        wire: its connection, which nothing else has.
        pointer: its zwlr_virtual_pointer_v1.
    """

    def __init__(self, display: str) -> None:
        """Create it; it is in the middle.

        Args:
            display: where the compositor listens.

        Raises:
            BenchError: the compositor lets nobody have one.
        """
        self.wire = wire = Connection(display)
        try:
            manager = wire.bind(MANAGER, 1)
            self.pointer = wire.new()
            wire.send(manager, CREATE_VIRTUAL_POINTER, "uu", NULL, self.pointer)
            wire.roundtrip()
        except (KeyError, WaylandError) as error:
            wire.close()
            raise BenchError(f"the compositor has no {MANAGER}") from error

    def put(self, milliseconds: int, x: int, y: int, extent: int) -> None:
        """Put it somewhere at a time; the output is `extent` wide and high."""
        motion = (milliseconds, x, y, extent, extent)
        self.wire.send(self.pointer, MOTION_ABSOLUTE, "uuuuu", *motion)
        self.wire.send(self.pointer, FRAME, "")

    def close(self) -> None:
        """Have it vanish."""
        self.wire.close()


class MovingPointer(VirtualPointer):
    """It goes from one corner to the other and back, whenever it is asked to."""

    def __init__(self, display: str) -> None:
        """As `VirtualPointer`."""
        super().__init__(display)
        self._step = 0
        self._last = time.monotonic()

    def move(self) -> None:
        """Move on, if it is time."""
        now = time.monotonic()
        if now < self._last + STEP_SECONDS:
            return
        self._last = now
        self._step += 1
        # A triangle wave: there and back.
        place = STEPS - abs(STEPS - self._step % (2 * STEPS))
        self.put(int(now * 1000) & 0xFFFFFFFF, place, place, STEPS)


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

    def turn(self, direction: int) -> None:
        """Turn the wheel by a notch: 1 is down, -1 is up."""
        notch = direction * NOTCH
        self.wire.send(self.pointer, AXIS, "uui", 0, VERTICAL, notch)
        self.wire.send(self.pointer, FRAME, "")

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

    def _on_pointer(self, opcode: int, data: bytes) -> None:
        if opcode == 0:
            (self.serial,) = struct.unpack_from("=I", data)
        elif opcode == 2:
            self.motions += 1
