"""The rules for a frame's values that the widths of its fields do not enforce.

They hold in both directions: what we send must keep them (breaking one is our bug), and so
must what we receive (breaking one is the peer's fault).  Which frame is legal when is the
business of `session`.
"""

from collections.abc import Callable
from typing import Any, Final

from wlproxy.protocol.channel.extents import GRANT_SIZE
from wlproxy.protocol.channel.frames import (
    MAX_ATTACHMENTS,
    MAX_EXTENTS_PER_FRAME,
    MAX_FILE_SIZE,
    MAX_TEXT,
    NONCE_SIZE,
    RAM_TOKEN_SIZE,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    Credit,
    Data,
    Feature,
    FileData,
    Frame,
    Goodbye,
    Hello,
    HelloAck,
    Launch,
    LauncherOpened,
    Locate,
    Located,
    LocateStatus,
    OpenStream,
    ProveRam,
    RamProof,
    ReadMemory,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.launching import LAST_STREAM

MIN_WINDOW: Final = 16 * 1024
"""Least credit window, bytes.

Half of it must hold any one frame's attachments and a byte of data: a receiver may keep
back grants for up to half a window, and the sender must still be able to go on.
"""
MAX_WINDOW: Final = 64 * 1024 * 1024
"""Largest credit window, bytes: what a peer may make us buffer for one client."""
MIN_PAGE_SIZE: Final = 4096
MAX_PAGE_SIZE: Final = 65536

_STREAM_WAYS: Final = (AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES)
_FLAGS: Final = {
    AttachmentKind.OTHER: _STREAM_WAYS[0] | _STREAM_WAYS[1],
    AttachmentKind.MEMORY: (
        AttachmentFlags.MEMORY_WRITABLE | AttachmentFlags.MEMORY_DMABUF
    ),
    AttachmentKind.STREAM: _STREAM_WAYS[0] | _STREAM_WAYS[1],
    AttachmentKind.FILE: AttachmentFlags.NONE,
}
_MAX_SIZES: Final = {
    AttachmentKind.OTHER: 0,
    AttachmentKind.STREAM: 0,
    AttachmentKind.FILE: MAX_FILE_SIZE,
}
"""Bytes of an attachment; those of a memory are the guest's affair."""
_PROOF_STATUSES: Final = (
    LocateStatus.OK,
    LocateStatus.NOT_PERMITTED,
    LocateStatus.FAILED,
)


def fault(frame: Frame) -> str:
    """Say which rule a frame breaks; the empty string if it keeps them all."""
    rule = _RULES.get(type(frame))
    return rule(frame) if rule else ""


def fit_text(text: str) -> str:
    """Make a text fit into a frame: no NUL, `MAX_TEXT` bytes of UTF-8 at most."""
    encoded = text.replace("\0", " ").encode(errors="replace")
    return encoded[:MAX_TEXT].decode(errors="ignore")


def _text_fault(text: str) -> str:
    # Cheap before exact: a character is at least one byte of UTF-8.
    if len(text) > MAX_TEXT or len(text.encode(errors="replace")) > MAX_TEXT:
        return f"text is over {MAX_TEXT} bytes"
    return "text contains NUL" if "\0" in text else ""


def _size_fault(what: str, data: bytes, size: int) -> str:
    return "" if len(data) == size else f"{what} is not {size} bytes"


def _handshake_fault(frame: Hello | HelloAck) -> str:
    windows = frame.client_window, frame.stream_window
    if all(MIN_WINDOW <= window <= MAX_WINDOW for window in windows):
        return _size_fault("nonce", frame.nonce, NONCE_SIZE)
    return f"a window of {windows} is not within {MIN_WINDOW}..{MAX_WINDOW}"


def _hello(frame: Hello) -> str:
    if not frame.max_clients:
        return "no client is allowed"
    return _handshake_fault(frame)


def _hello_ack(frame: HelloAck) -> str:
    size = frame.page_size
    if size & (size - 1) or not MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE:
        return f"no page size: {size}"
    if Feature.GRANTS in frame.features and size != GRANT_SIZE:
        return f"grants, and pages of {size} bytes"
    return _handshake_fault(frame) or _text_fault(frame.agent)


def _status_fault(status: LocateStatus, errno: int) -> str:
    if errno and status is not LocateStatus.FAILED:
        return f"errno {errno} with status {status.name}"
    return ""


def _ram_proof(frame: RamProof) -> str:
    if frame.status not in _PROOF_STATUSES:
        return f"status {frame.status.name} is no answer to ProveRam"
    if frame.gpa and frame.status is not LocateStatus.OK:
        return f"an address with status {frame.status.name}"
    if frame.gpa & (MIN_PAGE_SIZE - 1):
        return f"address {frame.gpa:#x} is not page-aligned"
    return _status_fault(frame.status, frame.errno)


def _attachment_fault(attachment: Attachment) -> str:
    kind, flags = attachment.kind, attachment.flags
    legal = not flags & ~_FLAGS[kind]
    if kind is AttachmentKind.STREAM:
        legal = flags in _STREAM_WAYS and attachment.object_id != 0
    if not legal:
        return f"attachment {kind.name} {attachment.object_id} with {flags!r}"
    max_size = _MAX_SIZES.get(kind)
    if max_size is not None and attachment.size > max_size:
        return f"attachment {kind.name} of {attachment.size} bytes, limit {max_size}"
    return ""


def _data(frame: Data) -> str:
    if not frame.data:
        return "no bytes"  # fds travel with bytes, and an empty frame would be free
    if not frame.attachments:
        return ""
    if len(frame.attachments) > MAX_ATTACHMENTS:
        return f"{len(frame.attachments)} attachments, limit {MAX_ATTACHMENTS}"
    return next(filter(None, map(_attachment_fault, frame.attachments)), "")


def _stream_data(frame: StreamData) -> str:
    if not frame.stream_id:
        return "stream 0"
    return "" if frame.data else "no bytes"


def _open_stream(frame: OpenStream) -> str:
    if frame.stream_id % 2 == 0:
        return f"stream {frame.stream_id} is not the host's"
    if frame.flags not in _STREAM_WAYS:
        return f"a stream with {frame.flags!r}"
    return ""


def _read_memory(frame: ReadMemory) -> str:
    if frame.stream_id % 2 == 0:
        return f"stream {frame.stream_id} is not the host's"
    if not frame.length:
        return "no bytes"
    return "" if frame.offset + frame.length < 1 << 63 else "range ends beyond 63 bits"


def _launch(frame: Launch) -> str:
    if frame.stream_id % 2 == 0 or frame.stream_id + LAST_STREAM >= 1 << 32:
        return f"stream {frame.stream_id} is not the host's, or among the last"
    return ""


def _locate(frame: Locate) -> str:
    if not frame.length:
        return "no bytes"
    return "" if frame.offset + frame.length < 1 << 64 else "range ends beyond 64 bits"


def _located(frame: Located) -> str:
    ok = frame.status is LocateStatus.OK
    if ok != bool(frame.extents):
        return f"{len(frame.extents)} extents with status {frame.status.name}"
    if frame.more and not ok:
        return f"more to come with status {frame.status.name}"
    if len(frame.extents) > MAX_EXTENTS_PER_FRAME:
        return f"{len(frame.extents)} extents, limit {MAX_EXTENTS_PER_FRAME}"
    return _status_fault(frame.status, frame.errno)


# Any: each function takes the class beside it, which a dict's type cannot say.
_RULES: Final[dict[type, Callable[[Any], str]]] = {
    Hello: _hello,
    HelloAck: _hello_ack,
    ProveRam: lambda frame: _size_fault("token", frame.token, RAM_TOKEN_SIZE),
    RamProof: _ram_proof,
    Goodbye: lambda frame: _text_fault(frame.message),
    ClientOpened: lambda frame: _text_fault(frame.executable),
    ClientClosed: lambda frame: _text_fault(frame.message),
    LauncherOpened: lambda frame: _text_fault(frame.user),
    Launch: _launch,
    Data: _data,
    FileData: lambda frame: "" if frame.data else "no bytes",
    StreamData: _stream_data,
    StreamClosed: lambda frame: "" if frame.stream_id else "stream 0",
    Credit: lambda frame: "" if frame.amount else "no amount",
    OpenStream: _open_stream,
    ReadMemory: _read_memory,
    Locate: _locate,
    Located: _located,
}
