"""The clients of a session, and which of their streams exist.

A stream exists from the frame that names it until either side's `StreamClosed`.  It may
outlive its client, but never the session.  What waits in a lane is the business of `lane`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from wlproxy.protocol.channel.flow import ReceiveWindow, SendWindow
from wlproxy.protocol.channel.frames import CloseReason, Side, StreamClosed
from wlproxy.protocol.channel.lanes.bounds import StreamLimits
from wlproxy.protocol.channel.lanes.lane import Connection, Lane, Stream, Windows
from wlproxy.protocol.channel.session import STREAM_PARITY
from wlproxy.protocol.errors import ChannelError, LocalProtocolError


@dataclass(slots=True)
class _Client:
    """The lanes of one client, and the stream ids that it has used."""

    connection: Connection | None
    streams: dict[int, Stream] = field(default_factory=dict)
    named: int = 0  # the highest id of ours
    attached: int = 0  # the highest id of the peer's, by `Data`
    opened: int = 0  # and by `OpenStream`


@dataclass(slots=True)
class Clients:
    """All clients of a session that have a connection or streams.

    Attributes:
        last_opened: the highest id of a client.
        stream_count: how many streams all of them have.
        woken: lanes at which somebody may go on.
    """

    _side: Side
    _ours: Windows
    _theirs: Windows
    _limits: StreamLimits
    _all: dict[int, _Client] = field(default_factory=dict)
    last_opened: int = 0
    stream_count: int = 0
    woken: set[Lane] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._all))

    def open(self, client_id: int) -> None:
        """Begin a client.

        Raises:
            LocalProtocolError: the id was used before.
        """
        if client_id <= self.last_opened:
            raise LocalProtocolError(f"client id {client_id} is used again")
        self.last_opened = client_id
        connection = Connection.begin(self._theirs.client, self._ours.client)
        self._all[client_id] = _Client(connection)

    def connection(self, client_id: int) -> Connection | None:
        """Find a client's own lane; None once it is released."""
        client = self._all.get(client_id)
        return client.connection if client is not None else None

    def release(self, client_id: int) -> None:
        """Forget a client's own lane; its streams stay."""
        self._all[client_id].connection = None
        self._forget(client_id)

    def streams(self, client_id: int) -> dict[int, Stream]:
        """Return a client's streams, in the order of their turns."""
        client = self._all.get(client_id)
        return client.streams if client is not None else {}

    def stream(self, lane: Lane) -> Stream | None:
        """Find a stream."""
        return self.streams(lane.client_id).get(lane.stream_id)

    def known_stream(self, lane: Lane) -> Stream | None:
        """Find a stream that the peer names; None if it has ended.

        Raises:
            ChannelError: it has never been, as far as the peer can know.
        """
        stream = self.stream(lane)
        client = self._all.get(lane.client_id)
        if client is None or (stream is not None and stream.announced):
            return stream
        ours = lane.stream_id % 2 == STREAM_PARITY[self._side]
        newest = client.named if ours else max(client.attached, client.opened)
        if stream is not None or lane.stream_id > newest:
            raise ChannelError(f"there is no stream {lane.stream_id} yet")
        return None

    def name_stream(self, lane: Lane, *, sends: bool, announced: bool) -> None:
        """Begin a stream of ours; one too many has ended.

        Raises:
            LocalProtocolError: there is one of that id.
        """
        client = self._all.get(lane.client_id)
        if client is None:
            return
        if lane.stream_id in client.streams:
            raise LocalProtocolError(f"stream {lane.stream_id} is open")
        client.named = max(client.named, lane.stream_id)
        fits = self._fits(client)
        stream = self._begin(client, lane.stream_id, sends=sends, announced=announced)
        if not fits:
            stream.end = StreamClosed(*lane, CloseReason.LIMIT_EXCEEDED)

    def attach_stream(self, lane: Lane, *, sends: bool) -> None:
        """Note that `Data` which waits will tell of a stream of ours; raises likewise."""
        stream = self.stream(lane)
        if stream is None or stream.attached:
            self.name_stream(lane, sends=sends, announced=False)
            stream = self.stream(lane)
        if stream is not None:
            stream.attached = True

    def forget_unattached(self, client_id: int) -> list[Lane]:
        """Forget streams that nothing will ever tell the peer of."""
        streams = self.streams(client_id).items()
        lanes = [Lane(client_id, name) for name, one in streams if not one.attached]
        for lane in lanes:
            self.forget_stream(lane)
        return lanes

    def learn_stream(
        self, lane: Lane, *, sends: bool, by_data: bool
    ) -> CloseReason | None:
        """Begin a stream of the peer's, or say why nobody here will have an end of it.

        Raises:
            ChannelError: the id is no new one.
        """
        client = self._all.get(lane.client_id)
        if client is None:
            return CloseReason.NORMAL
        newest = client.attached if by_data else client.opened
        if lane.stream_id <= newest or lane.stream_id in client.streams:
            raise ChannelError(f"stream {lane.stream_id} is not new")
        if by_data:
            client.attached = lane.stream_id
        else:
            client.opened = lane.stream_id
        connection = client.connection
        if connection is None or connection.peer_closed:
            return CloseReason.NORMAL
        if by_data and connection.closed:
            return CloseReason.NORMAL
        if not self._fits(client):
            return CloseReason.LIMIT_EXCEEDED
        self._begin(client, lane.stream_id, sends=sends, announced=True)
        return None

    def forget_stream(self, lane: Lane) -> None:
        """End a stream, if it has not ended."""
        if self.streams(lane.client_id).pop(lane.stream_id, None) is not None:
            self.stream_count -= 1
            self.woken.add(lane)
            self._forget(lane.client_id)

    def clear(self) -> None:
        """Forget all of them."""
        for client_id, client in self._all.items():
            self.woken.update(Lane(client_id, one) for one in (0, *client.streams))
        self._all.clear()
        self.stream_count = 0

    def _fits(self, client: _Client) -> bool:
        """Tell whether there may be one more stream."""
        most = self._limits
        return len(client.streams) < most.client and self.stream_count < most.total

    def _begin(
        self, client: _Client, stream_id: int, *, sends: bool, announced: bool
    ) -> Stream:
        window: SendWindow | ReceiveWindow = (
            SendWindow(self._theirs.stream)
            if sends
            else ReceiveWindow(self._ours.stream)
        )
        stream = client.streams[stream_id] = Stream.begin(window, announced=announced)
        self.stream_count += 1
        return stream

    def _forget(self, client_id: int) -> None:
        client = self._all[client_id]
        if client.connection is None and not client.streams:
            del self._all[client_id]
