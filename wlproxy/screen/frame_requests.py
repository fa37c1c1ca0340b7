"""The requests by which a frame is shown, which are the same each time but for a few numbers.

They go out for every update of the screen, so they are written at once (`struct`) rather than one after the other by
their specification; a test compares both ways.
"""

import struct
from collections.abc import Sequence
from typing import Final

from wlproxy.protocol.wayland.interface import HEADER_SIZE
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.screen.commands import Rectangle

_ATTACH: Final = struct.Struct("=IIIii")
"""Header, buffer, x, y."""
_DAMAGE: Final = struct.Struct("=IIiiii")
"""Header, x, y, width, height."""
_END: Final = struct.Struct("=IIIII")
"""`frame`: header, callback; `commit`: header."""


def _second_word(request: str, body: int) -> int:
    """Return the second word of a request's header: size and opcode."""
    opcode = INTERFACES["wl_surface"].request(request).opcode
    return HEADER_SIZE + body << 16 | opcode


_ATTACH_WORD: Final = _second_word("attach", _ATTACH.size - HEADER_SIZE)
_DAMAGE_WORD: Final = _second_word("damage_buffer", _DAMAGE.size - HEADER_SIZE)
_FRAME_WORD: Final = _second_word("frame", 4)
_COMMIT_WORD: Final = _second_word("commit", 0)


def show_frame(
    surface: int, buffer: int, damage: Sequence[Rectangle], callback: int
) -> bytes:
    """Write what shows a buffer: attach, damage of the buffer, frame and commit.

    Args:
        surface: the `wl_surface`.
        buffer: what it shows.
        damage: the parts that have changed.
        callback: a new object, which is told when it is time for the next.
    """
    parts = [_ATTACH.pack(surface, _ATTACH_WORD, buffer, 0, 0)]
    parts += [
        _DAMAGE.pack(surface, _DAMAGE_WORD, part.x, part.y, part.width, part.height)
        for part in damage
    ]
    parts.append(_END.pack(surface, _FRAME_WORD, callback, surface, _COMMIT_WORD))
    return b"".join(parts)
