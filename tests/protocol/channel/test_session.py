"""Session, both sides of it: every (state, frame) pair, and every way to start over."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.strategies import (
    GUEST_FRAMES,
    HOST_FRAMES,
    chunked,
    frames,
    guest_frames,
    host_frames,
)
from wlproxy.protocol.channel.codec import encode_frame
from wlproxy.protocol.channel.frames import (
    RESYNC_PADDING,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    CloseReason,
    Data,
    Feature,
    Frame,
    Goodbye,
    Hello,
    HelloAck,
    Launch,
    LauncherOpened,
    Ping,
    Pong,
    ReadMemory,
    Side,
)
from wlproxy.protocol.channel.session import (
    Session,
    SessionLost,
    SessionState,
)
from wlproxy.protocol.errors import ChannelError, LocalProtocolError

BYE = Goodbye(CloseReason.NORMAL, "")
FEATURES = Feature.LOCATE_MEMFD | Feature.EXEC | Feature.READ_MEMORY
HOST_STATES = {
    SessionState.CLOSED,
    SessionState.CONNECTING,
    SessionState.ESTABLISHED,
}
GUEST_STATES = {
    SessionState.SCANNING,
    SessionState.OFFERED,
    SessionState.ESTABLISHED,
    SessionState.RESYNCING,
}
LEGAL_FROM_HOST = HOST_FRAMES.keys() - {Hello}
LEGAL_FROM_GUEST = GUEST_FRAMES.keys() - {HelloAck}


def hello(number: int = 0, version: tuple[int, int] = (1, 0)) -> Hello:
    return Hello(bytes([number] * 16), version, FEATURES, 65536, 65536, 9)


def ack(
    number: int = 0,
    version: tuple[int, int] = (1, 0),
    features: Feature = FEATURES,
) -> HelloAck:
    return HelloAck(
        bytes([number] * 16), version, features, 4096, 65536, 65536, 0, "test"
    )


def host_in(state: SessionState) -> Session:
    host = Session(Side.HOST)
    if state is not SessionState.CLOSED:
        host.start(hello())
    if state is SessionState.ESTABLISHED:
        host.feed(encode_frame(ack()))
        assert host.next_frame() == ack()
    assert host.state is state
    return host


def guest_in(state: SessionState) -> Session:
    guest = Session(Side.GUEST)
    if state is not SessionState.SCANNING:
        guest.feed(encode_frame(hello()))
        assert guest.next_frame() == hello()
    if state in (SessionState.ESTABLISHED, SessionState.RESYNCING):
        guest.accept(ack())
    if state is SessionState.RESYNCING:
        guest.feed(bytes(100))
        assert guest.next_frame() is None
    assert guest.state is state
    return guest


# ------------------------------------------------- every state, every frame

EVERY_FRAME = (
    HOST_FRAMES | GUEST_FRAMES | {Data: HOST_FRAMES[Data] | GUEST_FRAMES[Data]}
)


def every_frame(test: Callable[..., None]) -> Callable[..., None]:
    drawn = settings(max_examples=5)(given(data=st.data())(test))
    by_name = {kind.__name__: kind for kind in EVERY_FRAME}
    mark = pytest.mark.parametrize("kind", by_name.values(), ids=by_name)
    return mark(drawn)  # type: ignore[no-any-return]


@every_frame
@pytest.mark.parametrize("state", HOST_STATES)
def test_host_sends_what_is_legal(
    state: SessionState, kind: type[Frame], data: st.DataObject
) -> None:
    frame = data.draw(EVERY_FRAME[kind])
    host = host_in(state)
    legal = state is SessionState.ESTABLISHED and type(frame) in LEGAL_FROM_HOST
    if legal and from_host(frame):
        assert host.encode(frame) == encode_frame(frame)
        ended = isinstance(frame, Goodbye)
        assert host.state is (SessionState.CLOSED if ended else state)
    else:
        with pytest.raises(LocalProtocolError):
            host.encode(frame)
        assert host.state is state


@every_frame
@pytest.mark.parametrize("state", HOST_STATES)
def test_host_receives_what_is_legal(
    state: SessionState, kind: type[Frame], data: st.DataObject
) -> None:
    frame = data.draw(EVERY_FRAME[kind])
    assume(not (isinstance(frame, HelloAck) and frame.nonce == ack().nonce))
    host = host_in(state)
    host.feed(encode_frame(frame))
    if state is not SessionState.ESTABLISHED:
        assert host.next_frame() is None
        assert host.state is state
    elif type(frame) in LEGAL_FROM_GUEST and from_guest(frame):
        assert host.next_frame() == frame
        ended = isinstance(frame, Goodbye)
        assert host.state is (SessionState.CLOSED if ended else state)
    else:
        with pytest.raises(ChannelError, match="guest sent"):
            host.next_frame()
        assert host.state is SessionState.CLOSED
        assert host.next_frame() is None


@every_frame
@pytest.mark.parametrize("state", GUEST_STATES)
def test_guest_sends_what_is_legal(
    state: SessionState, kind: type[Frame], data: st.DataObject
) -> None:
    frame = data.draw(EVERY_FRAME[kind])
    guest = guest_in(state)
    alive = state in (SessionState.ESTABLISHED, SessionState.RESYNCING)
    if alive and type(frame) in LEGAL_FROM_GUEST and from_guest(frame):
        assert guest.encode(frame) == encode_frame(frame)
        ended = isinstance(frame, Goodbye)
        assert guest.state is (SessionState.SCANNING if ended else state)
    else:
        with pytest.raises(LocalProtocolError):
            guest.encode(frame)
        assert guest.state is state


@every_frame
@pytest.mark.parametrize("state", GUEST_STATES - {SessionState.OFFERED})
def test_guest_receives_what_is_legal(
    state: SessionState, kind: type[Frame], data: st.DataObject
) -> None:
    frame = data.draw(EVERY_FRAME[kind])
    assume(not (isinstance(frame, Hello) and frame.nonce == hello().nonce))
    guest = guest_in(state)
    guest.feed(encode_frame(frame))
    if isinstance(frame, Hello):
        assert guest.next_frame() == frame
        assert guest.state is SessionState.OFFERED
    elif state is not SessionState.ESTABLISHED:
        assert guest.next_frame() is None
        assert guest.state is state
    elif type(frame) in LEGAL_FROM_HOST and from_host(frame):
        assert guest.next_frame() == frame
        ended = isinstance(frame, Goodbye)
        assert guest.state is (SessionState.SCANNING if ended else state)
    else:
        with pytest.raises(ChannelError, match="host sent"):
            guest.next_frame()
        assert guest.state is SessionState.SCANNING
        assert guest.next_frame() is None


def from_host(frame: Frame) -> bool:
    """The strategies never draw attachments that may go both ways, by their kind."""
    guests = (AttachmentKind.MEMORY, AttachmentKind.OTHER)
    return not isinstance(frame, Data) or all(
        one.object_id % 2
        if one.kind is AttachmentKind.STREAM
        else one.kind not in guests
        for one in frame.attachments
    )


def from_guest(frame: Frame) -> bool:
    return not isinstance(frame, Data) or all(
        one.object_id % 2 == 0
        if one.kind is AttachmentKind.STREAM
        else one.kind is not AttachmentKind.FILE
        for one in frame.attachments
    )


def test_guest_waits_for_accept() -> None:
    guest = guest_in(SessionState.OFFERED)
    with pytest.raises(LocalProtocolError, match="not accepted"):
        guest.next_frame()


def test_frames_behind_a_goodbye_are_not_read() -> None:
    host = host_in(SessionState.ESTABLISHED)
    host.feed(encode_frame(BYE) + encode_frame(Ping(1)))
    assert host.next_frame() == BYE
    host.feed(encode_frame(Ping(2)))
    assert host.next_frame() is None
    guest = guest_in(SessionState.ESTABLISHED)
    guest.feed(encode_frame(BYE) + encode_frame(Ping(1)))
    assert guest.next_frame() == BYE
    assert guest.next_frame() is None


def test_a_host_that_said_goodbye_may_start_again() -> None:
    host = host_in(SessionState.ESTABLISHED)
    guest = guest_in(SessionState.ESTABLISHED)
    guest.feed(host.encode(BYE) + host.start(hello(1)))
    assert guest.next_frame() == BYE
    assert guest.next_frame() == hello(1)
    host.feed(guest.accept(ack(1)))
    assert host.next_frame() == ack(1)


# ----------------------------------------------------- versions, features


@pytest.mark.parametrize(
    ("version", "update"),
    [((0, 9), "update the guest's agent"), ((2, 5), "update the host's wlproxy")],
)
def test_an_agent_of_another_major_version(
    version: tuple[int, int], update: str
) -> None:
    host = host_in(SessionState.CONNECTING)
    host.feed(encode_frame(ack(version=version)))
    speaks = f"agent speaks version {version[0]}\\.{version[1]} .* version 1: {update}$"
    with pytest.raises(ChannelError, match=speaks):
        host.next_frame()
    assert host.state is SessionState.CLOSED


def test_a_host_of_another_major_version_learns_ours() -> None:
    guest = Session(Side.GUEST)
    guest.feed(encode_frame(hello(version=(2, 0))) + encode_frame(hello(1)))
    offer = guest.next_frame()
    assert isinstance(offer, Hello)
    assert offer.version == (2, 0)
    assert guest.accept(ack(features=Feature.NONE)) == encode_frame(
        ack(features=Feature.NONE)
    )
    assert guest.state is SessionState.SCANNING
    assert guest.next_frame() == hello(1)


def test_another_minor_version_is_fine() -> None:
    guest = Session(Side.GUEST)
    guest.feed(encode_frame(hello(version=(1, 9))))
    assert guest.next_frame() == hello(version=(1, 9))
    host = host_in(SessionState.CONNECTING)
    host.feed(encode_frame(ack(version=(1, 8))))
    assert host.next_frame() == ack(version=(1, 8))


def test_features_must_have_been_offered() -> None:
    greedy = ack(features=Feature.LOCATE_DMABUF)
    host = host_in(SessionState.CONNECTING)
    host.feed(encode_frame(greedy))
    with pytest.raises(ChannelError, match="nobody offered"):
        host.next_frame()
    with pytest.raises(LocalProtocolError, match="nobody offered"):
        guest_in(SessionState.OFFERED).accept(greedy)


@pytest.mark.parametrize("wrong", [ack(1), ack(version=(2, 0))])
def test_an_ack_answers_its_hello(wrong: HelloAck) -> None:
    with pytest.raises(LocalProtocolError, match="another nonce or version"):
        guest_in(SessionState.OFFERED).accept(wrong)


@pytest.mark.parametrize("state", GUEST_STATES - {SessionState.OFFERED})
def test_accept_without_a_hello(state: SessionState) -> None:
    with pytest.raises(LocalProtocolError, match="HelloAck while"):
        guest_in(state).accept(ack())


@pytest.mark.parametrize("state", [SessionState.CLOSED, SessionState.ESTABLISHED])
def test_hello_is_repeated_only_while_connecting(state: SessionState) -> None:
    with pytest.raises(LocalProtocolError, match="repeated Hello"):
        host_in(state).repeat_hello()


# ------------------------------------------------------------ starting over


class Wire:
    """A host and a guest, and the two directions between them."""

    def __init__(self, host: Session, guest: Session) -> None:
        self.host, self.guest = host, guest
        self.nonces = 100
        self.to_guest, self.to_host = b"", b""

    def start(self) -> None:
        self.nonces += 1
        self.to_guest += self.host.start(hello(self.nonces))

    def run(self) -> None:
        """Do what two shells do, a few seconds long, until all is quiet."""
        for _ in range(8):
            self.guest_turn()
            self.host_turn()
            if self.host.state is SessionState.CONNECTING:
                self.to_guest += self.host.repeat_hello()

    def guest_turn(self) -> None:
        self.guest.feed(self.to_guest)
        self.to_guest = b""
        while True:
            try:
                frame = self.guest.next_frame()
            except ChannelError:
                self.to_host += self.guest.announce()
                continue
            if frame is None:
                return
            if isinstance(frame, Hello):
                answer = HelloAck(
                    frame.nonce, (1, 0), Feature.NONE, 4096, 65536, 65536, 0, "test"
                )
                self.to_host += self.guest.accept(answer)

    def host_turn(self) -> None:
        self.host.feed(self.to_host)
        self.to_host = b""
        try:
            while self.host.next_frame() is not None:
                pass
        except ChannelError:
            pass
        if self.host.state is SessionState.CLOSED:
            self.start()

    def check(self) -> None:
        """Both are in the same session, and bytes mean the same to both."""
        assert self.host.state is SessionState.ESTABLISHED
        assert self.guest.state is SessionState.ESTABLISHED
        self.guest.feed(self.host.encode(Ping(1)))
        assert self.guest.next_frame() == Ping(1)
        self.host.feed(self.guest.encode(Pong(1)))
        assert self.host.next_frame() == Pong(1)
        assert self.guest.next_frame() is None
        assert self.host.next_frame() is None


@st.composite
def cut_streams(draw: st.DrawFn, values: st.SearchStrategy[Frame]) -> bytes:
    """A few frames of an earlier session, from anywhere in one to anywhere in another."""
    stream = b"".join(map(encode_frame, draw(st.lists(values, max_size=4))))
    start = draw(st.integers(0, len(stream)))
    return stream[start : draw(st.integers(start, len(stream)))]


stale_for_guest = cut_streams(host_frames) | st.binary(max_size=100)
stale_for_host = cut_streams(guest_frames) | st.binary(max_size=100)


@given(stale_for_guest, stale_for_host)
def test_both_start_among_stale_bytes(for_guest: bytes, for_host: bytes) -> None:
    wire = Wire(Session(Side.HOST), Session(Side.GUEST))
    wire.to_guest, wire.to_host = for_guest, for_host + wire.guest.announce()
    wire.start()
    wire.run()
    wire.check()


@given(host_frames, guest_frames, st.data())
def test_host_restarts_in_the_middle_of_frames(
    outgoing: Frame, incoming: Frame, data: st.DataObject
) -> None:
    sent, coming = encode_frame(outgoing), encode_frame(incoming)
    wire = Wire(Session(Side.HOST), guest_in(SessionState.ESTABLISHED))
    wire.to_guest = sent[: data.draw(st.integers(0, len(sent)))]
    # What the agent wrote to the old host reaches the new one from anywhere in a frame.
    wire.to_host = coming[data.draw(st.integers(0, len(coming))) :]
    wire.start()
    wire.run()
    wire.check()


@given(host_frames, guest_frames, st.data())
def test_agent_restarts_in_the_middle_of_frames(
    outgoing: Frame, incoming: Frame, data: st.DataObject
) -> None:
    sent, coming = encode_frame(outgoing), encode_frame(incoming)
    wire = Wire(host_in(SessionState.ESTABLISHED), Session(Side.GUEST))
    wire.to_guest = sent[data.draw(st.integers(0, len(sent))) :]
    cut = coming[: data.draw(st.integers(0, len(coming)))]
    wire.to_host = cut + wire.guest.announce()
    wire.run()
    wire.check()


@given(st.lists(st.integers(0, 200), min_size=1, max_size=4), st.data())
def test_agent_opens_a_port_that_lost_bytes(
    keep: list[int], data: st.DataObject
) -> None:
    """Any part of each earlier write may be missing, padding too."""
    wire = Wire(Session(Side.HOST), Session(Side.GUEST))
    for most in keep:
        wire.start()
        # All but the last bytes of the padding are like those of none.
        kept = wire.to_guest[-data.draw(st.integers(1, 200)) :]
        wire.to_guest = kept[:most]
    wire.to_host = wire.guest.announce()
    wire.run()
    wire.check()


def test_agent_believes_a_session_that_is_long_gone() -> None:
    """A whole stale Hello, then a header that promises far more than comes."""
    wire = Wire(Session(Side.HOST), Session(Side.GUEST))
    big = encode_frame(Data(1, bytes(60000)))
    wire.to_guest = encode_frame(hello(1)) + big[:20]
    host = Session(Side.HOST)
    wire.to_guest += host.start(hello(2))[-70:]  # the rest was lost
    wire.host = host
    wire.run()
    wire.check()


def test_a_repeated_hello_disturbs_nothing() -> None:
    host, guest = Session(Side.HOST), Session(Side.GUEST)
    guest.feed(host.start(hello()))
    first = host.repeat_hello()
    second = host.repeat_hello()
    assert guest.next_frame() == hello()
    host.feed(guest.accept(ack()))
    assert host.next_frame() == ack()
    # Without padding, with it, and with its end still to come.
    guest.feed(first[RESYNC_PADDING:] + first + second[:-1])
    assert guest.next_frame() is None
    assert guest.state is SessionState.RESYNCING
    host.feed(guest.encode(Ping(7)))
    assert host.next_frame() == Ping(7)
    guest.feed(second[-1:] + host.encode(Pong(7)))
    assert guest.next_frame() == Pong(7)
    assert guest.next_frame() is None


@given(st.data())
def test_any_chunking(data: st.DataObject) -> None:
    host, guest = Session(Side.HOST), Session(Side.GUEST)
    start = bytes(40) + host.start(hello())[RESYNC_PADDING:]
    for chunk in data.draw(chunked(start)):
        assert guest.state is SessionState.SCANNING
        guest.feed(chunk)
        if guest.next_frame() is not None:
            break
    guest.feed(b"")
    answer = bytes(40) + guest.accept(ack()) + guest.encode(Ping(1))
    received = []
    for chunk in data.draw(chunked(answer)):
        host.feed(memoryview(chunk))
        while (frame := host.next_frame()) is not None:
            received.append(frame)
    assert received == [ack(), Ping(1)]


def test_host_notices_a_new_agent() -> None:
    host = host_in(SessionState.ESTABLISHED)
    host.feed(encode_frame(Ping(1)) + Session(Side.GUEST).announce())
    assert host.next_frame() == Ping(1)
    with pytest.raises(SessionLost, match="restarted"):
        host.next_frame()
    assert host.state is SessionState.CLOSED


def test_guest_notices_a_new_host() -> None:
    guest = guest_in(SessionState.ESTABLISHED)
    guest.feed(encode_frame(Ping(1)) + Session(Side.HOST).start(hello(2)))
    assert guest.next_frame() == Ping(1)
    assert guest.next_frame() == hello(2)
    assert guest.state is SessionState.OFFERED


def test_a_reset_guest_takes_the_same_hello_anew() -> None:
    guest = guest_in(SessionState.ESTABLISHED)
    guest.reset()
    guest.feed(encode_frame(hello()))
    assert guest.next_frame() == hello()


def test_each_side_begins_and_answers_as_its_own() -> None:
    with pytest.raises(LocalProtocolError, match="guest sends Hello"):
        Session(Side.GUEST).start(hello())
    with pytest.raises(LocalProtocolError, match="host sends padding"):
        Session(Side.HOST).announce()


def test_attachments_have_a_direction() -> None:
    even = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 2, 0)
    file = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 2, 0)
    host, guest = host_in(SessionState.ESTABLISHED), guest_in(SessionState.ESTABLISHED)
    with pytest.raises(LocalProtocolError, match="STREAM 2"):
        host.encode(Data(1, b"x", (even,)))
    with pytest.raises(LocalProtocolError, match="FILE 2"):
        guest.encode(Data(1, b"x", (file,)))
    host.feed(encode_frame(Data(1, b"x", (file,))))
    with pytest.raises(ChannelError, match="guest sent attachment FILE 2"):
        host.next_frame()
    guest.feed(encode_frame(Data(1, b"x", (even,))))
    with pytest.raises(ChannelError, match="host sent attachment STREAM 2"):
        guest.next_frame()


@given(st.lists(st.binary(max_size=80) | frames.map(encode_frame), max_size=6))
def test_garbage_raises_only_channel_error(chunks: list[bytes]) -> None:
    host, guest = host_in(SessionState.ESTABLISHED), guest_in(SessionState.ESTABLISHED)
    for chunk in chunks:
        for end in (host, guest):
            end.feed(chunk)
            try:
                while (frame := end.next_frame()) is not None:
                    if isinstance(frame, Hello):
                        guest.announce()
            except ChannelError:
                pass


# ------------------------------------------------------------- without a feature


@pytest.mark.parametrize("offers", [False, True])
@pytest.mark.parametrize("takes", [False, True])
@pytest.mark.parametrize(
    ("feature", "frame", "by_host"),
    [
        (Feature.EXEC, Launch(1, 1), True),
        (Feature.EXEC, LauncherOpened(1, 0, "root"), False),
        (Feature.READ_MEMORY, ReadMemory(1, 1, 1, 0, 1), True),
    ],
)
def test_frames_of_a_feature_need_both_sides(
    feature: Feature, frame: Frame, *, by_host: bool, offers: bool, takes: bool
) -> None:
    """Old peers: one that does not offer it, one that does not take it."""
    offered, agreed = feature * offers, feature * (offers and takes)
    host, guest = Session(Side.HOST), Session(Side.GUEST)
    guest.feed(host.start(replace(hello(), features=Feature(offered))))
    assert isinstance(guest.next_frame(), Hello)
    host.feed(guest.accept(ack(features=Feature(agreed))))
    assert isinstance(host.next_frame(), HelloAck)

    sender, receiver = (host, guest) if by_host else (guest, host)
    receiver.feed(encode_frame(frame))
    if agreed:
        assert sender.encode(frame) == encode_frame(frame)
        assert receiver.next_frame() == frame
    else:
        with pytest.raises(LocalProtocolError, match="sends"):
            sender.encode(frame)
        with pytest.raises(ChannelError, match="sent"):
            receiver.next_frame()


def test_features_are_agreed_anew_in_each_session() -> None:
    host, guest = host_in(SessionState.ESTABLISHED), guest_in(SessionState.ESTABLISHED)
    assert host.encode(Launch(1, 1))

    guest.feed(host.start(replace(hello(1), features=Feature.NONE)))
    assert isinstance(guest.next_frame(), Hello)
    host.feed(guest.accept(ack(1, features=Feature.NONE)))
    assert isinstance(host.next_frame(), HelloAck)

    with pytest.raises(LocalProtocolError):
        host.encode(Launch(1, 1))
