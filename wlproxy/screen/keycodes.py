"""Keys and buttons: what evdev, and so Wayland, calls them, and which number QEMU has for each.

QEMU's are the scan codes of a PC's keyboard (set 1), with 0x80 for the prefix e0.  Layouts are of
no concern: the guest has its own.  (linux/input-event-codes.h; QEMU's ui/keycodemapdb.)
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

KEY_F: Final = 33
KEY_G: Final = 34
CTRL: Final = frozenset({29, 97})
ALT: Final = frozenset({56, 100})

_LAST_EQUAL: Final = 88
"""F12: up to there, both have the same numbers."""

# fmt: off
_OTHERS: Final[Mapping[int, int]] = MappingProxyType({
    89: 0x73, 92: 0x79, 93: 0x70, 94: 0x7B, 124: 0x7D,           # Japanese
    96: 0x9C, 97: 0x9D, 98: 0xB5, 99: 0x54, 100: 0xB8, 117: 0x59,
    102: 0xC7, 103: 0xC8, 104: 0xC9, 105: 0xCB, 106: 0xCD,       # Home to Right
    107: 0xCF, 108: 0xD0, 109: 0xD1, 110: 0xD2, 111: 0xD3,       # End to Delete
    113: 0xA0, 114: 0xAE, 115: 0xB0,                             # mute, softer, louder
    116: 0xDE, 142: 0xDF, 143: 0xE3,                             # power, sleep, wake
    119: 0xC6, 125: 0xDB, 126: 0xDC, 127: 0xDD,                  # Pause, Super, Menu
    140: 0xA1, 155: 0xEC, 156: 0xE6, 157: 0xEB, 158: 0xEA, 159: 0xE9,
    163: 0x99, 164: 0xA2, 165: 0x90, 166: 0xA4, 172: 0xB2, 173: 0xE7,
})
# fmt: on

BUTTONS: Final[Mapping[int, int]] = MappingProxyType(
    {0x110: 0, 0x111: 2, 0x112: 1, 0x113: 5, 0x114: 6, 0x115: 6, 0x116: 5}
)
"""BTN_LEFT, RIGHT, MIDDLE; SIDE and EXTRA, which some mice call BACK and FORWARD."""

WHEEL_UP, WHEEL_DOWN, WHEEL_LEFT, WHEEL_RIGHT = 3, 4, 7, 8


def qemu_key(evdev: int) -> int | None:
    """Return QEMU's number of a key, if it has one."""
    if 0 < evdev <= _LAST_EQUAL and evdev not in (84, 85):
        return evdev
    return 0x76 if evdev == 85 else _OTHERS.get(evdev)
