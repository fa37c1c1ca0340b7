"""The tables of `docs/channel-protocol.md`: how each frame is packed, and who may send it.

There is one `Layout` for each frame type, and it describes the payload only.  `codec` packs the
header, `rules` judges a frame's values, and `session` knows when a frame may be sent.

A new frame is a class and a type in `frames`, a layout here, with who sends it, and a section in
the document; a rule and a place in `lanes` if its values or its order need one.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from wlproxy.protocol.channel.extents import Extents
from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    EXTENT_SIZE,
    MAGIC,
    MAX_EXTENTS_PER_FRAME,
    MAX_PAYLOAD,
    MAX_TEXT,
    RAM_TOKEN_SIZE,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseMemory,
    CloseReason,
    Credit,
    Data,
    Feature,
    FileData,
    Frame,
    FrameType,
    Goodbye,
    Hello,
    HelloAck,
    Launch,
    LauncherOpened,
    Locate,
    Located,
    LocateStatus,
    OpenStream,
    Ping,
    Pong,
    ProveRam,
    RamProof,
    ReadMemory,
    Release,
    Released,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError

HANDSHAKE_PREFIX: Final = struct.Struct("<16s16sHHI")
"""What `Hello` and `HelloAck` begin with in every version, past and future.

Magic, nonce, version, MARK.
"""
HELLO: Final = struct.Struct(f"{HANDSHAKE_PREFIX.format}IIIII")
"""`Hello` in this version: the prefix, four numbers, MARK again."""
HELLO_ACK: Final = struct.Struct(f"{HANDSHAKE_PREFIX.format}IIIIQI")
"""What `HelloAck` begins with: the same, and the device among the numbers."""
MARK: Final = 0xFFFFFFFF
"""Ends a part of a handshake frame.

No byte of it begins padding, MAGIC, or the header of a handshake frame: a part that was
cut short and has any of these behind it is never taken for a whole one.
"""

HOST: Final = frozenset((Side.HOST,))
GUEST: Final = frozenset((Side.GUEST,))
BOTH: Final = HOST | GUEST

ZERO: Final = "0"
"""Stands for a number that is no field of a frame, and is 0."""

_COUNT: Final = struct.Struct("<HH")
_ATTACHMENT: Final = struct.Struct("<BBHIQ")
_LOCATED: Final = struct.Struct("<IHBBII")

# By value: twice as quick as calling the enum, and a miss is a KeyError.
_KINDS: Final = {int(kind): kind for kind in AttachmentKind}
_REASONS: Final = {int(reason): reason for reason in CloseReason}
_STATUSES: Final = {int(status): status for status in LocateStatus}
_KNOWN_ATTACHMENT_FLAGS: Final = int(
    AttachmentFlags.HOLDER_READS
    | AttachmentFlags.HOLDER_WRITES
    | AttachmentFlags.MEMORY_WRITABLE
    | AttachmentFlags.MEMORY_DMABUF
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How one frame type is packed.

    Attributes:
        kind: the class of its frames.
        encode: frame to payload; struct.error or UnicodeEncodeError if it does not fit.
        decode: client id and payload to frame.  It may trust the payload's length to be
            within `least` and `most`, and keeps no view of it.  Raises ChannelError.
        least: bytes of the shortest payload.
        most: bytes of the longest payload.
        senders: the sides that may send it.
        of_client: the header's client id is a client's, not 0.
        needs: the feature without which nobody may send it.
    """

    kind: type[Frame]
    encode: Callable[[Any], bytes]
    decode: Callable[[int, memoryview], Frame]
    least: int
    most: int
    senders: frozenset[Side] = BOTH
    of_client: bool = True
    needs: Feature = Feature.NONE


def _known(table: dict[int, Any], what: str, number: int) -> Any:  # noqa: ANN401
    try:
        return table[number]
    except KeyError:
        raise ChannelError(f"unknown {what} {number}") from None


def _zero(*fields: int) -> None:
    if any(fields):
        raise ChannelError("a field that must be zero is not")


def _text(payload: memoryview, start: int) -> str:
    try:
        return str(payload[start:], "utf-8")
    except UnicodeDecodeError as exc:
        raise ChannelError(f"text is not UTF-8: {exc.reason}") from None


def _encode_handshake(
    layout: struct.Struct, frame: Hello | HelloAck, *numbers: int
) -> bytes:
    return layout.pack(
        MAGIC, frame.nonce, *frame.version, MARK, frame.features, *numbers, MARK
    )


def _decode_handshake(
    layout: struct.Struct, payload: memoryview
) -> tuple[bytes, tuple[int, int], Feature, list[int]]:
    magic, nonce, major, minor, mark, features, *rest = layout.unpack_from(payload)
    *numbers, end = rest
    if magic != MAGIC or mark != MARK or end != MARK:
        raise ChannelError("a handshake without its marks")
    return nonce, (major, minor), Feature(features), numbers


def _encode_hello(frame: Hello) -> bytes:
    return _encode_handshake(
        HELLO, frame, frame.client_window, frame.stream_window, frame.max_clients
    )


def _decode_hello(_: int, payload: memoryview) -> Hello:
    nonce, version, features, numbers = _decode_handshake(HELLO, payload)
    return Hello(nonce, version, features, *numbers)


def _encode_hello_ack(frame: HelloAck) -> bytes:
    numbers = _encode_handshake(
        HELLO_ACK,
        frame,
        frame.page_size,
        frame.client_window,
        frame.stream_window,
        frame.main_device,
    )
    return numbers + frame.agent.encode()


def _decode_hello_ack(_: int, payload: memoryview) -> HelloAck:
    nonce, version, features, numbers = _decode_handshake(HELLO_ACK, payload)
    agent = _text(payload, HELLO_ACK.size)
    page_size, client_window, stream_window, main_device = numbers
    windows = client_window, stream_window
    return HelloAck(nonce, version, features, page_size, *windows, main_device, agent)


def _encode_data(frame: Data) -> bytes:
    attachments = frame.attachments
    if not attachments:
        return b"\0\0\0\0" + frame.data
    parts = [_COUNT.pack(len(attachments), 0)]
    parts += [
        _ATTACHMENT.pack(one.kind, one.flags, 0, one.object_id, one.size)
        for one in attachments
    ]
    parts.append(frame.data)
    return b"".join(parts)


def _decode_data(client_id: int, payload: memoryview) -> Data:
    count, zero = _COUNT.unpack_from(payload)
    _zero(zero)
    start = _COUNT.size + count * ATTACHMENT_SIZE
    if start > len(payload):
        raise ChannelError(f"DATA of {len(payload)} bytes with {count} attachments")
    if not count:
        return Data(client_id, payload[start:].tobytes())
    fields = tuple(_ATTACHMENT.iter_unpack(payload[_COUNT.size : start]))
    attachments = tuple(_decode_attachment(*each) for each in fields)
    return Data(client_id, payload[start:].tobytes(), attachments)


def _decode_attachment(
    kind: int, flags: int, zero: int, object_id: int, size: int
) -> Attachment:
    _zero(zero)
    known: AttachmentKind = _known(_KINDS, "attachment kind", kind)
    return Attachment(known, _decode_flags(flags), object_id, size)


def _decode_flags(flags: int) -> AttachmentFlags:
    if flags & ~_KNOWN_ATTACHMENT_FLAGS:
        raise ChannelError(f"attachment with unknown flags {flags:#x}")
    return AttachmentFlags(flags)


def _encode_located(frame: Located) -> bytes:
    extents = Extents.of(frame.extents)
    return (
        _LOCATED.pack(frame.location_id, frame.status, frame.more, 0, frame.errno, 0)
        + extents.to_bytes()
    )


def _decode_located(client_id: int, payload: memoryview) -> Located:
    location_id, status, more, zero, errno, zeros = _LOCATED.unpack_from(payload)
    _zero(zero, zeros)
    if more > 1 or len(payload) % EXTENT_SIZE:
        raise ChannelError(f"LOCATED of {len(payload)} bytes, more is {more}")
    extents = Extents.from_bytes(payload[_LOCATED.size :])
    known: LocateStatus = _known(_STATUSES, "status", status)
    return Located(client_id, location_id, known, errno, bool(more), extents)


_READ: Final[Mapping[str, Callable[[int], Any]]] = {
    "flags": _decode_flags,
    "reason": partial(_known, _REASONS, "reason"),
    "status": partial(_known, _STATUSES, "status"),
}
"""What is made of a number, by the name of its field; of others, nothing."""


def _packed(
    kind: type[Frame],
    form: str,
    fields: str,
    *,
    text: str = "",
    data: str = "",
    senders: frozenset[Side] = BOTH,
    of_client: bool = True,
    needs: Feature = Feature.NONE,
) -> Layout:
    """Make the layout of a frame whose fields are packed in their order.

    Args:
        kind: the class of its frames.
        form: of what has a fixed size, as `struct` has it.
        fields: the names of that, in order; ZERO for a number that is no field.
        text: the field of a string that follows, if one does.
        data: the field of bytes that follow, if they do; they may fill the frame.
        senders: as of `Layout`.
        of_client: likewise; the client's id is the first field then.
        needs: likewise.
    """
    fixed, names = struct.Struct(f"<{form}"), fields.split()
    build = cast("Callable[..., Frame]", kind)

    def encode(frame: Frame) -> bytes:
        packed = fixed.pack(
            *(0 if name == ZERO else getattr(frame, name) for name in names)
        )
        if text:
            said: str = getattr(frame, text)
            return packed + said.encode()
        return packed + getattr(frame, data) if data else packed

    def decode(client_id: int, payload: memoryview) -> Frame:
        values: list[Any] = [client_id] if of_client else []
        for name, value in zip(names, fixed.unpack_from(payload), strict=True):
            if name == ZERO:
                _zero(value)
            else:
                values.append(_READ[name](value) if name in _READ else value)
        if text:
            values.append(_text(payload, fixed.size))
        elif data:
            values.append(payload[fixed.size :].tobytes())
        return build(*values)

    least = most = fixed.size
    if text:
        most += MAX_TEXT
    elif data:
        most = MAX_PAYLOAD
    return Layout(kind, encode, decode, least, most, senders, of_client, needs)


LAYOUTS: Final[dict[int, Layout]] = {
    FrameType.HELLO: Layout(
        Hello,
        _encode_hello,
        _decode_hello,
        least=HELLO.size,
        most=HELLO.size,
        senders=HOST,
        of_client=False,
    ),
    FrameType.HELLO_ACK: Layout(
        HelloAck,
        _encode_hello_ack,
        _decode_hello_ack,
        least=HELLO_ACK.size,
        most=HELLO_ACK.size + MAX_TEXT,
        senders=GUEST,
        of_client=False,
    ),
    FrameType.PROVE_RAM: _packed(
        ProveRam, f"{RAM_TOKEN_SIZE}s", "token", senders=HOST, of_client=False
    ),
    FrameType.RAM_PROOF: _packed(
        RamProof, "HHIQ", "status 0 errno gpa", senders=GUEST, of_client=False
    ),
    FrameType.GOODBYE: _packed(
        Goodbye, "HH", "reason 0", text="message", of_client=False
    ),
    FrameType.PING: _packed(Ping, "Q", "timestamp", of_client=False),
    FrameType.PONG: _packed(Pong, "QQ", "timestamp clock", of_client=False),
    FrameType.CLIENT_OPENED: _packed(
        ClientOpened, "III", "pid uid gid", text="executable", senders=GUEST
    ),
    FrameType.CLIENT_CLOSED: _packed(ClientClosed, "HH", "reason 0", text="message"),
    FrameType.CLIENT_RELEASED: _packed(ClientReleased, "", "", senders=HOST),
    FrameType.LAUNCHER_OPENED: _packed(
        LauncherOpened, "I", "uid", text="user", senders=GUEST, needs=Feature.EXEC
    ),
    FrameType.LAUNCH: _packed(
        Launch, "I", "stream_id", senders=HOST, needs=Feature.EXEC
    ),
    FrameType.DATA: Layout(
        Data, _encode_data, _decode_data, least=_COUNT.size, most=MAX_PAYLOAD
    ),
    FrameType.FILE_DATA: _packed(FileData, "I", "file_id", data="data", senders=HOST),
    FrameType.STREAM_DATA: _packed(StreamData, "I", "stream_id", data="data"),
    FrameType.STREAM_CLOSED: _packed(StreamClosed, "IHH", "stream_id reason 0"),
    FrameType.CREDIT: _packed(Credit, "II", "stream_id amount"),
    FrameType.OPEN_STREAM: _packed(
        OpenStream, "IIBBH", "memory_id stream_id flags 0 0", senders=HOST
    ),
    FrameType.READ_MEMORY: _packed(
        ReadMemory,
        "IIQII",
        "memory_id stream_id offset length 0",
        senders=HOST,
        needs=Feature.READ_MEMORY,
    ),
    FrameType.LOCATE: _packed(
        Locate,
        "IIQQII",
        "location_id memory_id offset length collapse_above 0",
        senders=HOST,
    ),
    FrameType.LOCATED: Layout(
        Located,
        _encode_located,
        _decode_located,
        least=_LOCATED.size,
        most=_LOCATED.size + MAX_EXTENTS_PER_FRAME * EXTENT_SIZE,
        senders=GUEST,
    ),
    FrameType.RELEASE: _packed(Release, "I", "location_id", senders=HOST),
    FrameType.RELEASED: _packed(Released, "I", "location_id", senders=GUEST),
    FrameType.CLOSE_MEMORY: _packed(CloseMemory, "I", "memory_id", senders=HOST),
}
"""Every frame there is, by the `type` field of its header."""
