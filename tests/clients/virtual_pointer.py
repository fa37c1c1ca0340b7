"""A pointer that a test moves: zwlr_virtual_pointer_v1, on the compositor that has it."""

from pathlib import Path
from typing import Final

from tests.clients.wire import Connection

MOTION: Final = 0
MOTION_ABSOLUTE: Final = 1
BUTTON: Final = 2
FRAME: Final = 4
FIXED: Final = 256
"""1 as a fixed-point number."""
LEFT_BUTTON: Final = 0x110
"""As in linux/input-event-codes.h."""


class VirtualPointer:
    """A pointer of a compositor's, moved by a test."""

    def __init__(self, display: Path, size: tuple[int, int]) -> None:
        """Make one.

        Args:
            display: the compositor's socket.
            size: of its screen, in pixels.
        """
        self._connection = Connection(str(display))
        self._size = size
        manager = self._connection.bind("zwlr_virtual_pointer_manager_v1", 1)
        self._pointer = self._connection.new()
        self._connection.send(manager, 0, "uu", 0, self._pointer)

    def go(self, x: int, y: int) -> None:
        """Move it to a place on the screen."""
        self._send(MOTION_ABSOLUTE, "uuuuu", 0, x, y, *self._size)

    def move(self, x: int, y: int) -> None:
        """Move it by so many pixels, as a mouse does."""
        self._send(MOTION, "uii", 0, x * FIXED, y * FIXED)

    def press(self, *, down: bool, button: int = LEFT_BUTTON) -> None:
        """Press or let go of a button."""
        self._send(BUTTON, "uuu", 0, button, int(down))

    def _send(self, opcode: int, signature: str, *arguments: int) -> None:
        self._connection.send(self._pointer, opcode, signature, *arguments)
        self._connection.send(self._pointer, FRAME, "")
        self._connection.roundtrip()

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()
