"""Bytes <-> Wayland messages, and the translation of ids within the bytes.

Numbers are in the machine's own byte order, as the protocol has it: guest and host are
the same machine. What a peer got wrong is a `WaylandError` about `wl_display`, as with
libwayland; the stream is of no use after that. What we got wrong ourselves is a
`LocalProtocolError`. fds never pass through here: `MessageSpec.fd_count` says how many
of those that came along belong to a message.
"""

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from wlproxy.protocol.errors import LocalProtocolError, WaylandError
from wlproxy.protocol.wayland.interface import (
    HEADER_SIZE,
    WORD_SIZE,
    ArgKind,
    ArgSpec,
    Interface,
    MessageSpec,
)
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    ArgValue,
    DisplayError,
    FdT,
    Message,
    NewId,
    RawMessage,
)

MAX_MESSAGE_SIZE: Final = 0xFFFC
"""Bytes, header included: the most that the header's 16-bit size can say.

libwayland takes 4096 unless a compositor raises its limit, which those that do raise for
real reasons (large text, icons). A proxy cannot know which it is: what is too large for
the receiver it refuses itself, as it would without us.
"""

_HEADER: Final = struct.Struct("=II")
_UINT: Final = struct.Struct("=I")
_INT: Final = struct.Struct("=i")

Translate = Callable[[int, ArgSpec], int]
"""Given an id and the argument that holds it, return the id to put there."""


class MessageSplitter:
    """Cuts a stream into messages: `feed` it bytes, then drain `next_message`.

    Holds what it was fed and nothing more: the caller's credit bounds that.
    """

    __slots__ = ("_buffer", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0  # of the next message; earlier bytes are spent

    @property
    def pending(self) -> int:
        """How many bytes are waiting, perhaps for the rest of their message."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add received bytes. Never raises, never parses."""
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += data

    def next_message(self) -> RawMessage | None:
        """Take the next whole message, or `None` if that needs more bytes.

        Raises:
            WaylandError: the size is too small or unaligned. Raised again on every
                further call: there is no finding the next message.
        """
        start = self._start
        buffer = self._buffer
        available = len(buffer) - start
        if available < HEADER_SIZE:
            return None
        object_id, word = _HEADER.unpack_from(buffer, start)
        size = word >> 16
        # Malformed comes before incomplete: a bad size must not look like "not yet".
        if size < HEADER_SIZE or size % WORD_SIZE:
            _refuse(f"object {object_id}: message size {size}")
        if available < size:
            return None
        self._start = end = start + size
        return RawMessage(object_id, word & 0xFFFF, buffer[start:end])


def request_spec(interface: Interface, version: int, raw: RawMessage) -> MessageSpec:
    """Find what request `raw` is, sent to an object of that interface and version.

    Raises:
        WaylandError: there is no such request in that version.
    """
    return _find(interface, interface.requests, version, raw)


def event_spec(interface: Interface, version: int, raw: RawMessage) -> MessageSpec:
    """Find what event `raw` is, sent by an object of that interface and version.

    Raises:
        WaylandError: there is no such event in that version.
    """
    return _find(interface, interface.events, version, raw)


def decode_message(spec: MessageSpec, raw: RawMessage, fds: deque[FdT]) -> Message[FdT]:
    """Decode a message, and take its fds off the front of `fds`.

    The fds of a message are sent with its first byte or before, so that they are there
    when the message is whole; a caller for whom that may not hold compares
    `spec.fd_count` beforehand. `fds` is untouched if this raises.

    Raises:
        WaylandError: the bytes are not what `spec` says, or fds are missing.
    """
    raise NotImplementedError


def encode_message(
    object_id: int, spec: MessageSpec, args: Sequence[ArgValue]
) -> bytes:
    """Encode a message: the inverse of `decode_message`, with `None` for each FD.

    Raises:
        LocalProtocolError: `args` are not what `spec` says, or too long together.
    """
    raise NotImplementedError


def locate_ids(spec: MessageSpec, raw: RawMessage) -> Sequence[tuple[int, ArgSpec]]:
    """Find each OBJECT and NEW_ID: its offset in `raw.data`, and its argument.

    Checks the whole message, as `decode_message` does, but for null ids.

    Raises:
        WaylandError: the bytes are not what `spec` says, or the message has an untyped
            new_id, whose interface only decoding can tell.
    """
    raise NotImplementedError


def rewrite_ids(
    spec: MessageSpec,
    raw: RawMessage,
    sender_id: int,
    translate_object: Translate,
    translate_new_id: Translate,
) -> None:
    """Translate a message in place: the sender becomes `sender_id`, then ids in order.

    Null objects stay null and are not shown to `translate_object`. The whole message is
    checked before any translator is called. Exceptions of the translators come through.

    Raises:
        WaylandError: as `locate_ids` does, or an id is null that may not be.
    """
    raise NotImplementedError


def _find(
    interface: Interface, specs: tuple[MessageSpec, ...], version: int, raw: RawMessage
) -> MessageSpec:
    if raw.opcode < len(specs):
        spec = specs[raw.opcode]
        if spec.since <= version:
            return spec
    _refuse(f"{interface.name}@{raw.object_id} v{version} has no opcode {raw.opcode}")


def _refuse(message: str) -> NoReturn:
    raise WaylandError(DISPLAY_ID, DisplayError.INVALID_METHOD, message)
