"""A keyboard of a test's own in a wlroots compositor, with the key codes that real ones have.

wtype and wlrctl make keymaps of their own, whose codes no keyboard has; but a virtual machine is sent codes, not
characters.
"""

import os
import time
from typing import Final

from tests.clients.wire import Connection

KEYMAP: Final = b"""xkb_keymap {
xkb_keycodes { include "evdev+aliases(qwerty)" };
xkb_types { include "complete" };
xkb_compat { include "complete" };
xkb_symbols { include "pc+us+inet(evdev)" };
};\0"""
SHIFT: Final = 42
_ROWS: Final = {
    2: "1234567890-=",
    16: "qwertyuiop[]",
    30: "asdfghjkl;'",
    44: "zxcvbnm,./",
}
CODES: Final = {
    character: first + place
    for first, row in _ROWS.items()
    for place, character in enumerate(row)
} | {"\n": 28, " ": 57}
"""Characters to evdev codes (input-event-codes.h), on a US keyboard."""
SHIFTED: Final = {">": ".", "_": "-", "|": "\\", "?": "/", ":": ";", "!": "1"}


class Keyboard:
    """The keyboard, for as long as it is open."""

    def __init__(self, display: str) -> None:
        """Plug it into the seat of a compositor, whose socket is in $XDG_RUNTIME_DIR or a path."""
        self._connection = connection = Connection(display)
        seat = connection.bind("wl_seat", 1)
        keyboards = connection.bind("zwp_virtual_keyboard_manager_v1", 1)
        self._keyboard = connection.new()
        connection.send(keyboards, 0, "uu", seat, self._keyboard)
        fd = os.memfd_create("keymap", os.MFD_CLOEXEC)
        try:
            os.write(fd, KEYMAP)
            connection.send(self._keyboard, 0, "uu", 1, len(KEYMAP), fds=[fd])
            connection.roundtrip()
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unplug it."""
        self._connection.close()

    def type(self, text: str, pause: float = 0.0) -> None:
        """Type a text, with so many seconds after each key: PS/2 takes only a few at once."""
        for character in text:
            shifted = character in SHIFTED or character.isupper()
            key = CODES[SHIFTED.get(character, character.lower())]
            for code, down in (
                *([(SHIFT, 1)] if shifted else ()),
                (key, 1),
                (key, 0),
                *([(SHIFT, 0)] if shifted else ()),
            ):
                self._key(code, down)
            time.sleep(pause)

    def press(self, *codes: int) -> None:
        """Press keys one after the other, and let go of them in that order."""
        for down in (1, 0):
            for code in codes:
                self._key(code, down)

    def _key(self, code: int, down: int) -> None:
        now = time.monotonic_ns() // 1_000_000 & 0xFFFFFFFF
        self._connection.send(self._keyboard, 1, "uuu", now, code, down)
        self._connection.roundtrip()
