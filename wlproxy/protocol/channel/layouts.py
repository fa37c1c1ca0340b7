"""The tables of `docs/channel-protocol.md`: how each frame is packed, and who may send it.

There is one `Layout` for each frame type, and it describes the payload only.  `codec` packs the
header, `rules` judges a frame's values, and `session` knows when a frame may be sent.

A new frame is a class and a type in `frames`, a layout here, with who sends it, and a section in
the document; a rule and a place in `lanes` if its values or its order need one.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

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
    Locate,
    Located,
    LocateStatus,
    OpenStream,
    Ping,
    Pong,
    ProveRam,
    RamProof,
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

_U32: Final = struct.Struct("<I")
_U32_PAIR: Final = struct.Struct("<II")
_U64: Final = struct.Struct("<Q")
_PONG: Final = struct.Struct("<QQ")
_RAM_PROOF: Final = struct.Struct("<HHIQ")
_REASON: Final = struct.Struct("<HH")
_LABELS: Final = struct.Struct("<III")
_COUNT: Final = struct.Struct("<HH")
_ATTACHMENT: Final = struct.Struct("<BBHIQ")
_STREAM_CLOSED: Final = struct.Struct("<IHH")
_OPEN_STREAM: Final = struct.Struct("<IIBBH")
_LOCATE: Final = struct.Struct("<IIQQII")
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
    """

    kind: type[Frame]
    encode: Callable[[Any], bytes]
    decode: Callable[[int, memoryview], Frame]
    least: int
    most: int
    senders: frozenset[Side] = BOTH
    of_client: bool = True


def _known(table: dict[int, Any], number: int, what: str) -> Any:  # noqa: ANN401
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
    return HelloAck(
        nonce,
        version,
        features,
        page_size,
        client_window,
        stream_window,
        main_device,
        agent,
    )


def _encode_ram_proof(frame: RamProof) -> bytes:
    return _RAM_PROOF.pack(frame.status, 0, frame.errno, frame.gpa)


def _decode_ram_proof(_: int, payload: memoryview) -> RamProof:
    status, zero, errno, gpa = _RAM_PROOF.unpack(payload)
    _zero(zero)
    return RamProof(_known(_STATUSES, status, "status"), errno, gpa)


def _encode_reason(frame: Goodbye | ClientClosed) -> bytes:
    return _REASON.pack(frame.reason, 0) + frame.message.encode()


def _decode_reason(payload: memoryview) -> tuple[CloseReason, str]:
    reason, zero = _REASON.unpack_from(payload)
    _zero(zero)
    return _known(_REASONS, reason, "reason"), _text(payload, _REASON.size)


def _encode_client_opened(frame: ClientOpened) -> bytes:
    return _LABELS.pack(frame.pid, frame.uid, frame.gid) + frame.executable.encode()


def _decode_client_opened(client_id: int, payload: memoryview) -> ClientOpened:
    pid, uid, gid = _LABELS.unpack_from(payload)
    return ClientOpened(client_id, pid, uid, gid, _text(payload, _LABELS.size))


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
    known: AttachmentKind = _known(_KINDS, kind, "attachment kind")
    return Attachment(known, _decode_flags(flags), object_id, size)


def _decode_flags(flags: int) -> AttachmentFlags:
    if flags & ~_KNOWN_ATTACHMENT_FLAGS:
        raise ChannelError(f"attachment with unknown flags {flags:#x}")
    return AttachmentFlags(flags)


def _encode_stream_closed(frame: StreamClosed) -> bytes:
    return _STREAM_CLOSED.pack(frame.stream_id, frame.reason, 0)


def _decode_stream_closed(client_id: int, payload: memoryview) -> StreamClosed:
    stream_id, reason, zero = _STREAM_CLOSED.unpack(payload)
    _zero(zero)
    return StreamClosed(client_id, stream_id, _known(_REASONS, reason, "reason"))


def _encode_open_stream(frame: OpenStream) -> bytes:
    return _OPEN_STREAM.pack(frame.memory_id, frame.stream_id, frame.flags, 0, 0)


def _decode_open_stream(client_id: int, payload: memoryview) -> OpenStream:
    memory_id, stream_id, flags, *zeros = _OPEN_STREAM.unpack(payload)
    _zero(*zeros)
    return OpenStream(client_id, memory_id, stream_id, _decode_flags(flags))


def _encode_locate(frame: Locate) -> bytes:
    return _LOCATE.pack(
        frame.location_id,
        frame.memory_id,
        frame.offset,
        frame.length,
        frame.collapse_above,
        0,
    )


def _decode_locate(client_id: int, payload: memoryview) -> Locate:
    *fields, zero = _LOCATE.unpack(payload)
    _zero(zero)
    return Locate(client_id, *fields)


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
    known: LocateStatus = _known(_STATUSES, status, "status")
    return Located(client_id, location_id, known, errno, bool(more), extents)


def _number(kind: type[Frame], field: str, senders: frozenset[Side]) -> Layout:
    """Make the layout of a frame that has a client id and one number."""
    build: Callable[..., Frame] = kind
    return Layout(
        kind,
        lambda frame: _U32.pack(getattr(frame, field)),
        lambda client_id, payload: build(client_id, *_U32.unpack(payload)),
        least=_U32.size,
        most=_U32.size,
        senders=senders,
    )


_PING_LAYOUT: Final = Layout(
    Ping,
    lambda frame: _U64.pack(frame.timestamp),
    lambda _, payload: Ping(*_U64.unpack(payload)),
    least=_U64.size,
    most=_U64.size,
    of_client=False,
)

_PONG_LAYOUT: Final = Layout(
    Pong,
    lambda frame: _PONG.pack(frame.timestamp, frame.clock),
    lambda _, payload: Pong(*_PONG.unpack(payload)),
    least=_PONG.size,
    most=_PONG.size,
    of_client=False,
)


def _numbered_bytes(kind: type[Frame], field: str, senders: frozenset[Side]) -> Layout:
    """Make the layout of a frame that has a client id, one number, and bytes."""
    build: Callable[..., Frame] = kind
    return Layout(
        kind,
        lambda frame: _U32.pack(getattr(frame, field)) + frame.data,
        lambda client_id, payload: build(
            client_id, *_U32.unpack_from(payload), payload[_U32.size :].tobytes()
        ),
        least=_U32.size,
        most=MAX_PAYLOAD,
        senders=senders,
    )


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
    FrameType.PROVE_RAM: Layout(
        ProveRam,
        lambda frame: frame.token,
        lambda _, payload: ProveRam(payload.tobytes()),
        least=RAM_TOKEN_SIZE,
        most=RAM_TOKEN_SIZE,
        senders=HOST,
        of_client=False,
    ),
    FrameType.RAM_PROOF: Layout(
        RamProof,
        _encode_ram_proof,
        _decode_ram_proof,
        least=_RAM_PROOF.size,
        most=_RAM_PROOF.size,
        senders=GUEST,
        of_client=False,
    ),
    FrameType.GOODBYE: Layout(
        Goodbye,
        _encode_reason,
        lambda _, payload: Goodbye(*_decode_reason(payload)),
        least=_REASON.size,
        most=_REASON.size + MAX_TEXT,
        of_client=False,
    ),
    FrameType.PING: _PING_LAYOUT,
    FrameType.PONG: _PONG_LAYOUT,
    FrameType.CLIENT_OPENED: Layout(
        ClientOpened,
        _encode_client_opened,
        _decode_client_opened,
        least=_LABELS.size,
        most=_LABELS.size + MAX_TEXT,
        senders=GUEST,
    ),
    FrameType.CLIENT_CLOSED: Layout(
        ClientClosed,
        _encode_reason,
        lambda client_id, payload: ClientClosed(client_id, *_decode_reason(payload)),
        least=_REASON.size,
        most=_REASON.size + MAX_TEXT,
    ),
    FrameType.CLIENT_RELEASED: Layout(
        ClientReleased,
        lambda _: b"",
        lambda client_id, _: ClientReleased(client_id),
        least=0,
        most=0,
        senders=HOST,
    ),
    FrameType.DATA: Layout(
        Data, _encode_data, _decode_data, least=_COUNT.size, most=MAX_PAYLOAD
    ),
    FrameType.FILE_DATA: _numbered_bytes(FileData, "file_id", HOST),
    FrameType.STREAM_DATA: _numbered_bytes(StreamData, "stream_id", BOTH),
    FrameType.STREAM_CLOSED: Layout(
        StreamClosed,
        _encode_stream_closed,
        _decode_stream_closed,
        least=_STREAM_CLOSED.size,
        most=_STREAM_CLOSED.size,
    ),
    FrameType.CREDIT: Layout(
        Credit,
        lambda frame: _U32_PAIR.pack(frame.stream_id, frame.amount),
        lambda client_id, payload: Credit(client_id, *_U32_PAIR.unpack(payload)),
        least=_U32_PAIR.size,
        most=_U32_PAIR.size,
    ),
    FrameType.OPEN_STREAM: Layout(
        OpenStream,
        _encode_open_stream,
        _decode_open_stream,
        least=_OPEN_STREAM.size,
        most=_OPEN_STREAM.size,
        senders=HOST,
    ),
    FrameType.LOCATE: Layout(
        Locate,
        _encode_locate,
        _decode_locate,
        least=_LOCATE.size,
        most=_LOCATE.size,
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
    FrameType.RELEASE: _number(Release, "location_id", HOST),
    FrameType.RELEASED: _number(Released, "location_id", GUEST),
    FrameType.CLOSE_MEMORY: _number(CloseMemory, "memory_id", HOST),
}
"""Every frame there is, by the `type` field of its header."""
