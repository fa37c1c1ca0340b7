"""The one Wayland message that the agent knows: `wl_display.error`.

Everything else about Wayland is the host's business.  But an app that the agent itself
turns away, or that loses the host, should be able to print why instead of "connection
reset", and at that moment the host cannot tell it.  An app would not understand the message
in the middle of another event, so this module also follows the lengths of events.
"""

import struct
from typing import Final

from wlproxy.protocol.channel.frames import CloseReason

_DISPLAY: Final = 1
"""`wl_display` is object 1 of every connection."""
_ERROR_OPCODE: Final = 0
_NO_MEMORY: Final = 2
_IMPLEMENTATION: Final = 3
_MAX_MESSAGE: Final = 512
_EVENT: Final = struct.Struct("=II")
"""Object, size and opcode: how each event begins."""
_HEADER: Final = struct.Struct("=IIIII")
"""Object, size and opcode, then the arguments: object, code, length of the string."""

WORDS: Final = {
    CloseReason.NORMAL: "the host ended the connection",
    CloseReason.PROTOCOL_ERROR: "the host does not understand this app",
    CloseReason.LIMIT_EXCEEDED: "the host has no more room for this app",
    CloseReason.COMPOSITOR_GONE: "the host's compositor has gone",
    CloseReason.REFUSED: "the host refuses this app",
    CloseReason.FAILED: "the host failed",
}
"""What an app is told whose end the host did not explain."""


class SentEvents:
    """Follows the events that an app was sent: whether they end in the middle of one.

    Attributes:
        told: whether `wl_display.error` was among them.
    """

    __slots__ = ("_begun", "_rest", "told")

    def __init__(self) -> None:
        self.told = False
        self._begun = b""
        self._rest = 0

    @property
    def whole(self) -> bool:
        """Whether the last event was sent to its end."""
        return not self._begun and not self._rest

    def add(self, data: bytes | memoryview) -> None:
        """Take note of more bytes."""
        at = self._rest
        if self._begun:
            # What began before is completed first, as far as it comes.
            data, at = self._begun + data, 0
        end = len(data)
        while at + _EVENT.size <= end:
            sender, size_opcode = _EVENT.unpack_from(data, at)
            if sender == _DISPLAY and size_opcode & 0xFFFF == _ERROR_OPCODE:
                self.told = True
            if size_opcode >> 16 < _EVENT.size:  # not Wayland: never whole again
                self._begun = bytes(_EVENT.size)
                return
            at += size_opcode >> 16
        self._begun = bytes(data[at:])
        self._rest = max(at - end, 0)


def limit_event(message: str) -> bytes:
    """Encode `wl_display.error(wl_display, no_memory, message)`."""
    return _error(_NO_MEMORY, message)


def unavailable_event(message: str) -> bytes:
    """Encode `wl_display.error(wl_display, implementation, message)`."""
    return _error(_IMPLEMENTATION, message)


def _error(code: int, message: str) -> bytes:
    whole = message.encode()[:_MAX_MESSAGE].decode(errors="ignore")
    text = whole.encode() + b"\0"
    padded = text.ljust(-(-len(text) // 4) * 4, b"\0")
    size = _HEADER.size + len(padded)
    fields = (_DISPLAY, size << 16 | _ERROR_OPCODE, _DISPLAY, code, len(text))
    return _HEADER.pack(*fields) + padded
