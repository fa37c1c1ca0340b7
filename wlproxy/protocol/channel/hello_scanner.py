"""Finds `Hello` or `HelloAck` in a stream that may begin in the middle of anything.

Whoever opens a virtio-serial port may first read what was left over from an earlier
session, and nothing tells either end that a port was opened.  So a session cannot begin at
a known position.  Instead the reader looks for its first frame byte by byte.

Who greets whom, and what a restart means, is `session`'s; when the host says hello again, its
`link`'s.
"""

from typing import Final

from wlproxy.protocol.channel.codec import HEADER, FrameDecoder
from wlproxy.protocol.channel.frames import (
    HEADER_SIZE,
    MAGIC,
    VERSION_MAJOR,
    Feature,
    FrameType,
    Hello,
    HelloAck,
)
from wlproxy.protocol.channel.layouts import HANDSHAKE_PREFIX, MARK
from wlproxy.protocol.errors import ChannelError

MAX_HANDSHAKE: Final = 2048
"""Longest payload of `Hello` and `HelloAck` in any version: what a scanner waits for."""


class Scanner:
    """Looks for handshake frames and skips everything else.

    It holds back at most one handshake frame, and in `next_frame` never fails.
    """

    __slots__ = ("_buffer", "_mark", "_number")

    def __init__(self, number: FrameType, nonce: bytes = b"") -> None:
        """Look for frames of type `number`; with `nonce` only for those that echo it."""
        self._number = number
        self._mark = MAGIC + nonce
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append what was received.  Draining `next_frame` bounds what is kept."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """How many bytes are kept."""
        return len(self._buffer)

    def next_frame(self) -> Hello | HelloAck | None:
        """Find the next handshake frame, or None while there is none.

        A frame of another major version is read only as far as its nonce and version.
        """
        while (at := self._buffer.find(self._mark)) >= 0:
            start = at - HEADER_SIZE
            length = self._length_at(start)
            if length is None:
                del self._buffer[: at + 1]
                continue
            end = at + length
            if len(self._buffer) < end:
                del self._buffer[:start]
                return None
            frame = _read(bytes(self._buffer[start:end]))
            if frame is not None:
                del self._buffer[:end]
                return frame
            del self._buffer[: at + 1]
        # The end of what is here may be the start of a frame.
        del self._buffer[: -(HEADER_SIZE + len(self._mark) - 1)]
        return None

    def take_rest(self) -> bytes:
        """Hand over what came after the last frame; the scanner is as new."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _length_at(self, start: int) -> int | None:
        """Read the payload length if a handshake frame's header is at `start`."""
        if start < 0:
            return None
        length, number, flags, client_id = HEADER.unpack_from(self._buffer, start)
        if number != self._number or flags or client_id:
            return None
        return length if HANDSHAKE_PREFIX.size <= length <= MAX_HANDSHAKE else None


def _read(data: bytes) -> Hello | HelloAck | None:
    """Decode a handshake frame; None if it is not whole."""
    _, nonce, major, minor, mark = HANDSHAKE_PREFIX.unpack_from(data, HEADER_SIZE)
    if mark != MARK:
        return None
    if major != VERSION_MAJOR:
        if data[4] == FrameType.HELLO:
            return Hello(nonce, (major, minor), Feature.NONE, 0, 0, 0)
        return HelloAck(nonce, (major, minor), Feature.NONE, 0, 0, 0, 0, "")
    decoder = FrameDecoder()
    decoder.feed(data)
    try:
        frame = decoder.next_frame()
    except ChannelError:
        return None
    # The header says so; it is for the type checker.
    return frame if isinstance(frame, Hello | HelloAck) else None
