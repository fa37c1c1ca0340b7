"""A pointer that moves over what a compositor shows, as a hand would move it.

By zwlr_virtual_pointer_v1, which sway and other wlroots compositors have.
"""

import time
from typing import Final

from bench.processes import BenchError
from tests.clients.wire import Connection, WaylandError
from wlproxy.transport.closable import Closing

MANAGER: Final = "zwlr_virtual_pointer_manager_v1"
CREATE_VIRTUAL_POINTER: Final = 0
MOTION_ABSOLUTE: Final = 1
FRAME: Final = 4

STEP_SECONDS: Final = 0.008
"""Between two motions: those of a usual mouse."""
STEPS: Final = 250
"""From one side of the output to the other."""
NULL: Final = 0


class MovingPointer(Closing):
    """It goes from one corner to the other and back, whenever it is asked to."""

    def __init__(self, display: str) -> None:
        """Create it; it is in the middle.

        Args:
            display: where the compositor listens.

        Raises:
            BenchError: the compositor lets nobody have one.
        """
        self._wire = Connection(display)
        try:
            manager = self._wire.bind(MANAGER, 1)
            self._pointer = self._wire.new()
            created = (NULL, self._pointer)
            self._wire.send(manager, CREATE_VIRTUAL_POINTER, "uu", *created)
            self._wire.roundtrip()
        except (KeyError, WaylandError) as error:
            self._wire.close()
            raise BenchError(f"the compositor has no {MANAGER}") from error
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
        motion = (int(now * 1000) & 0xFFFFFFFF, place, place, STEPS, STEPS)
        self._wire.send(self._pointer, MOTION_ABSOLUTE, "uuuuu", *motion)
        self._wire.send(self._pointer, FRAME, "")

    def close(self) -> None:
        """Have it vanish."""
        self._wire.close()
