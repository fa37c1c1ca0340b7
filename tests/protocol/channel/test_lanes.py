"""Lanes: two engines back to back, what the document promises, and one case of each rule."""

import json
import random
import re
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.choices import Choices, fresh
from tests.fuzz.lanes import BackToBack
from tests.protocol.channel.vectors import DOCUMENT
from tests.strategies import damaged, plain_values
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseReason,
    Credit,
    Data,
    Extent,
    Frame,
    Launch,
    LauncherOpened,
    Located,
    LocateStatus,
    OpenStream,
    Ping,
    Pong,
    ReadMemory,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes import bounds
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import FilePiece, Lane, Usage, Windows
from wlproxy.protocol.channel.lanes.snapshot import restore, write_down
from wlproxy.protocol.errors import ChannelError, LocalProtocolError, SnapshotError

SMALL = Windows(100, 100)
READS, WRITES = AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES
CLOSED = ClientClosed(1, CloseReason.NORMAL, "")


def opened(client_id: int) -> ClientOpened:
    return ClientOpened(client_id, 1, 2, 3, "app")


def stream(number: int, flags: AttachmentFlags = READS) -> Attachment:
    return Attachment(AttachmentKind.STREAM, flags, number, 0)


def ended(number: int, client_id: int = 1) -> StreamClosed:
    return StreamClosed(client_id, number, CloseReason.NORMAL)


def drain(lanes: Lanes) -> list[Frame | FilePiece]:
    frames = []
    while (frame := lanes.take()) is not None:
        frames.append(frame)
    return frames


@pytest.fixture
def guest() -> Lanes:
    """An agent's end, with two clients."""
    lanes = Lanes(Side.GUEST, SMALL, SMALL)
    for client_id in (1, 2):
        lanes.put(opened(client_id))
    assert drain(lanes) == [opened(1), opened(2)]
    return lanes


@pytest.fixture
def host() -> Lanes:
    """A host's end, with two clients."""
    lanes = Lanes(Side.HOST, SMALL, SMALL)
    for client_id in (1, 2):
        assert lanes.receive(opened(client_id))
    return lanes


# ---------------------------------------------------------------- all of it


@given(st.binary(max_size=1000))
@example(b"")
def test_whatever_happens(choices: bytes) -> None:
    BackToBack(Choices(choices)).run()


@settings(max_examples=100)
@given(st.integers())
def test_whatever_happens_at_length(seed: int) -> None:
    BackToBack(Choices(fresh(random.Random(seed)))).run()


@settings(max_examples=60)
@given(st.integers())
def test_it_makes_no_difference_to_be_taken_apart(seed: int) -> None:
    """At random moments: what follows is to the byte what would have followed."""
    data = fresh(random.Random(seed))
    whole, apart = BackToBack(Choices(data), often=0), BackToBack(Choices(data), 0.2)

    whole.run()
    apart.run()

    assert apart.sent == whole.sent


def test_bytes_may_be_left_out_of_what_is_written_down() -> None:
    lanes = Lanes(Side.GUEST, SMALL, SMALL)
    lanes.put(opened(1))
    lanes.put(Data(1, b"secret"))

    written = json.dumps(write_down(lanes, id, lengths=True))

    assert b"secret".hex() not in written
    assert "6 bytes" in written


def test_tiny_chunks_are_kept_together() -> None:
    """A hostile peer's window is not taken up by what each chunk costs to keep."""
    lanes = Lanes(Side.HOST, Windows(100, 4096), SMALL)
    lanes.receive(opened(1))
    lanes.receive(Data(1, b"abc", (stream(2, READS),)))
    sent = [bytes((number & 0xFF, number >> 8)) for number in range(2048)]
    for data in sent:
        lanes.receive(StreamData(1, 2, data))

    pulled = list(iter(lambda: lanes.pull(Lane(1, 2)), b""))

    assert b"".join(filter(None, pulled)) == b"".join(sent)
    assert len(pulled) <= 4096 // 256


def crowded() -> Lanes:
    """Lanes in which something of each kind waits."""
    lanes = Lanes(Side.HOST, SMALL, SMALL)
    lanes.receive(opened(1))
    lanes.receive(Data(1, b"abc", (stream(2, READS),)))
    lanes.put(OpenStream(1, 3, 1, READS))
    lanes.put(Data(1, b"x" * 99, (stream(3),)))
    lanes.put(Located(1, 1, LocateStatus.OK, 0, more=False, extents=(Extent(0, 4096),)))
    lanes.put(StreamData(1, 2, b"chunk"))
    lanes.put(ended(2))
    lanes.put(Ping(5))
    lanes.put_file(1, 9, "source", 40)
    return lanes


@given(plain_values | damaged(write_down(crowded(), lambda _source: 7)))
def test_lanes_of_garbage(plain: object) -> None:
    with suppress(SnapshotError):
        restore(plain, {7: "source"})


def test_a_source_that_is_not_there() -> None:
    snapshot = write_down(crowded(), lambda _source: 7)
    with pytest.raises(SnapshotError, match="7 means nothing"):
        restore(snapshot, {})


def test_the_document_states_the_bounds() -> None:
    text = DOCUMENT.read_text().partition("What waits at either end")[2]
    rows = re.findall(r"^\| (.+?) \| (\d+) \|", text, re.MULTILINE)
    said = {what: int(most) for what, most in rows[:6]}
    assert list(said.values()) == [
        bounds.MAX_URGENT,
        bounds.CLIENT_WINDOW,
        bounds.STREAM_WINDOW,
        bounds.MAX_STREAMS,
        bounds.MAX_ALL_STREAMS,
        bounds.CHUNK,
    ]
    assert Windows() == Windows(bounds.CLIENT_WINDOW, bounds.STREAM_WINDOW)


# ---------------------------------------------------------------- order and turns


def test_clients_take_turns_and_urgent_frames_go_first(host: Lanes) -> None:
    for frame in (Data(1, b"a"), Data(1, b"b"), Data(2, b"c"), Ping(1), Ping(2)):
        host.put(frame)
    assert drain(host) == [
        *(Ping(1), Ping(2)),
        *(Data(1, b"a"), Data(2, b"c"), Data(1, b"b")),
    ]


def test_a_client_with_many_streams_has_no_more_turns(host: Lanes) -> None:
    for client_id, count in ((1, 3), (2, 1)):
        for number in range(count):
            host.put(OpenStream(client_id, 1, 2 * number + 1, WRITES))
            host.put(StreamData(client_id, 2 * number + 1, b"x"))
    order = [frame for frame in drain(host) if isinstance(frame, StreamData)]
    assert [(one.client_id, one.stream_id) for one in order] == [
        *((1, 1), (2, 1), (1, 3), (1, 5)),
    ]


def test_data_waits_for_credit_and_its_client_alone(host: Lanes) -> None:
    for letter in b"abc":
        host.put(Data(1, bytes([letter]) * 50))
    host.put(Data(2, b"x"))
    assert drain(host) == [Data(1, b"a" * 50), Data(2, b"x"), Data(1, b"b" * 50)]
    assert not host.is_idle(Lane(1))
    assert host.room(Lane(1)) == 0
    host.woken()
    assert host.receive(Credit(1, 0, 50))
    assert host.woken() == {Lane(1)}
    assert drain(host) == [Data(1, b"c" * 50)]
    assert host.is_idle(Lane(1))
    with pytest.raises(ChannelError, match="outstanding"):
        host.receive(Credit(1, 0, 101))


def test_an_answer_does_not_wait_behind_data(guest: Lanes) -> None:
    located = Located(1, 1, LocateStatus.FAILED, 5, more=False, extents=())
    for letter in b"abc":
        guest.put(Data(1, bytes([letter]) * 50))
    guest.put(located)
    assert drain(guest) == [located, Data(1, b"a" * 50), Data(1, b"b" * 50)]


def test_too_much_is_split_and_attachments_go_first(guest: Lanes) -> None:
    guest.put(Data(1, bytes(60), (stream(2),)))
    assert drain(guest) == [Data(1, bytes(34), (stream(2),)), Data(1, bytes(26))]


def test_a_file_goes_in_pieces_before_its_data(host: Lanes) -> None:
    host.put_file(1, 7, "contents", 120)
    host.put(Data(1, b"x"))
    assert drain(host) == [
        FilePiece(1, 7, "contents", 0, 50, last=False),
        FilePiece(1, 7, "contents", 50, 50, last=False),
    ]
    host.receive(Credit(1, 0, 50))
    assert drain(host) == [
        FilePiece(1, 7, "contents", 100, 20, last=True),
        Data(1, b"x"),
    ]
    host.put_file(1, 8, "nothing", 0)
    assert host.dropped().sources == ["nothing"]
    assert host.dropped().sources == []


def test_what_is_taken_up_is_told(host: Lanes) -> None:
    assert host.usage(1) == Usage(0, 100, 0)
    host.put_file(1, 7, bytes(70), 70)
    host.put_file(1, 8, "somewhere else", 10)
    host.put(Data(1, bytes(20), (stream(1),)))
    assert host.usage(1) == Usage(106, 100, 0)
    drain(host)
    assert host.usage(1) == Usage(36, 20, 0)
    host.receive(Data(1, bytes(30)))
    host.drop_data(1)
    assert host.usage(1) == Usage(0, 20, 30)
    host.consumed(Lane(1), 10)
    assert host.usage(1).held == 20
    assert host.usage(9) == Usage(0, 0, 0)


# ---------------------------------------------------------------- streams


def test_a_stream_waits_for_what_attaches_it(guest: Lanes) -> None:
    guest.put(Data(1, bytes(50)))
    guest.put(Data(1, bytes(50)))
    guest.put(Data(1, b"x", (stream(2), stream(4))))
    guest.put(StreamData(1, 2, b"early"))
    guest.put(ended(4))
    assert drain(guest) == [Data(1, bytes(50))] * 2
    with pytest.raises(ChannelError, match="no stream 2 yet"):
        guest.receive(ended(2))
    guest.receive(Credit(1, 0, 50))
    assert drain(guest) == [
        Data(1, b"x", (stream(2), stream(4))),
        *(StreamData(1, 2, b"early"), ended(4)),
    ]


def test_a_stream_has_a_name_before_it_is_attached(host: Lanes) -> None:
    host.name_stream(Lane(1, 1), sends=True)
    host.name_stream(Lane(1, 3), sends=False)
    assert host.is_open(Lane(1, 1))
    host.put(StreamData(1, 1, b"early"))
    host.put(ended(3))
    assert drain(host) == []
    attached = Data(1, b"x", (stream(1), stream(3, WRITES)))
    host.put(attached)
    assert drain(host) == [attached, StreamData(1, 1, b"early"), ended(3)]
    assert host.stream_count == 1


def test_a_name_is_given_once(host: Lanes) -> None:
    host.name_stream(Lane(1, 1), sends=True)
    with pytest.raises(LocalProtocolError, match="stream 1 is open"):
        host.name_stream(Lane(1, 1), sends=True)
    host.put(Data(1, b"x", (stream(1),)))
    with pytest.raises(LocalProtocolError, match="stream 1 is open"):
        host.put(Data(1, b"x", (stream(1),)))


@pytest.mark.parametrize("who", ["we", "the peer"])
def test_what_is_never_attached_ends_with_its_client(host: Lanes, who: str) -> None:
    host.name_stream(Lane(1, 1), sends=True)
    host.put(StreamData(1, 1, b"x"))
    if who == "we":
        host.put(CLOSED)
    else:
        host.receive(CLOSED)
    assert host.dropped().streams == [Lane(1, 1)]
    host.name_stream(Lane(1, 3), sends=True)
    assert host.stream_count == 0
    assert not host.is_open(Lane(1, 3))


def test_one_stream_too_many_has_ended() -> None:
    host = Lanes(Side.HOST, SMALL, SMALL, bounds.StreamLimits(2, 3))
    for client_id in (1, 2, 3):
        host.receive(opened(client_id))
    limit = CloseReason.LIMIT_EXCEEDED
    host.receive(Data(1, b"x", (stream(2), stream(4), stream(6))))
    assert drain(host) == [StreamClosed(1, 6, limit)]
    host.put(Data(1, b"x", (stream(1),)))
    assert not host.is_open(Lane(1, 1))
    assert drain(host) == [Data(1, b"x", (stream(1),)), StreamClosed(1, 1, limit)]
    host.put(OpenStream(2, 1, 1, READS))
    host.put(ReadMemory(3, 1, 1, 0, 9))
    assert drain(host) == [
        *(OpenStream(2, 1, 1, READS), ReadMemory(3, 1, 1, 0, 9)),
        StreamClosed(3, 1, limit),
    ]
    host.put(ended(2))  # there is room again
    host.name_stream(Lane(1, 3), sends=True)
    assert host.is_open(Lane(1, 3))


def test_a_streams_bytes_wait_until_they_are_pulled(host: Lanes) -> None:
    assert host.receive(Data(1, b"x", (stream(2),)))
    assert host.pull(Lane(1, 2)) == b""
    assert host.receive(StreamData(1, 2, bytes(60)))
    assert host.receive(ended(2))
    assert host.woken() == {Lane(1, 2)}
    assert host.pull(Lane(1, 2)) == bytes(60)
    assert host.stream_count == host.streams_of(1) == 1
    assert host.pull(Lane(1, 2)) is None
    assert host.stream_count == 0
    assert not host.receive(ended(2))


def test_credit_is_returned_when_half_is_due(host: Lanes) -> None:
    host.receive(Data(1, b"x", (stream(2),)))
    host.receive(StreamData(1, 2, bytes(80)))
    host.pull(Lane(1, 2))
    host.consumed(Lane(1, 2), 40)
    assert drain(host) == []
    host.consumed(Lane(1, 2), 20)
    assert drain(host) == [Credit(1, 2, 60)]
    with pytest.raises(ChannelError, match="81 bytes received, 80 allowed"):
        host.receive(StreamData(1, 2, bytes(81)))


def test_a_stream_outlives_its_client(guest: Lanes) -> None:
    guest.put(Data(1, b"x", (stream(2),)))
    guest.put(CLOSED)
    drain(guest)
    assert guest.receive(ClientReleased(1))
    assert not guest.receive(Data(1, b"x"))
    assert guest.client_count == 2
    guest.put(StreamData(1, 2, b"last"))
    guest.put(ended(2))
    assert drain(guest) == [StreamData(1, 2, b"last"), ended(2)]
    assert guest.client_count == 1
    assert not guest.is_open(Lane(1, 2))
    assert guest.room(Lane(1, 2)) > 0
    guest.put(StreamData(1, 2, b"too late"))
    assert drain(guest) == []


def test_streams_of_what_is_ignored_have_ended(host: Lanes) -> None:
    host.put(CLOSED)
    drain(host)
    assert not host.receive(Data(1, b"x", (stream(2),)))
    assert drain(host) == [ended(2)]
    assert not host.receive(ended(2))


def test_a_peer_that_reads_no_more_ends_what_waits(guest: Lanes) -> None:
    guest.put(Data(1, b"x", (stream(2),)))
    guest.put(StreamData(1, 2, bytes(50)))
    guest.put(StreamData(1, 2, bytes(51)))
    drain(guest)
    guest.put(ended(2))
    guest.receive(ended(2))
    assert drain(guest) == []
    assert guest.stream_count == 0


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (Data(1, b"x", (stream(2),)), "stream 2 is not new"),
        (StreamData(1, 2, b"x"), "no bytes may come"),
        (Credit(1, 4, 1), "sends nothing"),
        (Credit(1, 2, 1), "outstanding"),
        (ended(6), "no stream 6 yet"),
        (ended(1), "no stream 1 yet"),
        (Data(3, b"x"), "no client 3 yet"),
        (opened(2), "used again"),
        (Data(1, bytes(101)), "received"),
    ],
)
def test_a_peer_that_breaks_a_rule(host: Lanes, frame: Frame, match: str) -> None:
    host.receive(Data(1, b"x", (stream(2, WRITES), stream(4, READS))))
    with pytest.raises(ChannelError, match=match):
        host.receive(frame)


def test_a_file_that_is_read_is_a_stream_of_the_guests(
    host: Lanes, guest: Lanes
) -> None:
    frame = ReadMemory(1, 1, 3, 0, 9)
    host.put(frame)
    assert guest.receive(frame)
    with pytest.raises(ChannelError, match="stream 3 is not new"):
        guest.receive(frame)
    with pytest.raises(LocalProtocolError, match="stream 3 is open"):
        host.put(OpenStream(1, 2, 3, READS))

    guest.put(StreamData(1, 3, b"contents"))
    assert drain(guest) == [StreamData(1, 3, b"contents")]
    host.receive(StreamData(1, 3, b"contents"))
    assert host.pull(Lane(1, 3)) == b"contents"
    with pytest.raises(ChannelError, match="no bytes may come"):
        guest.receive(StreamData(1, 3, b"x"))


def test_an_id_names_one_stream(host: Lanes, guest: Lanes) -> None:
    host.put(OpenStream(1, 1, 1, READS))
    with pytest.raises(LocalProtocolError, match="stream 1 is open"):
        host.put(OpenStream(1, 1, 1, READS))
    assert guest.receive(OpenStream(1, 1, 3, READS))
    with pytest.raises(ChannelError, match="stream 3 is not new"):
        guest.receive(OpenStream(1, 1, 3, READS))
    assert guest.receive(Data(1, b"x", (stream(1),))), (
        "ids by Data count for themselves"
    )
    with pytest.raises(LocalProtocolError, match="used again"):
        guest.put(opened(2))


# ---------------------------------------------------------------- ends


def test_a_client_that_ends_leaves_its_last_words(host: Lanes) -> None:
    host.put_file(1, 7, "contents", 120)
    host.put(Data(1, b"x", (stream(1),)))
    host.put(CLOSED)
    host.drop_data(1)
    dropped = host.dropped()
    assert (dropped.streams, dropped.sources) == ([Lane(1, 1)], ["contents"])
    host.put(Data(1, b"y", (stream(3),)))
    host.put_file(1, 8, "more", 1)
    dropped = host.dropped()
    assert (dropped.streams, dropped.sources) == ([Lane(1, 3)], ["more"])
    host.put(ClientReleased(1))
    assert drain(host) == [CLOSED, ClientReleased(1)]
    assert host.client_count == 1
    host.put(Data(1, b"z"))
    host.put(CLOSED)
    assert drain(host) == []


def test_what_the_peer_ends_is_dropped(guest: Lanes) -> None:
    for _ in range(3):
        guest.put(Data(1, bytes(50)))
    assert guest.receive(CLOSED)
    assert drain(guest) == []
    assert not guest.is_open(Lane(1))
    assert not guest.receive(CLOSED)


def test_a_stream_can_be_opened_until_the_opener_ends_the_client(guest: Lanes) -> None:
    guest.put(CLOSED)
    drain(guest)
    assert guest.receive(OpenStream(1, 1, 1, READS)), "an app that leaves is pasted to"
    assert guest.receive(ClientClosed(2, CloseReason.NORMAL, ""))
    assert not guest.receive(OpenStream(2, 1, 1, READS))
    assert drain(guest) == [ended(1, client_id=2)]
    assert guest.stream_count == 1


def test_two_that_end_a_client_at_once_both_hear_of_it(
    host: Lanes, guest: Lanes
) -> None:
    for end in (host, guest):
        for _ in range(3):
            end.put(Data(1, bytes(50)))
        end.put(CLOSED)
    for frame in drain(guest):
        assert isinstance(frame, Data)
        assert not host.receive(frame)
    for frame in drain(host):
        assert isinstance(frame, Data | Credit)
        guest.receive(frame)
    assert CLOSED in drain(guest)


def test_a_peer_that_asks_and_does_not_read_breaks_the_session(
    host: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.protocol.channel.lanes.engine.MAX_URGENT", 3)
    for number in range(4):
        assert host.receive(Ping(number))
        host.put(Pong(number))
    assert host.urgent_count == 4
    with pytest.raises(ChannelError, match="does not read"):
        host.receive(Ping(5))
    host.take()
    assert host.receive(Ping(5))


def test_closed_it_keeps_nothing_and_nobody_waits(host: Lanes) -> None:
    host.put_file(1, 7, "contents", 120)
    host.put(Data(2, bytes(50), (stream(1),)))
    host.put(OpenStream(2, 1, 5, WRITES))
    host.close()
    assert {Lane(1), Lane(2), Lane(2, 1), Lane(2, 5)} <= host.woken()
    assert host.dropped().sources == ["contents"]
    host.put(Ping(1))
    host.put_file(1, 8, "late", 1)
    assert host.dropped().sources == ["late"]
    assert host.take() is None
    assert host.stream_count == host.client_count == 0
    assert host.room(Lane(2)) > 0
    assert host.pull(Lane(2, 5)) is None
    host.consumed(Lane(2), 5)
    host.drop_data(2)


# ------------------------------------------------------------------ launchers


def test_a_launch_opens_five_streams_at_both_ends() -> None:
    host, guest = (Lanes(side, SMALL, SMALL) for side in Side)
    guest.put(LauncherOpened(1, 1000, "ada"))
    assert host.receive(LauncherOpened(1, 1000, "ada"))

    host.put(Launch(1, 11))
    host.put(StreamData(1, 11, b"request"))
    assert drain(host) == [Launch(1, 11), StreamData(1, 11, b"request")]
    assert guest.receive(Launch(1, 11))
    assert guest.receive(StreamData(1, 11, b"request"))

    lanes = [Lane(1, number) for number in range(11, 21, 2)]
    assert all(end.is_open(lane) for lane in lanes for end in (host, guest))
    sends = [end.room(lane) > 0 for end in (host, guest) for lane in lanes]
    assert sends == [True, False, True, False, False, False, True, False, True, True]
    with pytest.raises(ChannelError, match="no bytes may come for stream 13"):
        guest.receive(StreamData(1, 13, b"x"))


def test_streams_of_a_launch_that_are_too_many_end() -> None:
    host, guest = (
        Lanes(side, SMALL, SMALL, bounds.StreamLimits(3, 9)) for side in Side
    )
    guest.put(LauncherOpened(1, 1000, "ada"))
    drain(guest)
    host.receive(LauncherOpened(1, 1000, "ada"))

    host.put(Launch(1, 1))
    frames = drain(host)
    limit = CloseReason.LIMIT_EXCEEDED
    assert frames == [
        Launch(1, 1),
        StreamClosed(1, 7, limit),
        StreamClosed(1, 9, limit),
    ]
    for frame in frames:
        if isinstance(frame, Frame):
            guest.receive(frame)

    assert drain(guest) == [StreamClosed(1, 7, limit), StreamClosed(1, 9, limit)]
    assert (host.stream_count, guest.stream_count) == (3, 3)


def test_a_launch_for_a_launcher_that_has_gone_is_answered() -> None:
    guest = Lanes(Side.GUEST, SMALL, SMALL)
    guest.put(LauncherOpened(1, 1000, "ada"))
    guest.put(CLOSED)
    drain(guest)
    guest.receive(ClientReleased(1))

    assert not guest.receive(Launch(1, 1))

    assert drain(guest) == [ended(number) for number in range(1, 11, 2)]
