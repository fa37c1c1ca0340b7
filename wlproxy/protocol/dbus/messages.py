"""Turns bytes and fds into D-Bus messages and back (its specification, "Message Protocol").

A peer's mistake is a `DBusError`, and the stream is of no use after it.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from typing import Final, Generic

from wlproxy.protocol.dbus.signatures import MAX_SIGNATURE
from wlproxy.protocol.dbus.values import MAX_ARRAY, FdT, Reader, Value, Variant, Writer
from wlproxy.protocol.errors import DBusError, LocalProtocolError

MAX_FIELDS: Final = 4096
"""Bytes of the header's fields: eight short names."""
MAX_BODY: Final = MAX_ARRAY + 256
"""Bytes of a body: one array, and what goes with it."""
MAX_FDS: Final = 16
"""Fds of a message; QEMU's have one, or one for each of four planes."""
MAX_WAITING_FDS: Final = 64
"""Fds that came and belong to no whole message yet."""
MAX_KNOWN_FIELDS: Final = 64
"""Headers that are remembered: a peer that calls has few kinds of them."""

VERSION: Final = 1
_ORDERS: Final = {ord("l"): "<", ord("B"): ">"}
_FIXED: Final = struct.Struct("<BBBBIII")
_FIXED_SIZE: Final = 16
_NO_FIELDS_YET: Final = 12
"""Where the array of fields begins, with its length."""


class MessageKind(IntEnum):
    """What a message is; kinds that nobody knows are skipped, as the specification asks."""

    METHOD_CALL = 1
    METHOD_RETURN = 2
    ERROR = 3
    SIGNAL = 4


class MessageFlag(IntFlag):
    """What the caller asks for."""

    NONE = 0
    NO_REPLY_EXPECTED = 1
    NO_AUTO_START = 2
    ALLOW_INTERACTIVE_AUTHORIZATION = 4


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a header; empty if they are not there.

    Attributes:
        path: the object that is called, or signals.
        interface: of the method or signal.
        member: the method or signal.
        error_name: what kind of error.
        reply_to: serial of the call that is answered, 0 if none is.
        signature: types of the body.
        fd_count: fds that belong to the message.
        destination: on a bus, whom it is for.
        sender: on a bus, who sent it, as the bus says.
    """

    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    reply_to: int = 0
    signature: str = ""
    fd_count: int = 0
    destination: str = ""
    sender: str = ""


_FIELDS: Final = {
    1: ("path", "o"),
    2: ("interface", "s"),
    3: ("member", "s"),
    4: ("error_name", "s"),
    5: ("reply_to", "u"),
    6: ("destination", "s"),
    7: ("sender", "s"),
    8: ("signature", "g"),
    9: ("fd_count", "u"),
}
"""The code of each in the header, and its type."""

_REQUIRED: Final = {
    MessageKind.METHOD_CALL: ("path", "member"),
    MessageKind.METHOD_RETURN: ("reply_to",),
    MessageKind.ERROR: ("error_name", "reply_to"),
    MessageKind.SIGNAL: ("path", "interface", "member"),
}


# Not frozen, which is quicker to make.
@dataclass(slots=True)
class Message(Generic[FdT]):
    """One message.

    Attributes:
        kind: what it is.
        fields: what it is about.
        body: its values.
        fds: those that came along, which whoever takes the message owns.
        serial: its number, by which it is answered.
        flags: what its sender asks for.
    """

    kind: MessageKind
    fields: Fields
    body: tuple[Value, ...] = ()
    fds: tuple[FdT, ...] = ()
    serial: int = 0
    flags: int = MessageFlag.NONE

    @property
    def wants_reply(self) -> bool:
        """Whether its sender waits for an answer."""
        return (
            self.kind is MessageKind.METHOD_CALL
            and not self.flags & MessageFlag.NO_REPLY_EXPECTED
        )


@dataclass(slots=True)
class MessageReader(Generic[FdT]):
    """Takes messages off a stream: `feed` it bytes and fds, then drain `next_message`.

    Holds what it was fed and nothing more; a message that would be too large is refused
    when its header says so.
    """

    _buffer: bytearray = field(default_factory=bytearray)
    _start: int = 0
    _fds: list[FdT] = field(default_factory=list)
    _known: dict[bytes, Fields] = field(default_factory=dict)

    @property
    def waiting_fds(self) -> tuple[FdT, ...]:
        """The fds that belong to no message that was taken."""
        return tuple(self._fds)

    @property
    def idle(self) -> bool:
        """Whether there is nothing left, not even the beginning of a message."""
        return len(self._buffer) == self._start and not self._fds

    def feed(self, data: bytes, fds: Sequence[FdT] = ()) -> None:
        """Add received bytes, and the fds that came with them.  Never raises."""
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += data
        self._fds += fds

    def next_message(self) -> Message[FdT] | None:
        """Take the next whole message, or `None` if that needs more bytes.

        Raises:
            DBusError: what came is no message, or one that is too large.
        """
        if len(self._fds) > MAX_WAITING_FDS:
            raise DBusError(f"{len(self._fds)} fds that belong to no message")
        while len(self._buffer) - self._start >= _FIXED_SIZE:
            found = self._cut()
            if found is None:
                return None
            kind, message = found
            if kind in _REQUIRED:
                return self._decode(MessageKind(kind), message)
            if self._fields(message, _order(message)).fd_count:
                raise DBusError(f"a message of unknown kind {kind} has fds")
        return None

    def _cut(self) -> tuple[int, bytes] | None:
        """Take the bytes of the next message, if they are all there."""
        start = self._start
        kind, size = _measure(self._buffer, start)
        if len(self._buffer) < start + size:
            return None
        self._start = start + size
        return kind, bytes(memoryview(self._buffer)[start : start + size])

    def _decode(self, kind: MessageKind, data: bytes) -> Message[FdT]:
        order = _order(data)
        flags, serial = data[2], struct.unpack_from(order + "I", data, 8)[0]
        fields = self._fields(data, order)
        if not all(getattr(fields, name) for name in _REQUIRED[kind]):
            raise DBusError(f"a {kind.name} that lacks a field: {fields}")
        if fields.fd_count > min(MAX_FDS, len(self._fds)):
            raise DBusError(f"{fields.fd_count} fds said, {len(self._fds)} received")
        fds = tuple(self._fds[: fields.fd_count])
        (fields_size,) = struct.unpack_from(order + "I", data, _NO_FIELDS_YET)
        start = _body_start(fields_size)
        if not fields.signature and len(data) != start:
            raise DBusError(f"{len(data) - start} bytes of no type")
        body = Reader(data, order, fds, start).body(fields.signature)
        del self._fds[: len(fds)]  # only now, so that an error leaves them to be found
        return Message(kind, fields, body, fds, serial, flags)

    def _fields(self, data: bytes, order: str) -> Fields:
        (size,) = struct.unpack_from(order + "I", data, _NO_FIELDS_YET)
        spelled = data[0:1] + data[_NO_FIELDS_YET : _FIXED_SIZE + size]
        found = self._known.get(spelled)
        if found is None:
            found = _read_fields(data[: _body_start(size)], order)
            if not found.reply_to and len(self._known) < MAX_KNOWN_FIELDS:
                self._known[spelled] = found
        return found


def encode_message(message: Message[FdT]) -> tuple[bytes, tuple[FdT, ...]]:
    """Write a message in little-endian order; return it with the fds in its body.

    Raises:
        LocalProtocolError: the body is not what its signature says, or too large.
    """
    body: Writer[FdT] = Writer()
    body.body(message.fields.signature, message.body)
    if len(body.data) > MAX_BODY or len(body.fds) > MAX_FDS:
        raise LocalProtocolError(f"{message.fields}: too large")
    fields = replace(message.fields, fd_count=len(body.fds))
    header: Writer[FdT] = Writer()
    start = message.kind, message.flags, VERSION, len(body.data), message.serial
    header.body("yyyyuu", (ord("l"), *start))
    spelled = [
        (code, Variant(kind, value))
        for code, (name, kind) in _FIELDS.items()
        if (value := getattr(fields, name))
    ]
    header.body("a(yv)", (spelled,))
    header.align(8)
    return bytes(header.data + body.data), tuple(body.fds)


def message_size(data: bytes) -> int:
    """Return how many bytes the message has with which these begin; 0 if that needs more.

    Raises:
        DBusError: it is none, or too large.
    """
    return _measure(data, 0)[1] if len(data) >= _FIXED_SIZE else 0


def kinds_in(data: bytes) -> Iterator[MessageKind]:
    """Yield the kinds of the messages that begin in these bytes, as far as they are any."""
    start = 0
    while start + _FIXED_SIZE <= len(data):
        try:
            kind, size = _measure(data, start)
            yield MessageKind(kind)
        except (DBusError, ValueError):
            return
        start += size


def _measure(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """Return the kind of the message that begins there, and how many bytes it has.

    Raises:
        DBusError: it is none, or too large.
    """
    order = _ORDERS.get(data[start])
    if order is None:
        raise DBusError(f"byte order {data[start]:#x}")
    _, kind, _, version, body, serial, fields = struct.unpack_from(
        order + "BBBBIII", data, start
    )
    if version != VERSION or not kind or not serial:
        raise DBusError(f"version {version}, kind {kind}, serial {serial}")
    if fields > MAX_FIELDS or body > MAX_BODY:
        raise DBusError(f"a message of {fields} + {body} bytes")
    return kind, _body_start(fields) + body


def _order(data: bytes) -> str:
    return _ORDERS[data[0]]


def _body_start(fields_size: int) -> int:
    return (_FIXED_SIZE + fields_size + 7) & ~7


def _read_fields(header: bytes, order: str) -> Fields:
    """Read the fields of a header.

    Raises:
        DBusError: they are none, or a known one is of another type.
    """
    reader: Reader[object] = Reader(header, order)
    reader.at = _NO_FIELDS_YET
    found: dict[str, Value] = {}
    for code, variant in reader.value("a(yv)"):
        if code not in _FIELDS:
            continue
        name, kind = _FIELDS[code]
        if variant.signature != kind or name in found:
            raise DBusError(f"field {name} is twice there, or {variant.signature!r}")
        found[name] = variant.value
    reader.align(8)
    if len(found.get("signature", "")) > MAX_SIGNATURE:
        raise DBusError("a signature that is too long")
    return Fields(**found)
