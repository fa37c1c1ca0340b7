"""A pointer in a compositor's seat, and one that moves as a hand would move it.

By zwlr_virtual_pointer_v1, which sway and other wlroots compositors have.
"""

import time
from typing import Final

from bench.processes import BenchError
from tests.clients.wire import Connection, WaylandError
from wlproxy.transport.closable import Closing

MANAGER: Final = "zwlr_virtual_pointer_manager_v1"
CREATE_VIRTUAL_POINTER: Final = 0
MOTION: Final = 0
MOTION_ABSOLUTE: Final = 1
FRAME: Final = 4

STEP_SECONDS: Final = 0.008
"""Between two motions: those of a usual mouse."""
STEPS: Final = 250
"""From one side of the output to the other."""
NULL: Final = 0


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
