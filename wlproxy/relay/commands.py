"""What the core tells the shell to do, as values.

The shell (`host/client`) carries commands out in the order they were returned.
Handles name fds that exist only in the shell.  A handle stays open until
`CloseHandle`, or until its client's `CloseClient`, which closes all that are left.
`CreateUdmabuf` and `CreateCopyBuffer` are answered by `BufferCreated` or `BufferFailed`
(`inputs`), `ReadFile` by `FileRead`, `AskUser` by `UserAnswered`; no other command is answered, but what `CopyRows` cost is told by `Copied`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from wlproxy.memory.guest_memory import RamItem
from wlproxy.protocol.channel.frames import CloseReason, Frame
from wlproxy.relay.handles import Handle


class Direction(Enum):
    """Which way a stream's data goes."""

    TO_GUEST = "to guest"
    """The compositor's side writes, the guest's side reads."""
    TO_COMPOSITOR = "to compositor"
    """The guest's side writes, the compositor's side reads."""


class TraceLevel(IntEnum):
    """How much a trace matters; the values are those of `logging`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


# What every turn leads to is not frozen: making what is takes five times as long.
@dataclass(slots=True)
class SendFrame:
    """Send a frame to the guest.

    Frames of one client keep their order.  `Data` waits for that client's credit.
    """

    frame: Frame

    @property
    def client_id(self) -> int:
        """Whose it is; 0: nobody's."""
        return getattr(self.frame, "client_id", 0)


@dataclass(slots=True)
class GrantCredit:
    """Return `amount` bytes of client credit once all data before this is written.

    The shell waits until the compositor has taken what was sent before, so that a
    stalled compositor connection stalls its client and nothing else.
    """

    client_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class OpenCompositor:
    """Connect to the host compositor for a client; `label` names it in logs."""

    client_id: int
    label: str


@dataclass(slots=True)
class SendToCompositor:
    """Send whole Wayland requests; the fds of `handles` leave with their first byte."""

    client_id: int
    data: bytes
    handles: tuple[Handle, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateUdmabuf:
    """Make a dma-buf of pages of guest RAM, in this order.  Answered."""

    client_id: int
    handle: Handle
    items: Sequence[RamItem]


@dataclass(frozen=True, slots=True)
class CreateCopyBuffer:
    """Make a sealed memfd of `size` bytes for mode C.  Answered."""

    client_id: int
    handle: Handle
    size: int


@dataclass(frozen=True, slots=True)
class CreateFile:
    """Make a sealed memfd of the proxy's own, of at most a few pages, with these contents."""

    client_id: int
    handle: Handle
    contents: bytes


@dataclass(frozen=True, slots=True)
class CopyRows:
    """Copy `rows` runs of `length` bytes, `stride` apart, from guest RAM to a memfd.

    `offset` is where the first run starts, in bytes, both in the concatenation of
    `items` and in the memfd of `handle`.  The only command that touches pixels.

    It is carried out in its turn, before what is sent to the compositor after it, and
    reads what the pages hold then.  What waits for one memfd is copied together, and
    what lies between the runs too where that is cheaper; `Copied` tells how many
    bytes that were.  What follows once the compositor has been reached (a sync
    sent after it has been answered) finds it done.
    """

    client_id: int
    handle: Handle
    items: Sequence[RamItem]
    offset: int
    stride: int
    length: int
    rows: int


@dataclass(frozen=True, slots=True)
class CreateStream:
    """Make a pipe for a stream of the guest; `handle` is the compositor's end.

    The other end is pumped to or from `StreamData` frames of `stream_id`.  A stream that
    is not `usable`, since the guest's end is open the other way, ends at once, and any after `limit` bytes, if that is not 0.
    """

    client_id: int
    stream_id: int
    handle: Handle
    direction: Direction
    usable: bool = True
    limit: int = 0


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Make a sealed memfd of the `size` bytes that stream `stream_id` of the guest brings.

    Answered by `FileRead`: soon, even if nothing comes.
    """

    client_id: int
    stream_id: int
    handle: Handle
    size: int


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Tell by `TimerEnded`, with this number, that so many seconds are over."""

    client_id: int
    number: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AskUser:
    """Ask the user whether what was not asked for by a gesture may cross all the same.

    Answered by `UserAnswered` with this number, sooner or later, unless `StopAsking` comes first.

    Attributes:
        client_id: whose it is.
        number: of the question.
        direction: which way data would go.
        use: what it is offered for: "clipboard" or "primary".
        app: what the app calls itself; not to be trusted.
        mime_type: of the data; likewise.
        more: how many other types are offered with it.
    """

    client_id: int
    number: int
    direction: Direction
    use: str
    app: str
    mime_type: str
    more: int = 0


@dataclass(frozen=True, slots=True)
class StopAsking:
    """What a question was about is no more."""

    client_id: int
    number: int


@dataclass(frozen=True, slots=True)
class AdoptStream:
    """Pump an fd that the compositor sent, as stream `stream_id`; consumes the handle.

    It ends after `limit` bytes, if that is not 0.
    """

    client_id: int
    stream_id: int
    handle: Handle
    direction: Direction
    limit: int = 0


@dataclass(frozen=True, slots=True)
class SendFile:
    """Send `size` bytes of a file as `FileData` frames; consumes the handle."""

    client_id: int
    file_id: int
    handle: Handle
    size: int


@dataclass(frozen=True, slots=True)
class SendContents:
    """Send a file that exists nowhere but here, as `FileData` frames."""

    client_id: int
    file_id: int
    contents: bytes


@dataclass(frozen=True, slots=True)
class CloseHandle:
    """Close the fd of a handle, once everything queued with it has been sent."""

    client_id: int
    handle: Handle


@dataclass(frozen=True, slots=True)
class CloseClient:
    """End a client: its compositor connection, streams, handles and location pins.

    Unless `silent`, the guest is told with `ClientClosed`, after the frames queued
    for it.  When the compositor has let go of the connection the shell sends
    `ClientReleased`.
    """

    client_id: int
    reason: CloseReason
    message: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Log a line about a client (0: the guest as a whole)."""

    client_id: int
    level: TraceLevel
    message: str


Command = (
    SendFrame
    | GrantCredit
    | OpenCompositor
    | SendToCompositor
    | CreateUdmabuf
    | CreateCopyBuffer
    | CreateFile
    | CopyRows
    | CreateStream
    | ReadFile
    | AdoptStream
    | AskUser
    | StopAsking
    | StartTimer
    | SendFile
    | SendContents
    | CloseHandle
    | CloseClient
    | Trace
)
