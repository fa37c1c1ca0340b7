"""The frames of the channel protocol, as values.

`codec` turns them into bytes, and `session` knows which frame is legal when.  A letter says who
sends a frame: H = host to guest, G = guest to host, B = both.  Every number is unsigned and
little-endian on the wire unless it says otherwise.  Normative: `docs/channel-protocol.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag

from wlproxy.protocol.channel.launching import Launch as Launch  # noqa: PLC0414
from wlproxy.protocol.channel.launching import (
    LauncherOpened as LauncherOpened,  # noqa: PLC0414
)
from wlproxy.protocol.channel.reading import ReadMemory as ReadMemory  # noqa: PLC0414
from wlproxy.protocol.errors import CloseReason as CloseReason  # noqa: PLC0414
from wlproxy.protocol.fd_limits import MAX_FDS_IN

MAGIC = b"wlproxy-channel\x01"
"""First bytes of `Hello` and `HelloAck`: what a resynchronising peer looks for."""

VERSION_MAJOR = 1
VERSION_MINOR = 3

PORT_NAME = "org.wlproxy.0"
"""Name of the virtio-serial port that is the channel: QEMU gives it, the agent looks for it."""

HEADER_SIZE = 12
"""`u32 payload length, u16 type, u16 flags, u32 client id` (0: the session)."""

MAX_PAYLOAD = 64 * 1024 - HEADER_SIZE
"""Largest payload: a whole frame fits the 64 KiB that one virtqueue pass moves."""

RESYNC_PADDING = HEADER_SIZE + MAX_PAYLOAD + HEADER_SIZE
"""Zero bytes a peer writes before it starts a session over.

They complete whatever frame an earlier session left half-written, and the all-zero
header that follows is then unmistakable: type 0 is `RESYNC`, never a frame.
"""

NONCE_SIZE = 16
RAM_TOKEN_SIZE = 32
ATTACHMENT_SIZE = 16
EXTENT_SIZE = 16
MAX_ATTACHMENTS = MAX_FDS_IN
"""Per `Data` frame, so that what one recvmsg brings always fits."""
MAX_EXTENTS_PER_FRAME = 4000
MAX_FILE_SIZE = 16 * 1024 * 1024
"""Largest host file (keymap, feedback table) that is carried to the guest, bytes."""
MAX_TEXT = 1024
"""Longest string in any frame, in UTF-8 bytes."""


class Side(Enum):
    """An end of the channel."""

    HOST = "host"
    GUEST = "guest"

    @property
    def peer(self) -> "Side":
        """The other end."""
        return Side.GUEST if self is Side.HOST else Side.HOST


class FrameType(IntEnum):
    """The `type` field of a frame header."""

    RESYNC = 0
    HELLO = 1
    HELLO_ACK = 2
    PROVE_RAM = 3
    RAM_PROOF = 4
    GOODBYE = 5
    PING = 6
    PONG = 7
    CLIENT_OPENED = 16
    CLIENT_CLOSED = 17
    CLIENT_RELEASED = 18
    LAUNCHER_OPENED = 19
    LAUNCH = 20
    DATA = 32
    FILE_DATA = 33
    STREAM_DATA = 34
    STREAM_CLOSED = 35
    CREDIT = 36
    OPEN_STREAM = 37
    READ_MEMORY = 38
    LOCATE = 48
    LOCATED = 49
    RELEASE = 50
    RELEASED = 51
    CLOSE_MEMORY = 52


class FrameFlags(IntFlag):
    """The `flags` field of a frame header; the other bits must be zero."""

    NONE = 0
    OPTIONAL = 1
    """A receiver that does not know the type skips the frame."""


class Feature(IntFlag):
    """Optional abilities, offered in `Hello` and confirmed in `HelloAck`."""

    NONE = 0
    LOCATE_MEMFD = 1 << 0
    """The agent can locate the pages of shared-memory files."""
    LOCATE_DMABUF = 1 << 1
    """The agent can locate the pages of dma-bufs (the `gem_locate` module)."""
    IMPLICIT_LINEAR = 1 << 2
    """A dma-buf of the guest's without a modifier is linear (with LOCATE_DMABUF)."""
    EXEC = 1 << 3
    """The host may have launchers start commands in the guest."""
    GRANTS = 1 << 4
    """Addresses are Xen's grant references times 4096, and not guest-physical ones."""
    READ_MEMORY = 1 << 5
    """The host may have parts of files read."""


class AttachmentKind(IntEnum):
    """What a passed fd is."""

    OTHER = 0
    """Anything else, kept until the host says what it is for (G)."""
    MEMORY = 1
    """Memory of the guest, to be located (G)."""
    STREAM = 2
    """A pipe (B)."""
    FILE = 3
    """A file whose contents went before in `FileData` frames (H)."""


class AttachmentFlags(IntFlag):
    """Facts about an attachment; which apply depends on its kind."""

    NONE = 0
    HOLDER_READS = 1
    """STREAM: data flows towards the holder, who is given the fd.  OTHER: it is open for reading."""
    HOLDER_WRITES = 2
    """STREAM: data flows away from the holder.  OTHER: it is open for writing."""
    MEMORY_WRITABLE = 4
    """MEMORY: the fd is open for writing."""
    MEMORY_DMABUF = 8
    """MEMORY: a dma-buf, not a shared-memory file."""


class LocateStatus(IntEnum):
    """The answer to `Locate`."""

    OK = 0
    UNKNOWN_MEMORY = 1
    """There never was such a memory, or its fd is not kept any more."""
    OUT_OF_RANGE = 2
    """The range is not inside the pages of the file."""
    NOT_PERMITTED = 3
    """The agent may not learn where pages are: it has neither gem_locate nor a capability."""
    UNSUPPORTED = 4
    """Memory of this kind cannot be located here (a dma-buf without `gem_locate`)."""
    LIMIT_EXCEEDED = 5
    """The client's quota of pinned bytes."""
    FAILED = 6
    """A system call failed; `errno` says how."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One passed fd, described.

    Attributes:
        kind: what it is.
        flags: facts about it.
        object_id: memory id, stream id or file id.  Memory ids (of MEMORY and of
            OTHER) and even stream ids are the guest's; file ids and odd stream ids
            the host's.  None is used twice for a client.
        size: bytes of a MEMORY (as of now; it may grow) or a FILE, else 0.
    """

    kind: AttachmentKind
    flags: AttachmentFlags
    object_id: int
    size: int


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of guest-physical memory, or of grants: `gpa` and `length`, bytes, page-aligned."""

    gpa: int
    length: int


@dataclass(frozen=True, slots=True)
class Hello:
    """H: starts a session.

    Attributes:
        nonce: NONCE_SIZE random bytes that `HelloAck` must echo.
        version: (major, minor) of the host; another major cannot be spoken to.
        features: what the host would like.
        client_window: payload bytes of `Data` the guest may have outstanding
            per client until the host grants more.
        stream_window: the same for `StreamData`, per stream.
        max_clients: how many clients the host serves at once.
    """

    nonce: bytes
    version: tuple[int, int]
    features: Feature
    client_window: int
    stream_window: int
    max_clients: int


@dataclass(frozen=True, slots=True)
class HelloAck:
    """G: accepts a session.

    Attributes:
        nonce: the host's, echoed.
        version: (major, minor) of the agent.
        features: the offered features that the agent has.
        page_size: bytes of a guest page.
        client_window: payload bytes of `Data` and `FileData` the host may have
            outstanding per client.
        stream_window: the same for `StreamData`, per stream.
        main_device: dev_t of the guest's DRM node on which apps shall allocate their
            buffers, as linux-dmabuf has it; 0: there is none.
        agent: name and version of the agent, for people.
    """

    nonce: bytes
    version: tuple[int, int]
    features: Feature
    page_size: int
    client_window: int
    stream_window: int
    main_device: int
    agent: str


@dataclass(frozen=True, slots=True)
class ProveRam:
    """H: put `token` (RAM_TOKEN_SIZE bytes) at the start of a pinned page."""

    token: bytes


@dataclass(frozen=True, slots=True)
class RamProof:
    """G: where the token is.  It stays there until the session ends.

    Attributes:
        status: OK, NOT_PERMITTED or FAILED.
        errno: guest errno if FAILED, else 0.
        gpa: guest-physical address of the token, page-aligned; 0 unless OK.
    """

    status: LocateStatus
    errno: int
    gpa: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """B: the session ends; the sender says why and sends nothing more."""

    reason: CloseReason
    message: str


@dataclass(frozen=True, slots=True)
class Ping:
    """B: answer with a `Pong` of the same timestamp (nanoseconds, sender's clock)."""

    timestamp: int


@dataclass(frozen=True, slots=True)
class Pong:
    """B: the answer to `Ping`.

    Attributes:
        timestamp: the ping's.
        clock: the guest's CLOCK_MONOTONIC as it answers, nanoseconds; 0 from the host,
            and from a guest that does not tell.
    """

    timestamp: int
    clock: int = 0


@dataclass(frozen=True, slots=True)
class ClientOpened:
    """G: an app connected.  All but `client_id` is a label nobody may trust.

    Attributes:
        client_id: counts up from 1, never used again in this session.
        pid: process id in the guest.
        uid: user id in the guest.
        gid: group id in the guest.
        executable: name of its executable, may be empty.
    """

    client_id: int
    pid: int
    uid: int
    gid: int
    executable: str


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """B: the sender's side of this client is gone; it ignores later frames for it.

    From the host: the agent closes the app's socket, after the `Data` before this.
    The pins of the client stay until `ClientReleased`, its streams until they close.
    """

    client_id: int
    reason: CloseReason
    message: str


@dataclass(frozen=True, slots=True)
class ClientReleased:
    """H: nothing reads the client's pages any more; the agent drops every pin."""

    client_id: int


# There is one for every turn: making what is frozen takes five times as long.
@dataclass(slots=True)
class Data:
    """B: bytes of a client's Wayland stream and the fds passed with them, in order."""

    client_id: int
    data: bytes
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class FileData:
    """H: appends to the contents of a file that a later `Data` attaches."""

    client_id: int
    file_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamData:
    """B: bytes of a stream."""

    client_id: int
    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """B: the sender closed its end: end of file, or nobody reads any more."""

    client_id: int
    stream_id: int
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Credit:
    """B: the sender has consumed `amount` payload bytes and takes as many more.

    `stream_id` 0 is the client's own data (`Data`, `FileData`).
    """

    client_id: int
    stream_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class OpenStream:
    """H: makes a stream of a MEMORY or an OTHER.

    Attributes:
        client_id: whose.
        memory_id: from the attachment; it names nothing after this.
        stream_id: the host's name for the stream, odd.
        flags: HOLDER_READS or HOLDER_WRITES.
    """

    client_id: int
    memory_id: int
    stream_id: int
    flags: AttachmentFlags


@dataclass(frozen=True, slots=True)
class Locate:
    """H: pin a range of a memory and say where its pages are.

    Attributes:
        client_id: whose memory.
        location_id: the host's name for the pinned range, never used again.
        memory_id: from the attachment.
        offset: first byte.
        length: bytes, not 0.
        collapse_above: make the pages contiguous first if they would be more
            extents than this (a copy inside the guest's kernel: for buffers that
            live); 0 means never.
    """

    client_id: int
    location_id: int
    memory_id: int
    offset: int
    length: int
    collapse_above: int


@dataclass(frozen=True, slots=True)
class Located:
    """G: the answer, in one or more frames.

    The extents of all frames, in file order, cover the range rounded outward to
    whole pages, and nothing else.  Unless the status is OK nothing is pinned.

    Attributes:
        client_id: as asked.
        location_id: as asked.
        status: OK or why not.
        errno: guest errno if FAILED, else 0.
        more: the next frame continues this list.
        extents: at most MAX_EXTENTS_PER_FRAME; packed (`extents`) as received.
    """

    client_id: int
    location_id: int
    status: LocateStatus
    errno: int
    more: bool
    extents: Sequence[Extent]


@dataclass(frozen=True, slots=True)
class Release:
    """H: nothing reads the pages of this location any more; drop the pin."""

    client_id: int
    location_id: int


@dataclass(frozen=True, slots=True)
class Released:
    """G: the pin is dropped, just now.

    For who counts what the guest has pinned; the host waits for none.
    """

    client_id: int
    location_id: int


@dataclass(frozen=True, slots=True)
class CloseMemory:
    """H: the host will not ask about this memory again; close its fd."""

    client_id: int
    memory_id: int


Frame = (
    Hello
    | HelloAck
    | ProveRam
    | RamProof
    | Goodbye
    | Ping
    | Pong
    | ClientOpened
    | ClientClosed
    | ClientReleased
    | LauncherOpened
    | Launch
    | Data
    | FileData
    | StreamData
    | StreamClosed
    | Credit
    | OpenStream
    | ReadMemory
    | Locate
    | Located
    | Release
    | Released
    | CloseMemory
)
