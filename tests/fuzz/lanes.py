"""Two lane engines back to back, with producers, readers and a wire that take their time.

Whatever is put, in whatever order frames and bytes cross, with whatever credit:

* Nothing is stuck: when all producers are done and all readers have read, all has arrived.
* Each lane keeps its order, and nobody hears of a stream before what attaches it.
* No more is on its way than the windows allow, and nobody has to hold more than he put.
* When all clients are gone and all streams have ended, nothing is left at either end.
* Both engines are taken apart and put together again now and then, and it makes no difference.

The producers and readers are honest about waiting: one who met no room, or no bytes, looks
again only when `woken` names the lane.  So a wake-up that is lost shows.
"""

import json
from dataclasses import dataclass, field

from tests.fuzz.choices import Choices
from tests.fuzz.finding import FindingError
from wlproxy.protocol.channel.codec import FrameDecoder, Resync, encode_frame
from wlproxy.protocol.channel.flow import cost
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
    FileData,
    Frame,
    Launch,
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
from wlproxy.protocol.channel.lanes.bounds import StreamLimits
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import FilePiece, Lane, Windows, opened_by
from wlproxy.protocol.channel.lanes.snapshot import restore, write_down
from wlproxy.protocol.channel.launching import PIPES

WINDOWS = (64, 100, 1000, 16384)
LIMITS = (StreamLimits(), StreamLimits(2, 3))
FLAGS = (AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES)
STEPS = 10_000
"""Rounds after which what still moves is moving in circles."""


def check(fact: object, what: object) -> None:
    if not fact:
        raise FindingError(str(what))


@dataclass
class Way:
    """What of a lane goes one way.

    Attributes:
        todo: what its producer has not put yet.
        put: all that was put.
        got: all that arrived.
        parked: its producer waits for a wake-up.
        reading: its reader does not wait for one.
        held: bytes that arrived, and cost credit, and are not consumed.
        on_way: bytes that were taken, and are not consumed.
        finished: its reader has been told of the end.
        over: who is to read, or what is to be read, has gone.
    """

    todo: bytes = b""
    put: bytes = b""
    got: bytes = b""
    parked: bool = False
    reading: bool = True
    held: int = 0
    on_way: int = 0
    finished: bool = False
    over: bool = False


@dataclass
class End:
    """One side: its engine, what it has sent, and what it makes of what comes."""

    side: Side
    windows: Windows
    lanes: Lanes
    decoder: FrameDecoder = field(default_factory=FrameDecoder)
    wire: bytearray = field(default_factory=bytearray)
    """What it sent and the peer has not read."""
    out: dict[Lane, Way] = field(default_factory=dict)
    """What goes from here, by lane."""
    attached: dict[int, list[Attachment]] = field(default_factory=dict)
    """All that was attached here and has not arrived, by client."""
    files: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """What came of files."""
    asked: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    located: dict[int, list[int]] = field(default_factory=dict)
    """Those that are to come, by client."""
    named: dict[int, list[Attachment]] = field(default_factory=dict)
    """Streams that were named here and not attached yet, by client."""
    next_stream: int = 0
    next_id: int = 0


class BackToBack:
    """A session, from its beginning to its end.

    Attributes:
        messages: how many frames were sent.
        sent: all bytes that crossed, by the side they came from.
    """

    def __init__(self, choices: Choices, often: float = 0.03) -> None:
        """`often`: how likely an engine is taken apart after a step."""
        self.messages = 0
        self.sent = {side: bytearray() for side in Side}
        self._choices = choices
        self._often = often
        host, guest = (
            Windows(choices.pick(WINDOWS), choices.pick(WINDOWS)) for _ in Side
        )
        self._limits = limits = choices.pick(LIMITS)
        self._host = End(
            Side.HOST, host, Lanes(Side.HOST, host, guest, limits), next_stream=1
        )
        self._guest = End(
            Side.GUEST, guest, Lanes(Side.GUEST, guest, host, limits), next_stream=2
        )
        self._ends = (self._host, self._guest)
        self._clients = 0
        self._closed: set[tuple[Side, int]] = set()
        """Who has said, or heard, that a client is gone."""
        self._released: set[int] = set()

    def run(self) -> None:
        """Have it happen.

        Raises:
            AssertionError: something is stuck, lost, out of order or left behind.
            ChannelError: one engine broke the rules, by the other's judgement.
        """
        steps = (
            *(self._open, self._write, self._write, self._name, self._attach),
            self._file,
            *(
                self._end_stream,
                self._ask,
                self._locate,
                self._open_stream,
                self._launch,
            ),
            *(self._produce, self._send, self._send, self._deliver, self._deliver),
            *(self._read, self._read, self._close, self._release),
        )
        while self._choices.more:
            self._choices.pick(steps)()
            if self._choices.aside.random() < self._often:
                self.take_apart(self._choices.aside.choice(self._ends))
            self._wake()
        self._attach_all()
        for end in self._ends if self._often else ():
            self.take_apart(end)
        self._settle()
        self._check_delivered()
        self._end_all()

    def take_apart(self, end: End) -> None:
        """Write an engine down, and go on with another, of what was written."""
        sources: dict[int, object] = {}

        def key_of(source: object) -> int:
            sources[len(sources)] = source
            return len(sources) - 1

        snapshot = write_down(end.lanes, key_of)
        carried = json.loads(json.dumps(snapshot))
        end.lanes = restore(carried, sources)
        keys = iter(sources)
        check(
            write_down(end.lanes, lambda _source: next(keys)) == snapshot,
            "what was put together is not what was taken apart",
        )

    # ---------------------------------------------------------------- what is drawn

    def _open(self) -> None:
        if self._clients < 4:
            self._clients += 1
            self._guest.lanes.put(ClientOpened(self._clients, 1, 2, 3, "app"))
            for end in self._ends:
                end.out[Lane(self._clients)] = Way()
                end.attached[self._clients] = []
                end.named[self._clients] = []

    def _client(self, end: End) -> int:
        """Choose a client that this end has heard of; 0 if there is none."""
        known = [n for n in range(1, self._clients + 1) if self._knows(end, n)]
        return self._choices.pick(known) if known else 0

    def _knows(self, end: End, client_id: int) -> bool:
        lane = Lane(client_id)
        return (end.side, client_id) not in self._closed and end.lanes.is_open(lane)

    def _write(self) -> None:
        """Give some lane more to send."""
        end = self._choices.pick(self._ends)
        ways = [way for lane, way in end.out.items() if end.lanes.is_open(lane)]
        if ways:
            self._choices.pick(ways).todo += self._choices.data(200) * 3

    def _attach(self) -> None:
        """Send data with a few streams."""
        end = self._choices.pick(self._ends)
        client_id = self._client(end)
        if not client_id or not end.lanes.is_idle(Lane(client_id)):
            return
        count = 1 + self._choices.number(3)
        if not end.named[client_id]:
            most = self._most(end)
            made = [self._make(end, client_id) for _ in range(min(count, most))]
            self._put_data(end, client_id, b"@" + self._choices.data(100), tuple(made))
        else:
            self._attach_named(end, client_id, count)

    def _most(self, end: End) -> int:
        """Count the attachments that there is always credit for."""
        return (self._peer(end).windows.client // 2 - 1) // 16

    def _make(self, end: End, client_id: int) -> Attachment:
        flags = self._choices.pick(FLAGS)
        stream_id, end.next_stream = end.next_stream, end.next_stream + 2
        sender = end if flags is FLAGS[0] else self._peer(end)
        sender.out[Lane(client_id, stream_id)] = Way()
        return Attachment(AttachmentKind.STREAM, flags, stream_id, 0)

    def _name(self) -> None:
        """Begin a stream that is attached later."""
        end = self._choices.pick(self._ends)
        client_id = self._client(end)
        if client_id:
            one = self._make(end, client_id)
            sends = one.flags is FLAGS[0]
            end.lanes.name_stream(Lane(client_id, one.object_id), sends=sends)
            end.named[client_id].append(one)
            self._note_end(end, Lane(client_id, one.object_id))

    def _attach_named(self, end: End, client_id: int, count: int) -> None:
        named, count = end.named[client_id], min(count, self._most(end))
        made, end.named[client_id] = named[:count], named[count:]
        self._put_data(end, client_id, b"@", tuple(made))

    def _attach_all(self) -> None:
        """Attach what was named; what was of clients that have gone is dropped."""
        for end in self._ends:
            for client_id in end.named:
                while end.named[client_id] and self._knows(end, client_id):
                    self._attach_named(end, client_id, 99)

    def _put_data(
        self,
        end: End,
        client_id: int,
        data: bytes,
        attachments: tuple[Attachment, ...] = (),
    ) -> None:
        end.out[Lane(client_id)].put += data
        end.attached[client_id] += attachments
        end.lanes.put(Data(client_id, data, attachments))
        for one in attachments:
            if one.kind is AttachmentKind.STREAM:
                self._note_end(end, Lane(client_id, one.object_id))

    def _note_end(self, end: End, lane: Lane) -> None:
        """A stream that was one too many has ended here."""
        if lane not in end.out and not end.lanes.is_open(lane):
            self._peer(end).out[lane].over = True

    def _file(self) -> None:
        """Send a file and what attaches it: only the host does."""
        client_id = self._client(self._host)
        if not client_id or not self._host.lanes.is_idle(Lane(client_id)):
            return
        contents = b"f" * self._choices.number(300)
        self._host.next_id += 1
        file_id = self._host.next_id
        self._host.lanes.put_file(client_id, file_id, contents, len(contents))
        attachment = Attachment(
            AttachmentKind.FILE, AttachmentFlags.NONE, file_id, len(contents)
        )
        self._put_data(self._host, client_id, b"#", (attachment,))

    def _open_stream(self) -> None:
        client_id = self._client(self._host)
        if not client_id:
            return
        flags = self._choices.pick(FLAGS)
        stream_id = self._host.next_stream
        self._host.next_stream += 2
        sender = self._guest if flags is FLAGS[0] else self._host
        sender.out[Lane(client_id, stream_id)] = Way()
        frame: OpenStream | ReadMemory = OpenStream(client_id, 1, stream_id, flags)
        if flags is FLAGS[0] and stream_id % 4 == 3:
            frame = ReadMemory(client_id, 1, stream_id, 0, 1)
        self._host.lanes.put(frame)
        self._note_end(self._host, Lane(client_id, stream_id))

    def _launch(self) -> None:
        """Open several streams at once, as for a launcher; they are a client's here."""
        client_id = self._client(self._host)
        if not client_id:
            return
        frame = Launch(client_id, self._host.next_stream)
        self._host.next_stream += 2 * len(PIPES)
        lanes = opened_by(frame)
        for lane, host_sends in lanes:
            (self._host if host_sends else self._guest).out[lane] = Way()
        self._host.lanes.put(frame)
        for lane, _ in lanes:
            self._note_end(self._host, lane)

    def _end_stream(self) -> None:
        end = self._choices.pick(self._ends)
        lanes = [
            lane
            for other in self._ends
            for lane in other.out
            if lane.stream_id and end.lanes.is_open(lane)
        ]
        if lanes:
            self._end_one(end, self._choices.pick(lanes))

    def _end_one(self, end: End, lane: Lane) -> None:
        if lane in end.out:
            end.out[lane].todo = b""
        else:
            self._peer(end).out[lane].over = True
        end.lanes.put(StreamClosed(*lane, CloseReason.NORMAL))

    def _ask(self) -> None:
        end = self._choices.pick(self._ends)
        end.next_id += 1
        end.asked.append(end.next_id)
        end.lanes.put(Ping(end.next_id))

    def _locate(self) -> None:
        """Answer a question that was never asked: of that the lanes know nothing."""
        client_id = self._client(self._guest)
        if client_id:
            self._guest.next_id += 1
            status, extents = LocateStatus.OK, (Extent(0, 4096),)
            number = self._guest.next_id
            self._guest.located.setdefault(client_id, []).append(number)
            self._guest.lanes.put(
                Located(client_id, number, status, 0, more=False, extents=extents)
            )

    def _close(self) -> None:
        end = self._choices.pick(self._ends)
        client_id = self._client(end)
        if client_id and self._choices.chance(50):
            self._close_one(end, client_id)

    def _close_one(self, end: End, client_id: int) -> None:
        self._closed.add((end.side, client_id))
        end.out[Lane(client_id)].todo = b""
        self._peer(end).out[Lane(client_id)].over = True
        end.lanes.put(ClientClosed(client_id, CloseReason.NORMAL, ""))

    def _release(self) -> None:
        gone = [n for side, n in self._closed if side is Side.HOST]
        gone = sorted(n for n in gone if n not in self._released)
        if gone:
            client_id = self._choices.pick(gone)
            self._released.add(client_id)
            self._host.lanes.put(ClientReleased(client_id))

    def _produce(self) -> None:
        end = self._choices.pick(self._ends)
        if end.out:
            self._produce_one(end, self._choices.pick(list(end.out)))

    def _send(self) -> None:
        end = self._choices.pick(self._ends)
        for _ in range(1 + self._choices.number(4)):
            self._send_one(end)

    def _deliver(self) -> None:
        end = self._choices.pick(self._ends)
        self._deliver_bytes(end, 1 + self._choices.number(300))

    def _read(self) -> None:
        end = self._choices.pick(self._ends)
        peer = self._peer(end)
        if peer.out:
            lane = self._choices.pick(list(peer.out))
            self._read_one(end, lane, self._choices.number(300))

    # ---------------------------------------------------------------- what it does

    def _peer(self, end: End) -> End:
        return self._guest if end is self._host else self._host

    def _wake(self) -> None:
        """Have those look again who are told to."""
        for end in self._ends:
            peer = self._peer(end)
            for lane in end.lanes.woken():
                if lane in end.out:
                    end.out[lane].parked = False
                if lane in peer.out:
                    peer.out[lane].reading = True
            for lane in end.lanes.dropped().streams:
                for ways in (end.out, peer.out):
                    if lane in ways:
                        ways[lane].over = True

    def _produce_one(self, end: End, lane: Lane) -> bool:
        """Put what there is room for; False if there is nothing to do."""
        way = end.out[lane]
        if not way.todo or way.parked:
            return False
        if not end.lanes.is_open(lane):
            way.todo = b""
            return True
        room = end.lanes.room(lane)
        if lane.client_id % 2 and end.lanes.is_idle(lane):
            windows = self._peer(end).windows  # more than there is credit for, perhaps
            room = (windows.stream if lane.stream_id else windows.client) // 2
        if not room:
            way.parked = True
            return True
        chunk, way.todo = way.todo[:room], way.todo[room:]
        if lane.stream_id:
            way.put += chunk
            end.lanes.put(StreamData(*lane, chunk))
        else:
            self._put_data(end, lane.client_id, chunk)
        return True

    def _send_one(self, end: End) -> bool:
        frame = end.lanes.take()
        if frame is None:
            return False
        if isinstance(frame, FilePiece):
            piece = bytes(frame.source)[frame.start :][: frame.length]  # type: ignore[call-overload]
            check(piece and len(piece) == frame.length, "a piece that is no part")
            check(
                frame.last == (frame.start + frame.length == len(frame.source)),  # type: ignore[arg-type]
                "a source is done with before its last piece, or never",
            )
            frame = FileData(frame.client_id, frame.file_id, piece)
        if spent := cost(frame):
            lane = Lane(frame.client_id, getattr(frame, "stream_id", 0))  # type: ignore[union-attr]
            way = end.out[lane]
            way.on_way += spent
            windows = self._peer(end).windows
            window = windows.stream if lane.stream_id else windows.client
            fits = way.over or way.on_way <= window
            check(fits, f"{way.on_way} bytes are on their way in {window}")
        self.sent[end.side] += encode_frame(frame)
        end.wire += encode_frame(frame)
        self.messages += 1
        return True

    def _deliver_bytes(self, end: End, amount: int) -> bool:
        """Have an end read so many bytes of what its peer sent."""
        peer = self._peer(end)
        read = peer.wire[:amount]
        del peer.wire[:amount]
        end.decoder.feed(read)
        while (frame := end.decoder.next_frame()) is not None:
            check(not isinstance(frame, Resync), "no frame")
            if not isinstance(frame, Resync):
                known = end.lanes.receive(frame)
                self._receive(end, peer, frame, known=known)
        return bool(read)

    def _receive(self, end: End, peer: End, frame: Frame, *, known: bool) -> None:
        match frame:
            case Ping():
                end.lanes.put(Pong(frame.timestamp))
            case Pong():
                end.answered.append(frame.timestamp)
            case Located() if known:
                expected = peer.located[frame.client_id].pop(0)
                check(frame.location_id == expected, "answers are out of order")
            case FileData() if known:
                key = frame.client_id, frame.file_id
                end.files[key] = end.files.get(key, b"") + frame.data
                peer.out[Lane(frame.client_id)].held += cost(frame)
            case Data() if known:
                self._receive_data(end, peer, frame)
            case StreamClosed() if known and (lane := Lane(*_lane(frame))) in peer.out:
                way = peer.out[lane]
                if not way.over:
                    self._pull_all(end, lane, way)
                    check(
                        way.got == way.put, "the end came before what was put before it"
                    )
            case StreamClosed() if (lane := Lane(*_lane(frame))) in end.out:
                end.out[lane].over = True
            case ClientClosed() if known:
                self._receive_closed(end, peer, frame.client_id)
            case _:
                pass

    def _receive_closed(self, end: End, peer: End, client_id: int) -> None:
        way = peer.out[Lane(client_id)]
        if (peer.side, client_id) in self._closed:
            check(
                way.got == way.put or self._was_dropped(peer, client_id),
                "a client ended before its data",
            )
        self._closed.add((end.side, client_id))
        end.out[Lane(client_id)].over = True
        end.out[Lane(client_id)].todo = b""

    def _was_dropped(self, end: End, client_id: int) -> bool:
        return end.out[Lane(client_id)].over

    def _receive_data(self, end: End, peer: End, frame: Data) -> None:
        way = peer.out[Lane(frame.client_id)]
        way.got += frame.data
        way.held += cost(frame)
        check(way.put.startswith(way.got), "data is out of order")
        expected = peer.attached[frame.client_id]
        for one in frame.attachments:
            check(expected.pop(0) == one, "attachments are out of order")
            if one.kind is AttachmentKind.FILE:
                contents = end.files.pop((frame.client_id, one.object_id), b"")
                check(len(contents) == one.size, "a file is not there whole")
            else:
                self._learn(end, peer, Lane(frame.client_id, one.object_id))

    def _learn(self, end: End, peer: End, lane: Lane) -> None:
        """Hear of a stream: it is there, unless there are too many."""
        if end.lanes.is_open(lane):
            return
        most, lanes = self._limits, end.lanes
        many = lanes.streams_of(lane.client_id) >= most.client
        check(
            many or lanes.stream_count >= most.total, "what was attached is no stream"
        )
        for out in (end.out, peer.out):
            if lane in out:
                out[lane].over = True

    def _pull_all(self, end: End, lane: Lane, way: Way) -> None:
        while chunk := end.lanes.pull(lane):
            way.got += chunk
            way.held += len(chunk)
            check(way.put.startswith(way.got), "a stream is out of order")

    def _read_one(self, end: End, lane: Lane, most: int) -> bool:
        """Take what came by a lane, and be done with some of it."""
        way = self._peer(end).out[lane]
        moved = False
        if lane.stream_id and way.reading:
            chunk = end.lanes.pull(lane)
            if chunk:
                way.got += chunk
                way.held += len(chunk)
                check(way.put.startswith(way.got), "a stream is out of order")
                moved = True
            elif chunk is None:
                check(not end.lanes.is_open(lane), f"{lane} is at its end, and there")
                moved, way.reading = not way.finished, False
                way.finished = True
            else:
                way.reading = False
        amount = min(most, way.held)
        if amount:
            way.held -= amount
            way.on_way -= amount
            end.lanes.consumed(lane, amount)
            moved = True
        return moved

    # ---------------------------------------------------------------- how it ends

    def _settle(self) -> None:
        """Let everybody do what they can, until nobody can do anything."""
        for _ in range(STEPS):
            moved = False
            for end in self._ends:
                for lane in list(end.out):
                    moved |= self._produce_one(end, lane)
                while self._send_one(end):
                    moved = True
                moved |= self._deliver_bytes(end, 1 << 20)
                for lane in list(self._peer(end).out):
                    moved |= self._read_one(end, lane, 1 << 20)
                self._wake()
            if not moved:
                return
        raise FindingError("it never comes to rest")

    def _check_delivered(self) -> None:
        for end in self._ends:
            for lane, way in end.out.items():
                check(not way.todo or way.over, f"{lane} is stuck")
                if not way.over:
                    check(way.got == way.put, f"not all of {lane} has come")
            check(end.answered == end.asked, "an answer is missing")
            check(end.lanes.urgent_count == 0, "something urgent waits")
            usages = map(end.lanes.usage, range(1, self._clients + 1))
            check(not any(one.waiting for one in usages), "bytes that wait are left")
        for client_id, located in self._guest.located.items():
            closed = (Side.GUEST, client_id) in self._closed
            check(closed or not located, "a location's answer is missing")

    def _end_all(self) -> None:
        """End all streams, then all clients; nothing is left then."""
        for end in self._ends:
            for other in self._ends:
                for lane in list(other.out):
                    if lane.stream_id and end.lanes.is_open(lane):
                        self._end_one(end, lane)
        self._settle()
        for client_id in range(1, self._clients + 1):
            if (Side.HOST, client_id) not in self._closed:
                self._close_one(self._host, client_id)
            if client_id not in self._released:
                self._host.lanes.put(ClientReleased(client_id))
        self._settle()
        for end in self._ends:
            left = end.lanes.stream_count, end.lanes.client_count
            check(left == (0, 0), f"{end.side.value}: {left} streams and clients leak")
            check(end.lanes.take() is None, "somebody is still to be told something")


def _lane(frame: StreamClosed | StreamData | Credit) -> tuple[int, int]:
    return frame.client_id, frame.stream_id
