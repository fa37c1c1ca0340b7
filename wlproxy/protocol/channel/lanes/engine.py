"""The lane engine: decides which frame leaves next, and keeps every queue within its bound.

Sans-IO, and the same at both ends.  A frame to send goes in through `put`, and comes out of
`take` when it may leave.  A frame that came in goes to `receive`, and its bytes to `consumed`
once nobody holds them any more.  No call here waits: `woken` names the lanes where somebody
who waits may go on.

Each client's Wayland connection has a lane, and so has each of its streams, which may
outlive the connection.  What waits for what:

* A client's `Data`, `FileData`, `ClientClosed` and `ClientReleased` keep their order.  `Data`
  and `FileData` wait for the client's credit, and everything behind them waits with them.
* A client's `Located` and `Released` keep their order but wait for nothing.  If they waited
  behind `Data`, both ends could stop: the peer may need a `Located` to consume the very `Data`
  whose credit the other `Data` is waiting for.
* `StreamData` waits for its stream's credit, and `StreamClosed` for the `StreamData` before it.
  If a `Data` announces the stream to the peer, both wait until that has left.
* Every other frame is urgent: it leaves before everything in lanes, in the order of `put`.

Clients take turns, one frame at a time, and so do the streams of one client.

Why nothing can get stuck: no lane waits for another, except a stream for its own
announcement; credit, which ends the waiting, is urgent; and neither end ever stops reading.
Why nothing can grow without limit: `bounds`, which section 10 of `docs/channel-protocol.md`
states.
"""

from collections import deque
from dataclasses import dataclass

from wlproxy.protocol.channel.flow import ReceiveWindow, SendWindow, cost
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    ClientReleased,
    Credit,
    Data,
    Frame,
    Launch,
    LauncherOpened,
    Located,
    OpenStream,
    ReadMemory,
    Released,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import (
    CHUNK,
    MAX_URGENT,
    STREAM_LIMITS,
    StreamLimits,
)
from wlproxy.protocol.channel.lanes.clients import Clients
from wlproxy.protocol.channel.lanes.lane import (
    NOTHING,
    Connection,
    Dropped,
    File,
    FilePiece,
    Lane,
    Stream,
    Usage,
    Windows,
    opened_by,
    streams_in,
)
from wlproxy.protocol.errors import ChannelError


@dataclass(slots=True, eq=False, init=False)
class Lanes:
    """Everything that waits in one session, at one end."""

    _urgent: deque[Frame]
    _answers: int  # in all lanes: like what is urgent, they wait for nothing
    _clients: Clients
    _round: dict[tuple[int, bool], None]
    """(client id, for its streams) of who may have something, in order of turns."""
    _dropped: Dropped
    _closed: bool

    def __init__(
        self,
        side: Side,
        ours: Windows,
        theirs: Windows,
        limits: StreamLimits = STREAM_LIMITS,
    ) -> None:
        """Begin with empty lanes.

        Args:
            side: which end this is.
            ours: what we let the peer send.
            theirs: what the peer lets us send.
            limits: how many streams there may be; one too many ends at once.
        """
        self._urgent = deque()
        self._answers = 0
        self._clients = Clients(side, ours, theirs, limits)
        self._round = {}
        self._dropped = Dropped()
        self._closed = False

    # ---------------------------------------------------------------- looking

    @property
    def stream_count(self) -> int:
        """How many streams there are, counting those whose end has not been sent."""
        return self._clients.stream_count

    @property
    def client_count(self) -> int:
        """How many clients are not released or have streams left."""
        return len(self._clients)

    @property
    def urgent_count(self) -> int:
        """How many frames wait that need no credit and belong to no stream."""
        return len(self._urgent) + self._answers

    def streams_of(self, client_id: int) -> int:
        """Return how many streams a client has, or has left behind."""
        return len(self._clients.streams(client_id))

    def usage(self, client_id: int) -> Usage:
        """Say how much of a client's own lane is taken up."""
        connection = self._clients.connection(client_id)
        return connection.usage if connection is not None else NOTHING

    def is_open(self, lane: Lane) -> bool:
        """Tell whether a lane can still send or receive anything."""
        at = self._lane(lane)
        return at is not None and at.open

    def is_idle(self, lane: Lane) -> bool:
        """Tell whether nothing waits in a lane.  Until then nobody should make more for it."""
        at = self._lane(lane)
        return at is None or at.idle

    def room(self, lane: Lane) -> int:
        """Return how many bytes would leave at once: none while something waits.

        A lane that is closed takes and drops any number: nobody has to wait for it.
        """
        at = self._lane(lane)
        return at.room if at is not None and at.open else CHUNK

    def woken(self) -> set[Lane]:
        """Name the lanes whose waiters may go on, each once: room, idleness, bytes, an end."""
        woken, self._clients.woken = self._clients.woken, set()
        return woken

    def dropped(self) -> Dropped:
        """Hand over, once, what will never be sent."""
        dropped = self._dropped
        if dropped.streams or dropped.sources:
            self._dropped = Dropped()
        return dropped

    def _lane(self, lane: Lane) -> Connection | Stream | None:
        if lane.stream_id:
            return self._clients.stream(lane)
        return self._clients.connection(lane.client_id)

    # ---------------------------------------------------------------- sending

    def put(self, frame: Frame) -> None:
        """Queue a frame, or drop it if it is for somebody who is gone.

        What an attachment, `OpenStream`, `ReadMemory` or `Launch` names is a stream from now on.

        Raises:
            LocalProtocolError: an id is used twice.
        """
        if self._closed:
            return
        match frame:
            case Data():
                self._put_data(frame)
            case ClientOpened() | LauncherOpened():
                self._clients.open(frame.client_id)
                self._urgent.append(frame)
            case ClientClosed() | ClientReleased() | Located() | Released():
                self._put_of_client(frame)
            case StreamData() | StreamClosed():
                self._put_of_stream(frame)
            case OpenStream() | ReadMemory() | Launch():
                for lane, sends in opened_by(frame):
                    self._clients.name_stream(lane, sends=sends, announced=True)
                self._urgent.append(frame)
                self._due(frame.client_id, streams=True)
            case _:
                self._urgent.append(frame)

    def name_stream(self, lane: Lane, *, sends: bool) -> None:
        """Begin a stream of ours before the `Data` that attaches it is put.

        What is put to it waits for that.  If the client ends first, it is dropped.

        Raises:
            LocalProtocolError: the id is used twice.
        """
        connection = self._clients.connection(lane.client_id)
        if connection is not None and not connection.closed:
            self._clients.name_stream(lane, sends=sends, announced=False)

    def put_file(self, client_id: int, file_id: int, source: object, size: int) -> None:
        """Queue the contents of a file, whose source this keeps until it is done with.

        A source of `bytes` is what it is; any other is for the caller to read.
        """
        connection = self._clients.connection(client_id)
        if not size or self._closed or connection is None or connection.closed:
            self._dropped.sources.append(source)
            return
        connection.add(File(file_id, source, size))
        self._due(client_id, streams=False)

    def take(self) -> Frame | FilePiece | None:
        """Hand out the next frame that may leave now."""
        while self._urgent or self._round:
            if self._urgent:
                return self._urgent.popleft()
            client_id, streams = turn = next(iter(self._round))
            del self._round[turn]
            take = self._take_of_streams if streams else self._take_of_connection
            frame = take(client_id)
            if frame is not None:
                return frame
        return None

    def drop_data(self, client_id: int) -> None:
        """Forget a client's data, but keep the frames that say that it is gone."""
        connection = self._clients.connection(client_id)
        if connection is None:
            return
        self._answers -= len(connection.answers)
        for item in connection.drop_data():
            if isinstance(item, File):
                self._dropped.sources.append(item.source)
            else:
                self._drop_streams(item)
        self._dropped.streams += self._clients.forget_unattached(client_id)
        self._clients.woken.add(Lane(client_id))
        self._due(client_id, streams=False)

    def close(self) -> None:
        """Forget everything, now and later: the session is over."""
        for client_id in self._clients:
            self.drop_data(client_id)
        self._closed = True
        self._clients.clear()
        self._urgent.clear()
        self._round.clear()

    def _put_data(self, frame: Data) -> None:
        connection = self._clients.connection(frame.client_id)
        if connection is None:
            return
        for lane, sends in streams_in(frame):
            self._clients.attach_stream(lane, sends=sends)
        if connection.closed:
            self._drop_streams(frame)
            return
        connection.add_data(frame)
        self._due(frame.client_id, streams=False)

    def _put_of_client(
        self, frame: ClientClosed | ClientReleased | Located | Released
    ) -> None:
        client_id = frame.client_id
        connection = self._clients.connection(client_id)
        if connection is None:
            return
        if isinstance(frame, Located | Released):
            connection.answers.append(frame)
            self._answers += 1
        else:
            connection.add(frame)
        if isinstance(frame, ClientClosed):
            self._dropped.streams += self._clients.forget_unattached(client_id)
            connection.leaving = not connection.closed
            connection.closed = True
            self._clients.woken.add(Lane(client_id))
        self._due(client_id, streams=False)

    def _put_of_stream(self, frame: StreamData | StreamClosed) -> None:
        lane = Lane(frame.client_id, frame.stream_id)
        stream = self._clients.stream(lane)
        if stream is None or stream.end is not None:
            return
        if isinstance(frame, StreamData):
            stream.chunks.append(frame)
        elif stream.chunks or not stream.announced:
            stream.end = frame
        else:
            # Not by its lane: a peer that names streams without end, and does not read
            # that they are of no use, is to meet the bound on urgent frames.
            self._clients.forget_stream(lane)
            if not stream.peer_ended:
                self._urgent.append(frame)
            return
        self._due(frame.client_id, streams=True)

    def _due(self, client_id: int, *, streams: bool) -> None:
        """Give a client a place in the round, unless it has one."""
        self._round.setdefault((client_id, streams))

    def _take_of_connection(self, client_id: int) -> Frame | FilePiece | None:
        connection = self._clients.connection(client_id)
        if connection is None:
            return None
        item = connection.take(client_id)
        if item is None:
            self._return_credit(client_id, connection)
            return None
        if isinstance(item, Located | Released):
            self._answers -= 1
        if connection.idle:
            self._clients.woken.add(Lane(client_id))
        else:
            self._due(client_id, streams=False)
        if isinstance(item, ClientReleased):
            self._clients.release(client_id)
        elif isinstance(item, Data):
            for lane, _ in streams_in(item):
                stream = self._clients.stream(lane)
                if stream is not None:
                    stream.announced = True
                    self._due(client_id, streams=True)
        return item

    def _take_of_streams(self, client_id: int) -> Frame | None:
        streams = self._clients.streams(client_id)
        for stream_id, stream in tuple(streams.items()):
            frame = stream.take()
            if frame is None:
                continue
            lane = Lane(client_id, stream_id)
            if isinstance(frame, StreamClosed):
                self._clients.forget_stream(lane)
            else:
                streams[stream_id] = streams.pop(stream_id)  # to the end
                self._clients.woken.add(lane)
            self._due(client_id, streams=True)
            return frame
        return None

    def _drop_streams(self, frame: Data) -> None:
        for lane, _ in streams_in(frame):
            if self._clients.stream(lane) is not None:
                self._dropped.streams.append(lane)
                self._clients.forget_stream(lane)

    # ---------------------------------------------------------------- receiving

    def receive(self, frame: Frame) -> bool:
        """Count a frame from the peer; False if it is for somebody who is gone.

        What an attachment, `OpenStream`, `ReadMemory` or `Launch` names is a stream from now on: `pull` from it, put
        `StreamData` to it, or put its `StreamClosed` if it is of no use.  If the frame is
        for somebody who is gone that has been answered.

        Raises:
            ChannelError: the peer broke the protocol, or asks and does not read.
        """
        if self.urgent_count > MAX_URGENT:
            raise ChannelError("the peer sends but does not read")
        client_id: int = getattr(frame, "client_id", 0)
        if isinstance(frame, ClientOpened | LauncherOpened):
            if client_id <= self._clients.last_opened:
                raise ChannelError(f"client id {client_id} is used again")
            self._clients.open(client_id)
        elif client_id > self._clients.last_opened:
            raise ChannelError(f"there is no client {client_id} yet")
        match frame:
            case Credit():
                return self._receive_credit(frame)
            case StreamData() | StreamClosed():
                return self._receive_of_stream(frame)
            case OpenStream() | ReadMemory() | Launch():
                learnt = [
                    self._learn_stream(lane, sends=not by_host, by_data=False)
                    for lane, by_host in opened_by(frame)
                ]
                return any(learnt)
            case Data():
                return self._receive_data(frame)
            case _:
                return not client_id or self._receive_of_client(frame, client_id)

    def pull(self, lane: Lane) -> bytes | None:
        """Take a stream's next bytes: b"" if there are none yet, None at its end."""
        stream = self._clients.stream(lane)
        if stream is None:
            return None
        if stream.inbox:
            return stream.inbox.popleft()
        if not stream.peer_ended:
            return b""
        self._clients.forget_stream(lane)
        return None

    def consumed(self, lane: Lane, amount: int) -> None:
        """Count received bytes as no longer held, and grant credit if that is due."""
        at = self._lane(lane)
        if isinstance(at, Connection) and not at.closed:
            grant = at.received.consumed(amount)
        elif isinstance(at, Stream) and isinstance(at.window, ReceiveWindow):
            grant = 0 if at.peer_ended else at.window.consumed(amount)
        else:
            return
        if grant:
            self._urgent.append(Credit(lane.client_id, lane.stream_id, grant))

    def _receive_of_client(self, frame: Frame, client_id: int) -> bool:
        connection = self._clients.connection(client_id)
        if connection is None:
            return False
        if isinstance(frame, ClientReleased):
            self.drop_data(client_id)
            self._clients.release(client_id)
            return True
        if isinstance(frame, ClientClosed):
            self.drop_data(client_id)  # the peer ignores it, and returns no credit
            known = not connection.closed
            connection.closed = connection.peer_closed = True
            connection.leaving = False
            return known
        return self._receive_bytes(frame, client_id, connection)

    def _receive_data(self, frame: Data) -> bool:
        wanted = self._receive_of_client(frame, frame.client_id)
        for lane, peer_sends in streams_in(frame):
            self._learn_stream(lane, sends=not peer_sends, by_data=True)
        return wanted

    def _receive_bytes(
        self, frame: Frame, client_id: int, connection: Connection
    ) -> bool:
        """Count the bytes of a frame that costs credit; False if nobody wants them any more."""
        if not connection.closed or connection.leaving:
            connection.received.received(cost(frame))
            if connection.leaving:
                self._due(client_id, streams=False)
        return not connection.closed

    def _return_credit(self, client_id: int, connection: Connection) -> None:
        """Let a peer send what we ignore, while our `ClientClosed` waits for its credit.

        Else it may be that neither side's ever leaves, each behind data that the other
        does not take any more.
        """
        if connection.leaving and (grant := connection.received.emptied()):
            self._urgent.append(Credit(client_id, 0, grant))

    def _learn_stream(self, lane: Lane, *, sends: bool, by_data: bool) -> bool:
        refused = self._clients.learn_stream(lane, sends=sends, by_data=by_data)
        if refused is not None:
            self._urgent.append(StreamClosed(*lane, refused))
        return refused is None

    def _receive_of_stream(self, frame: StreamData | StreamClosed) -> bool:
        lane = Lane(frame.client_id, frame.stream_id)
        stream = self._clients.known_stream(lane)
        if stream is None:
            return False
        if isinstance(frame, StreamData):
            if isinstance(stream.window, SendWindow) or stream.peer_ended:
                raise ChannelError(f"no bytes may come for stream {lane.stream_id}")
            stream.window.received(cost(frame))
            if stream.end is None:
                stream.keep(frame.data)
        elif isinstance(stream.window, ReceiveWindow) and stream.end is None:
            stream.peer_ended = True
        else:
            self._clients.forget_stream(lane)
        self._clients.woken.add(lane)
        return True

    def _receive_credit(self, frame: Credit) -> bool:
        lane = Lane(frame.client_id, frame.stream_id)
        if lane.stream_id and self._clients.known_stream(lane) is None:
            return False
        at = self._lane(lane)
        if at is None:
            return False
        window = at.send if isinstance(at, Connection) else at.window
        if isinstance(window, ReceiveWindow):
            raise ChannelError(
                f"credit for stream {lane.stream_id}, which sends nothing"
            )
        window.grant(frame.amount)
        self._due(lane.client_id, streams=bool(lane.stream_id))
        self._clients.woken.add(lane)
        return True
