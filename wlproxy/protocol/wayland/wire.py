"""Turns bytes into Wayland messages and back, and translates ids within the bytes.

Numbers are in the machine's own byte order, as the protocol has it: guest and host are
the same machine. A peer's mistake is a `WaylandError` about `wl_display`, as in libwayland,
and the stream is of no use after it. Our own mistake is a `LocalProtocolError`. No fd
passes through here: `MessageSpec.fd_count` says how many of the fds that came along
belong to a message.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

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
_NUMBERS: Final = {ArgKind.INT: _INT, ArgKind.UINT: _UINT, ArgKind.FIXED: _INT}

Translate = Callable[[int, ArgSpec], int]
"""Given an id and the argument that holds it, return the id to put there."""


@dataclass(slots=True)
class MessageSplitter:
    """Cuts a stream into messages: `feed` it bytes, then drain `messages`.

    Holds what it was fed and nothing more: the caller's credit bounds that.

    Attributes:
        buffer: the bytes; those of a message may be changed once it is taken, and stay
            where they are until the next `feed`.
        start: of the next message.
    """

    buffer: bytearray = field(default_factory=bytearray)
    start: int = 0

    @property
    def pending(self) -> int:
        """How many bytes are waiting, perhaps for the rest of their message."""
        return len(self.buffer) - self.start

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add received bytes. Never raises, never parses."""
        del self.buffer[: self.start]
        self.start = 0
        self.buffer += data

    def messages(self, limit: int) -> Iterator[tuple[int, int, int]]:
        """Take up to `limit` whole messages, one after the other, where they lie.

        Each begins where the one before it ends.  All that was taken is spent: `start`
        is the end of the last one.

        Yields:
            A message's sender, its opcode, and where in `buffer` it ends.

        Raises:
            WaylandError: the size is too small or unaligned. Raised again on every
                further call: there is no finding the next message.
        """
        buffer, start = self.buffer, self.start
        available = len(buffer)
        for _ in range(limit):
            if available < start + HEADER_SIZE:
                return
            object_id, word = _HEADER.unpack_from(buffer, start)
            size = word >> 16
            # Malformed comes before incomplete: a bad size must not look like "not yet".
            if size < HEADER_SIZE or size % WORD_SIZE:
                raise _malformed(f"object {object_id}: message size {size}")
            start += size
            if available < start:
                return
            self.start = start
            yield object_id, word & 0xFFFF, start

    def next_message(self) -> RawMessage | None:
        """Take a copy of the next whole message, or `None` if that needs more bytes.

        Raises:
            WaylandError: as `messages` does.
        """
        start = self.start
        for object_id, opcode, end in self.messages(1):
            return RawMessage(object_id, opcode, self.buffer[start:end])
        return None


def readdress(data: bytearray, start: int, sender_id: int) -> None:
    """Change the sender of the message that begins at `start`, in place."""
    _UINT.pack_into(data, start, sender_id)


def request_spec(
    interface: Interface, version: int, object_id: int, opcode: int
) -> MessageSpec:
    """Find which request `opcode` is, sent to an object of that interface and version.

    Raises:
        WaylandError: there is no such request in that version.
    """
    return _find(interface, interface.requests, version, object_id, opcode)


def event_spec(
    interface: Interface, version: int, object_id: int, opcode: int
) -> MessageSpec:
    """Find which event `opcode` is, sent by an object of that interface and version.

    Raises:
        WaylandError: there is no such event in that version.
    """
    return _find(interface, interface.events, version, object_id, opcode)


def decode_message(spec: MessageSpec, raw: RawMessage, fds: list[FdT]) -> Message[FdT]:
    """Decode a message, and take its fds off the front of `fds`.

    The fds of a message are sent with its first byte or before, so that they are there
    when the message is whole; a caller for whom that may not hold compares
    `spec.fd_count` beforehand. `fds` is untouched if this raises.

    Raises:
        WaylandError: the bytes are not what `spec` says, or fds are missing.
    """
    args = read_arguments(spec, raw.data)
    return Message(raw.object_id, raw.opcode, args, take_fds(spec, fds))


def read_arguments(spec: MessageSpec, data: bytearray) -> tuple[ArgValue, ...]:
    """Read all arguments of a whole message.

    Raises:
        WaylandError: the bytes are not what `spec` says.
    """
    offsets = spec.offsets if len(data) == spec.size else _argument_offsets(spec, data)
    if spec.words is None:
        return tuple(
            _read_argument(spec, arg, data, offset)
            for arg, offset in zip(spec.args, offsets, strict=True)
        )
    args = spec.words.unpack_from(data, HEADER_SIZE)
    for place in spec.required_ids:
        if not args[place]:
            raise _null_id(spec, offsets[place])
    return args


def take_fds(spec: MessageSpec, fds: list[FdT]) -> tuple[FdT, ...]:
    """Take the fds of a message off the front of `fds`.

    Raises:
        WaylandError: fds are missing; none is taken.
    """
    if len(fds) < spec.fd_count:
        raise _malformed(f"{spec}: {spec.fd_count} fds needed, {len(fds)} received")
    taken = tuple(fds[: spec.fd_count])
    del fds[: spec.fd_count]
    return taken


def encode_message(
    object_id: int, spec: MessageSpec, args: Sequence[ArgValue]
) -> bytes:
    """Encode a message: the inverse of `decode_message`, with `None` for each FD.

    Raises:
        LocalProtocolError: `args` are not what `spec` says, or too long together.
    """
    if len(args) != len(spec.args):
        raise LocalProtocolError(f"{spec} takes {len(spec.args)} arguments: {args}")
    try:
        body = _write_arguments(spec, args)
        size = HEADER_SIZE + len(body)
        if size > MAX_MESSAGE_SIZE:
            raise LocalProtocolError(f"{spec}: a message of {size} bytes")
        return _HEADER.pack(object_id, size << 16 | spec.opcode) + body
    except (struct.error, _UnfitArgumentError) as exc:
        raise LocalProtocolError(f"{spec} cannot carry {args}: {exc}") from exc


def locate_ids(
    spec: MessageSpec, raw: RawMessage
) -> Sequence[tuple[int, int, ArgSpec]]:
    """Find each OBJECT and NEW_ID: its offset in `raw.data`, value and argument.

    Checks the whole message, exactly as `decode_message` does.

    Raises:
        WaylandError: the bytes are not what `spec` says, or the message has an untyped
            new_id, whose interface only decoding can tell.
    """
    data = raw.data
    offsets = spec.offsets if len(data) == spec.size else _argument_offsets(spec, data)
    places = spec.id_offsets
    if places is None:
        if spec.has_untyped_new_id:
            raise _malformed(f"{spec} cannot be passed on undecoded")
        pairs = zip(offsets, spec.args, strict=True)
        places = tuple((offset, arg) for offset, arg in pairs if arg.is_id)
    return [(offset, _read_id(spec, arg, data, offset), arg) for offset, arg in places]


def rewrite_ids(
    spec: MessageSpec,
    raw: RawMessage,
    sender_id: int,
    translate_object: Translate,
    translate_new_id: Translate,
) -> None:
    """Translate a message in place: the sender becomes `sender_id`, then ids in order.

    Null objects stay null and are not shown to `translate_object`. The whole message is
    checked before a translator is called. Exceptions of the translators come through,
    with the message half translated.

    Raises:
        WaylandError: as `locate_ids` does.
    """
    data = raw.data
    if not spec.has_ids:
        if len(data) != spec.size:
            _argument_offsets(spec, data)
        _UINT.pack_into(data, 0, sender_id)
        return
    places = locate_ids(spec, raw)
    _UINT.pack_into(data, 0, sender_id)
    for offset, value, arg in places:
        if arg.is_new_id:
            _UINT.pack_into(data, offset, translate_new_id(value, arg))
        elif value:
            _UINT.pack_into(data, offset, translate_object(value, arg))


def _find(
    interface: Interface,
    specs: tuple[MessageSpec, ...],
    version: int,
    object_id: int,
    opcode: int,
) -> MessageSpec:
    if opcode < len(specs):
        spec = specs[opcode]
        if spec.since <= version:
            return spec
    raise _malformed(
        f"{interface.name}@{object_id} version {version} has no opcode {opcode}"
    )


def _malformed(message: str) -> WaylandError:
    """Make the error that libwayland also uses for whatever it cannot demarshal."""
    return WaylandError(DISPLAY_ID, DisplayError.INVALID_METHOD, message)


# ---------------------------------------------------------------- reading


def _argument_offsets(spec: MessageSpec, data: bytearray) -> Sequence[int]:
    """Find where the arguments start; check that they end where the message does.

    libwayland ignores what follows the last argument. Nobody sends it: it would come
    from a peer that means another message than our table does, or hides something.
    """
    if spec.size is not None:
        if len(data) != spec.size:
            raise _malformed(f"{spec}: {len(data)} bytes instead of {spec.size}")
        return spec.offsets
    offsets = []
    offset = HEADER_SIZE
    for arg in spec.args:
        offsets.append(offset)
        size = arg.wire_size
        if size is not None:
            offset += size
        elif arg.kind is ArgKind.ARRAY:
            offset += _padded(_read_length(spec, data, offset))
        else:
            offset = _string_end(spec, data, offset, nullable=arg.nullable)
            if arg.is_untyped_new_id:
                offset += 2 * WORD_SIZE
    if offset != len(data):
        raise _malformed(f"{spec}: {len(data)} bytes instead of {offset}")
    return offsets


def _read_length(spec: MessageSpec, data: bytearray, offset: int) -> int:
    """Read the length before a STRING or ARRAY, and check that all of it is there."""
    start = offset + WORD_SIZE
    if start <= len(data):
        length: int = _UINT.unpack_from(data, offset)[0]
        if start + length <= len(data):
            return length
    raise _malformed(f"{spec}: argument at {offset} exceeds {len(data)} bytes")


def _string_end(
    spec: MessageSpec, data: bytearray, offset: int, *, nullable: bool
) -> int:
    length = _read_length(spec, data, offset)
    start = offset + WORD_SIZE
    if length == 0:
        if not nullable:
            raise _malformed(f"{spec}: the string at {offset} may not be null")
    # A NUL within is the end of the string to an old libwayland, which would so see
    # another string than we. The padding is not looked at: some leave garbage there.
    elif data.find(0, start, start + length) != start + length - 1:
        raise _malformed(
            f"{spec}: the string at {offset} must have one NUL, at its end"
        )
    return offset + _padded(length)


def _padded(length: int) -> int:
    """Tell how many bytes a STRING or ARRAY of that length takes up."""
    return WORD_SIZE + (length + WORD_SIZE - 1) // WORD_SIZE * WORD_SIZE


def _read_id(spec: MessageSpec, arg: ArgSpec, data: bytearray, offset: int) -> int:
    value: int = _UINT.unpack_from(data, offset)[0]
    if value == 0 and not arg.nullable:
        raise _null_id(spec, offset)
    return value


def _null_id(spec: MessageSpec, offset: int) -> WaylandError:
    return _malformed(f"{spec}: the object at {offset} may not be null")


def _read_argument(
    spec: MessageSpec, arg: ArgSpec, data: bytearray, offset: int
) -> ArgValue:
    """Read one argument of a message that `_argument_offsets` has checked."""
    if arg.wire_size == WORD_SIZE:
        if arg.is_id:
            return _read_id(spec, arg, data, offset)
        number: int = _NUMBERS[arg.kind].unpack_from(data, offset)[0]
        return number
    if arg.kind is ArgKind.FD:
        return None
    read = _read_bytes(data, offset)
    if arg.kind is ArgKind.ARRAY:
        return read
    if arg.kind is ArgKind.STRING:
        return read[:-1] if read else None
    offset += _padded(len(read))
    version: int = _UINT.unpack_from(data, offset)[0]
    new_id = _read_id(spec, arg, data, offset + WORD_SIZE)
    return NewId(read[:-1], version, new_id)


def _read_bytes(data: bytearray, offset: int) -> bytes:
    """Read a STRING with its NUL, or an ARRAY."""
    start = offset + WORD_SIZE
    length: int = _UINT.unpack_from(data, offset)[0]
    return bytes(data[start : start + length])


# ---------------------------------------------------------------- writing


class _UnfitArgumentError(ValueError):
    """A value is not one of its argument's kind; `encode_message` says whose."""


def _write_arguments(spec: MessageSpec, args: Sequence[ArgValue]) -> bytes | bytearray:
    if spec.words is None:
        data = bytearray()
        for arg, value in zip(spec.args, args, strict=True):
            _append_argument(data, arg, value)
        return data
    for place in spec.required_ids:
        if not args[place]:
            raise _UnfitArgumentError(f"null for {spec.args[place]}")
    return spec.words.pack(*args)


def _append_argument(data: bytearray, arg: ArgSpec, value: ArgValue) -> None:
    match arg.kind, value:
        case ((ArgKind.INT | ArgKind.FIXED), int()):
            data += _INT.pack(value)
        case ArgKind.UINT, int():
            data += _UINT.pack(value)
        case ((ArgKind.OBJECT | ArgKind.NEW_ID), int()) if not arg.is_untyped_new_id:
            _append_id(data, arg, value)
        case ArgKind.NEW_ID, NewId() if arg.is_untyped_new_id:
            _append_string(data, value.interface)
            data += _UINT.pack(value.version)
            _append_id(data, arg, value.object_id)
        case ArgKind.STRING, bytes():
            _append_string(data, value)
        case ArgKind.STRING, None if arg.nullable:
            data += _UINT.pack(0)
        case ArgKind.ARRAY, bytes():
            _append_bytes(data, value)
        case ArgKind.FD, None:
            pass
        case _:
            raise _UnfitArgumentError(f"{value!r} for {arg}")


def _append_id(data: bytearray, arg: ArgSpec, value: int) -> None:
    if value == 0 and not arg.nullable:
        raise _UnfitArgumentError(f"null for {arg}")
    data += _UINT.pack(value)


def _append_string(data: bytearray, value: bytes) -> None:
    if 0 in value:
        raise _UnfitArgumentError(f"a NUL in {value!r}")
    _append_bytes(data, value + b"\0")


def _append_bytes(data: bytearray, value: bytes) -> None:
    data += _UINT.pack(len(value))
    data += value
    data += bytes(-len(value) % WORD_SIZE)
