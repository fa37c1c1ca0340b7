"""The one Wayland message that the agent knows: `wl_display.error`.

Everything else about Wayland is the host's.  But an app that the agent itself turns away
(the host is not there, a quota is used up) should be able to print why, instead of
"connection reset"; and the host cannot tell it any more, or not yet.
"""

import struct
from typing import Final

_DISPLAY: Final = 1
"""`wl_display` is object 1 of every connection."""
_ERROR_OPCODE: Final = 0
_NO_MEMORY: Final = 2
_IMPLEMENTATION: Final = 3
_MAX_MESSAGE: Final = 512
_HEADER: Final = struct.Struct("=IIIII")
"""Object, size and opcode, then the arguments: object, code, length of the string."""


def limit_event(message: str) -> bytes:
    """Encode `wl_display.error(wl_display, no_memory, message)`."""
    return _error(_NO_MEMORY, message)


def unavailable_event(message: str) -> bytes:
    """Encode `wl_display.error(wl_display, implementation, message)`."""
    return _error(_IMPLEMENTATION, message)


def _error(code: int, message: str) -> bytes:
    text = message.encode()[:_MAX_MESSAGE] + b"\0"
    padded = text.ljust(-(-len(text) // 4) * 4, b"\0")
    size = _HEADER.size + len(padded)
    fields = (_DISPLAY, size << 16 | _ERROR_OPCODE, _DISPLAY, code, len(text))
    return _HEADER.pack(*fields) + padded
