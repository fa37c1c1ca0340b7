"""One end of a session: how it begins, which frame is legal when, how it ends.

Sans-IO, and one class for both ends.  Bytes go in through `feed`, which neither parses nor
raises; frames come out of `next_frame`; `encode` checks that a frame may be sent now.
`layouts` says which side sends which frame.  Not here: credit and order (`lanes`), what ids
mean (the relay, the agent), time-outs (the shells).
"""

from enum import Enum
from typing import Final

from wlproxy.protocol.channel.codec import FrameDecoder, Resync, encode_frame
from wlproxy.protocol.channel.frames import (
    RESYNC_PADDING,
    VERSION_MAJOR,
    Attachment,
    AttachmentKind,
    Data,
    Feature,
    Frame,
    FrameType,
    Goodbye,
    Hello,
    HelloAck,
    Side,
)
from wlproxy.protocol.channel.hello_scanner import Scanner
from wlproxy.protocol.channel.layouts import LAYOUTS
from wlproxy.protocol.errors import ChannelError, LocalProtocolError


class SessionLost(ChannelError):  # noqa: N818 - an event more than an error
    """The agent was restarted, or lost its place: the host must start over."""


class SessionState(Enum):
    """The states of one end of the channel."""

    CLOSED = "closed"
    """Host: before `start`, after `Goodbye` of either side, and after any error."""
    CONNECTING = "connecting"
    """Host: `Hello` is out; everything but its `HelloAck` is skipped."""
    SCANNING = "scanning"
    """Guest: no session; everything but a `Hello` is skipped."""
    OFFERED = "offered"
    """Guest: a `Hello` was returned and waits for `accept`."""
    ESTABLISHED = "established"
    RESYNCING = "resyncing"
    """Guest: the host wrote padding; its next `Hello` says if it is a new session."""


_IDLE: Final = {Side.HOST: SessionState.CLOSED, Side.GUEST: SessionState.SCANNING}
"""Where each side is without a session."""
_SEARCHING: Final = (
    SessionState.CONNECTING,
    SessionState.SCANNING,
    SessionState.RESYNCING,
)
"""A handshake frame is looked for, and all else is skipped."""
_SENDING: Final = (SessionState.ESTABLISHED, SessionState.RESYNCING)
IN_SESSION: Final[dict[Side, frozenset[type[Frame]]]] = {
    side: frozenset(
        layout.kind
        for layout in LAYOUTS.values()
        if side in layout.senders and layout.kind not in (Hello, HelloAck)
    )
    for side in Side
}
"""What each side sends in an established session; `Goodbye` ends it."""
_NEEDS: Final = {
    layout.kind: layout.needs for layout in LAYOUTS.values() if layout.needs
}
_KINDS: Final = {
    Side.HOST: frozenset((AttachmentKind.STREAM, AttachmentKind.FILE)),
    Side.GUEST: frozenset(
        (AttachmentKind.STREAM, AttachmentKind.MEMORY, AttachmentKind.OTHER)
    ),
}
STREAM_PARITY: Final = {Side.HOST: 1, Side.GUEST: 0}
"""Stream ids modulo 2, by who names the stream."""


class Session:
    """One end of the channel.

    Attributes:
        state: where the session is; set here alone.
    """

    __slots__ = (
        "_decoder",
        "_hello",
        "_ours",
        "_scanner",
        "_side",
        "_theirs",
        "state",
    )

    def __init__(self, side: Side) -> None:
        """Begin as the host's end, which starts sessions, or the guest's, which answers."""
        self._side = side
        # Looked up once: the hash of an Enum is a call.
        self._ours, self._theirs = IN_SESSION[side], IN_SESSION[side.peer]
        self.state = _IDLE[side]
        self._hello: Hello | None = None
        self._scanner = Scanner(FrameType.HELLO)
        self._decoder = FrameDecoder()

    # ---------------------------------------------------------------- host

    def start(self, hello: Hello) -> bytes:
        """Begin a session, in any state; return what to write.  Host only.

        `hello.nonce` must be new and random: by it alone is the answer known.

        Raises:
            LocalProtocolError: `hello` cannot be encoded.
        """
        self._expect_side(Side.HOST, "Hello")
        data = bytes(RESYNC_PADDING) + encode_frame(hello)
        self._hello = hello
        self._scanner = Scanner(FrameType.HELLO_ACK, hello.nonce)
        self._decoder = FrameDecoder()
        self.state = SessionState.CONNECTING
        return data

    def repeat_hello(self) -> bytes:
        """Return what to write again, each second or so until the agent answers.

        Padding included: an agent that took stale bytes for a session may be waiting
        for the rest of a frame.  One that did see the first `Hello` ignores this.
        It must be written whole, whatever comes in meanwhile.

        Raises:
            LocalProtocolError: not connecting.
        """
        if self.state is not SessionState.CONNECTING or self._hello is None:
            raise LocalProtocolError(f"repeated Hello while {self.state.value}")
        return bytes(RESYNC_PADDING) + encode_frame(self._hello)

    # ---------------------------------------------------------------- guest

    def announce(self) -> bytes:
        """Forget any session; return the padding by which the host will notice.

        To be written first when the agent starts, and after a `ChannelError`.
        """
        self.reset()
        return bytes(RESYNC_PADDING)

    def reset(self) -> None:
        """Forget any session: the host has gone, so there is nobody to tell."""
        self._expect_side(Side.GUEST, "padding")
        self._scan(SessionState.SCANNING)

    def accept(self, ack: HelloAck) -> bytes:
        """Answer the `Hello` that `next_frame` returned; return what to write.

        To a host of another major version the answer is how it learns ours; there is
        no session then.

        Raises:
            LocalProtocolError: there is no `Hello`, or `ack` does not answer it.
        """
        hello = self._hello
        if self.state is not SessionState.OFFERED or hello is None:
            raise LocalProtocolError(f"HelloAck while {self.state.value}")
        if ack.nonce != hello.nonce or ack.version[0] != VERSION_MAJOR:
            raise LocalProtocolError("HelloAck with another nonce or version")
        if hello.version[0] != VERSION_MAJOR:
            self._scan(SessionState.SCANNING)
            return encode_frame(ack)
        if ack.features & ~hello.features:
            raise LocalProtocolError(f"features nobody offered: {ack.features!r}")
        data = encode_frame(ack)
        self._establish(ack.features)
        return data

    # ---------------------------------------------------------------- both

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append what was received; drain `next_frame` after each call.

        What comes while the host's end is closed is dropped: nothing in it can be meant
        for the next session.
        """
        if self.state in _SEARCHING:
            self._scanner.feed(data)
        elif self.state is not SessionState.CLOSED:
            self._decoder.feed(data)

    def next_frame(self) -> Frame | None:
        """Take the next frame.

        The first of a session is `HelloAck` for the host and `Hello` for the guest, where
        it ends the session before, if any: drop its clients, then `accept`.  After
        `Goodbye`, and after an error, the session is over: the host may `start` another,
        the guest looks for the next `Hello` in what was already received, too.

        Raises:
            SessionLost: the agent starts over; `start` a new session.
            ChannelError: the peer broke the protocol, or speaks another version; the
                guest writes `announce()`.
            LocalProtocolError: a `Hello` was not accepted.
        """
        if self.state is SessionState.OFFERED:
            raise LocalProtocolError("Hello was not accepted")
        try:
            while True:
                source = self._scanner if self.state in _SEARCHING else self._decoder
                frame: Frame | Resync | None = source.next_frame()
                match frame:
                    case None:
                        return None
                    case Resync():
                        if self._side is Side.HOST:
                            raise SessionLost("the guest agent was restarted")
                        self._scan(SessionState.RESYNCING)
                    case HelloAck() if self.state is SessionState.CONNECTING:
                        return self._acknowledged(frame)
                    case Hello() if self._side is Side.GUEST:
                        if self._offered(frame):
                            return frame
                    case _:
                        return self._received(frame)
        except ChannelError:
            self._end()
            raise

    def encode(self, frame: Frame) -> bytes:
        """Encode a frame that we may send now.  `Goodbye` ends the session.

        Raises:
            LocalProtocolError: we may not, or the frame is wrong in itself.
        """
        if self.state not in _SENDING or type(frame) not in self._ours:
            raise LocalProtocolError(
                f"{self._side.value} sends {type(frame).__name__}"
                f" while {self.state.value}"
            )
        attached = isinstance(frame, Data) and frame.attachments
        if attached and (wrong := _attachment_fault(attached, self._side)):
            raise LocalProtocolError(wrong)
        data = encode_frame(frame)
        if isinstance(frame, Goodbye):
            self._end()
        return data

    def _acknowledged(self, ack: HelloAck) -> HelloAck:
        """Take the answer to our `Hello`."""
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
        self._decoder.feed(self._scanner.take_rest())
        self._establish(ack.features)
        return ack

    def _establish(self, features: Feature) -> None:
        """Begin a session in which the frames of these features may be sent."""
        lacking = {kind for kind, needs in _NEEDS.items() if needs not in features}
        self._ours = IN_SESSION[self._side] - lacking
        self._theirs = IN_SESSION[self._side.peer] - lacking
        self.state = SessionState.ESTABLISHED

    def _offered(self, hello: Hello) -> bool:
        """Take a `Hello`; False if it repeats the last one and the session goes on."""
        if self.state is not SessionState.ESTABLISHED:
            self._decoder.feed(self._scanner.take_rest())
        if self._hello is not None and hello.nonce == self._hello.nonce:
            self.state = SessionState.ESTABLISHED
            return False
        self._hello = hello
        self.state = SessionState.OFFERED
        return True

    def _received(self, frame: Frame) -> Frame:
        if type(frame) not in self._theirs:
            raise ChannelError(f"{self._side.peer.value} sent {type(frame).__name__}")
        attached = isinstance(frame, Data) and frame.attachments
        if attached and (wrong := _attachment_fault(attached, self._side.peer)):
            raise ChannelError(f"{self._side.peer.value} sent {wrong}")
        if isinstance(frame, Goodbye):
            self._end()
        return frame

    def _end(self) -> None:
        """Go to where there is no session."""
        if self._side is Side.GUEST:
            self._scan(SessionState.SCANNING)
            return
        self.state = SessionState.CLOSED
        self._decoder = FrameDecoder()

    def _scan(self, state: SessionState) -> None:
        """Go to a scanning state, with what is not decoded yet."""
        self._scanner.feed(self._decoder.take_rest())
        self.state = state
        if state is SessionState.SCANNING:
            self._hello = None

    def _expect_side(self, side: Side, what: str) -> None:
        if self._side is not side:
            raise LocalProtocolError(f"{self._side.value} sends {what}")


def _attachment_fault(attachments: tuple[Attachment, ...], sender: Side) -> str:
    """Say which attachment may not go this way; the empty string if all may."""
    for attachment in attachments:
        named_by_peer = (
            attachment.kind is AttachmentKind.STREAM
            and attachment.object_id % 2 != STREAM_PARITY[sender]
        )
        if attachment.kind not in _KINDS[sender] or named_by_peer:
            return f"attachment {attachment.kind.name} {attachment.object_id}"
    return ""
