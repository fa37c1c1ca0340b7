"""Sessions: how one begins in a dumb stream, which frame is legal when, how one ends.

Sans-IO, one class per end.  Bytes go in by `feed`, which neither parses nor raises;
frames come out of `next_frame`; `encode` checks that what we send is legal now.  Not
here: credits (`flow`), what ids mean (the relay, the agent), time-outs (the shells).
"""

from enum import Enum
from typing import Final

from wlproxy.protocol.channel.codec import FrameDecoder, Resync, encode_frame
from wlproxy.protocol.channel.frames import (
    RESYNC_PADDING,
    VERSION_MAJOR,
    Attachment,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseMemory,
    Credit,
    Data,
    FileData,
    Frame,
    FrameType,
    Goodbye,
    Hello,
    HelloAck,
    Locate,
    Located,
    OpenStream,
    Ping,
    Pong,
    ProveRam,
    RamProof,
    Release,
    Released,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.handshake import Scanner
from wlproxy.protocol.errors import ChannelError, LocalProtocolError

_BOTH: Final = (
    Ping,
    Pong,
    ClientClosed,
    Data,
    StreamData,
    StreamClosed,
    Credit,
)
FROM_HOST: Final[frozenset[type[Frame]]] = frozenset(
    (
        *_BOTH,
        ProveRam,
        ClientReleased,
        FileData,
        OpenStream,
        Locate,
        Release,
        CloseMemory,
    )
)
"""What a host sends in an established session, besides `Goodbye`, which ends it."""
FROM_GUEST: Final[frozenset[type[Frame]]] = frozenset(
    (*_BOTH, RamProof, ClientOpened, Located, Released)
)
"""What a guest sends in an established session, besides `Goodbye`, which ends it."""
_KINDS_FROM_HOST: Final = frozenset((AttachmentKind.STREAM, AttachmentKind.FILE))
_KINDS_FROM_GUEST: Final = frozenset(
    (AttachmentKind.STREAM, AttachmentKind.MEMORY, AttachmentKind.OTHER)
)


class SessionLost(ChannelError):  # noqa: N818 - an event more than an error
    """The agent was restarted, or lost its place: the host must start over."""


class HostState(Enum):
    """Where the host's end is."""

    CLOSED = "closed"
    """Before `start`, after `Goodbye` of either side, and after any error."""
    CONNECTING = "connecting"
    """`Hello` is out; everything but its `HelloAck` is skipped."""
    ESTABLISHED = "established"


class GuestState(Enum):
    """Where the guest's end is."""

    SCANNING = "scanning"
    """No session; everything but a `Hello` is skipped."""
    OFFERED = "offered"
    """A `Hello` was returned and waits for `accept`."""
    ESTABLISHED = "established"
    RESYNCING = "resyncing"
    """The host wrote padding: its next `Hello` says if it is a new session."""


_HOST_RECEIVES: Final[dict[tuple[HostState, type[Frame]], HostState]] = {
    (HostState.CONNECTING, HelloAck): HostState.ESTABLISHED,
    (HostState.ESTABLISHED, Goodbye): HostState.CLOSED,
    **{(HostState.ESTABLISHED, kind): HostState.ESTABLISHED for kind in FROM_GUEST},
}
_HOST_SENDS: Final[dict[tuple[HostState, type[Frame]], HostState]] = {
    (HostState.ESTABLISHED, Goodbye): HostState.CLOSED,
    **{(HostState.ESTABLISHED, kind): HostState.ESTABLISHED for kind in FROM_HOST},
}
_GUEST_RECEIVES: Final[dict[tuple[GuestState, type[Frame]], GuestState]] = {
    (GuestState.ESTABLISHED, Goodbye): GuestState.SCANNING,
    **{(GuestState.ESTABLISHED, kind): GuestState.ESTABLISHED for kind in FROM_HOST},
}
_GUEST_SENDS: Final[dict[tuple[GuestState, type[Frame]], GuestState]] = {
    (state, kind): GuestState.SCANNING if kind is Goodbye else state
    for state in (GuestState.ESTABLISHED, GuestState.RESYNCING)
    for kind in (*FROM_GUEST, Goodbye)
}


class HostSession:
    """The host's end of the channel."""

    __slots__ = ("_decoder", "_hello", "_scanner", "_state")

    def __init__(self) -> None:
        self._state = HostState.CLOSED
        self._hello: Hello | None = None
        self._scanner: Scanner | None = None
        self._decoder = FrameDecoder()

    @property
    def state(self) -> HostState:
        """Where the session is."""
        return self._state

    def start(self, hello: Hello) -> bytes:
        """Begin a session, in any state; return what to write.

        `hello.nonce` must be new and random: by it alone is the answer known.

        Raises:
            LocalProtocolError: `hello` cannot be encoded.
        """
        data = bytes(RESYNC_PADDING) + encode_frame(hello)
        self._hello = hello
        self._scanner = Scanner(FrameType.HELLO_ACK, hello.nonce)
        self._decoder = FrameDecoder()
        self._state = HostState.CONNECTING
        return data

    def repeat_hello(self) -> bytes:
        """Return what to write again, each second or so until the agent answers.

        Padding included: an agent that took stale bytes for a session may be waiting
        for the rest of a frame.  One that did see the first `Hello` ignores this.
        It must be written whole, whatever comes in meanwhile.

        Raises:
            LocalProtocolError: not connecting.
        """
        if self._state is not HostState.CONNECTING or self._hello is None:
            raise LocalProtocolError(f"repeated Hello while {self._state.value}")
        return bytes(RESYNC_PADDING) + encode_frame(self._hello)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append what was received; drain `next_frame` after each call.

        What comes while the session is closed is dropped: nothing in it can be meant
        for the next one.
        """
        if self._scanner is not None:
            self._scanner.feed(data)
        elif self._state is HostState.ESTABLISHED:
            self._decoder.feed(data)

    def next_frame(self) -> Frame | None:
        """Take the next frame; the first of a session is the agent's `HelloAck`.

        After `Goodbye`, and after an error, the session is closed.

        Raises:
            SessionLost: the agent starts over; `start` a new session.
            ChannelError: the agent broke the protocol, or speaks another version.
        """
        try:
            frame = self._next_frame()
        except ChannelError:
            self._close()
            raise
        if self._state is HostState.CLOSED:
            self._close()
        return frame

    def encode(self, frame: Frame) -> bytes:
        """Encode a frame that the host may send now.  `Goodbye` closes the session.

        Raises:
            LocalProtocolError: it may not, or the frame is wrong in itself.
        """
        state = _HOST_SENDS.get((self._state, type(frame)))
        if state is None:
            raise LocalProtocolError(
                f"host sends {type(frame).__name__} while {self._state.value}"
            )
        if wrong := _attachment_fault(frame, _KINDS_FROM_HOST, stream_parity=1):
            raise LocalProtocolError(wrong)
        data = encode_frame(frame)
        self._state = state
        if state is HostState.CLOSED:
            self._close()
        return data

    def _next_frame(self) -> Frame | None:
        frame: Frame | Resync | None
        if self._scanner is not None:
            frame = self._scanner.next_frame()
            if isinstance(frame, HelloAck):
                self._check_ack(frame)
                self._decoder.feed(self._scanner.take_rest())
                self._scanner = None
        else:
            frame = self._decoder.next_frame()
        if frame is None:
            return None
        if isinstance(frame, Resync):
            raise SessionLost("the guest agent was restarted")
        state = _HOST_RECEIVES.get((self._state, type(frame)))
        if state is None:
            raise ChannelError(
                f"guest sent {type(frame).__name__} while {self._state.value}"
            )
        if wrong := _attachment_fault(frame, _KINDS_FROM_GUEST, stream_parity=0):
            raise ChannelError(f"guest sent {wrong}")
        self._state = state
        return frame

    def _check_ack(self, ack: HelloAck) -> None:
        if ack.version[0] != VERSION_MAJOR:
            older = "the guest's agent"
            if ack.version[0] > VERSION_MAJOR:
                older = "the host's wlproxy"
            raise ChannelError(
                f"the guest agent speaks version {ack.version[0]}.{ack.version[1]} of "
                f"the channel protocol, this host version {VERSION_MAJOR}: "
                f"update {older}"
            )
        if self._hello is not None and ack.features & ~self._hello.features:
            raise ChannelError(f"guest took features nobody offered: {ack.features!r}")

    def _close(self) -> None:
        self._state = HostState.CLOSED
        self._scanner = None
        self._decoder = FrameDecoder()


class GuestSession:
    """The guest's end of the channel."""

    __slots__ = ("_decoder", "_hello", "_scanner", "_state")

    def __init__(self) -> None:
        self._state = GuestState.SCANNING
        self._hello: Hello | None = None
        self._scanner = Scanner(FrameType.HELLO)
        self._decoder = FrameDecoder()

    @property
    def state(self) -> GuestState:
        """Where the session is."""
        return self._state

    def announce(self) -> bytes:
        """Forget any session; return the padding by which the host will notice.

        To be written first when the agent starts, and after a `ChannelError`.
        """
        self.reset()
        return bytes(RESYNC_PADDING)

    def reset(self) -> None:
        """Forget any session: the host has gone, so there is nobody to tell."""
        self._scan(GuestState.SCANNING)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append what was received; drain `next_frame` after each call."""
        if self._state in (GuestState.SCANNING, GuestState.RESYNCING):
            self._scanner.feed(data)
        else:
            self._decoder.feed(data)

    def next_frame(self) -> Frame | None:
        """Take the next frame.

        A `Hello` begins a new session and ends the one before, if any: drop its
        clients, then `accept`.  After a `ChannelError` the session is over and the
        next `Hello` is looked for, in what was already received too.

        Raises:
            ChannelError: the host broke the protocol; write `announce()`.
            LocalProtocolError: a `Hello` was not accepted.
        """
        if self._state is GuestState.OFFERED:
            raise LocalProtocolError("Hello was not accepted")
        try:
            while True:
                if self._state is not GuestState.ESTABLISHED:
                    frame: Frame | Resync | None = self._scanner.next_frame()
                else:
                    frame = self._decoder.next_frame()
                if isinstance(frame, Resync):
                    self._scan(GuestState.RESYNCING)
                elif isinstance(frame, Hello):
                    if self._offered(frame):
                        return frame
                else:
                    return self._received(frame)
        except ChannelError:
            self._scan(GuestState.SCANNING)
            raise

    def accept(self, ack: HelloAck) -> bytes:
        """Answer the `Hello` that `next_frame` returned; return what to write.

        To a host of another major version the answer is how it learns ours; there is
        no session then.

        Raises:
            LocalProtocolError: there is no `Hello`, or `ack` does not answer it.
        """
        hello = self._hello
        if self._state is not GuestState.OFFERED or hello is None:
            raise LocalProtocolError(f"HelloAck while {self._state.value}")
        if ack.nonce != hello.nonce or ack.version[0] != VERSION_MAJOR:
            raise LocalProtocolError("HelloAck with another nonce or version")
        if hello.version[0] != VERSION_MAJOR:
            self._scan(GuestState.SCANNING)
            return encode_frame(ack)
        if ack.features & ~hello.features:
            raise LocalProtocolError(f"features nobody offered: {ack.features!r}")
        data = encode_frame(ack)
        self._state = GuestState.ESTABLISHED
        return data

    def encode(self, frame: Frame) -> bytes:
        """Encode a frame that the guest may send now.  `Goodbye` ends the session.

        Raises:
            LocalProtocolError: it may not, or the frame is wrong in itself.
        """
        state = _GUEST_SENDS.get((self._state, type(frame)))
        if state is None:
            raise LocalProtocolError(
                f"guest sends {type(frame).__name__} while {self._state.value}"
            )
        if wrong := _attachment_fault(frame, _KINDS_FROM_GUEST, stream_parity=0):
            raise LocalProtocolError(wrong)
        data = encode_frame(frame)
        if state is GuestState.SCANNING:
            self._scan(state)
        return data

    def _offered(self, hello: Hello) -> bool:
        """Take a `Hello`; False if it is a repetition, after which all goes on."""
        if self._state is not GuestState.ESTABLISHED:
            self._decoder.feed(self._scanner.take_rest())
        if self._hello is not None and hello.nonce == self._hello.nonce:
            self._state = GuestState.ESTABLISHED
            return False
        self._hello = hello
        self._state = GuestState.OFFERED
        return True

    def _received(self, frame: Frame | None) -> Frame | None:
        if frame is None:
            return None
        state = _GUEST_RECEIVES.get((self._state, type(frame)))
        if state is None:
            raise ChannelError(f"host sent {type(frame).__name__}")
        if wrong := _attachment_fault(frame, _KINDS_FROM_HOST, stream_parity=1):
            raise ChannelError(f"host sent {wrong}")
        if state is GuestState.SCANNING:
            self._scan(state)
        return frame

    def _scan(self, state: GuestState) -> None:
        """Go to a scanning state, with what is not decoded yet."""
        self._scanner.feed(self._decoder.take_rest())
        self._state = state
        if state is GuestState.SCANNING:
            self._hello = None


def _attachment_fault(
    frame: Frame, kinds: frozenset[AttachmentKind], stream_parity: int
) -> str:
    """Say which attachment may not go this way; the empty string if all may."""
    if not isinstance(frame, Data):
        return ""
    for attachment in frame.attachments:
        if attachment.kind not in kinds or _foreign(attachment, stream_parity):
            return f"attachment {attachment.kind.name} {attachment.object_id}"
    return ""


def _foreign(attachment: Attachment, stream_parity: int) -> bool:
    is_stream = attachment.kind is AttachmentKind.STREAM
    return is_stream and attachment.object_id % 2 != stream_parity
