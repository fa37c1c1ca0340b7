"""Frames waiting for the guest: two lanes per client, taken in turn by one writer.

One lane is for its Wayland connection, one for its streams, which outlive it.

Wire bytes are not known here, nor is any socket.  What waits for what:

* `Data`, `FileData`, `ClientClosed` and `ClientReleased` keep their order, per client;
  the first two wait for the client's credit.
* `StreamData` waits for the stream's credit, `StreamClosed` for the chunk before it, and
  both for the `Data` that tells the guest about the stream, if it is that which does.
* Everything else waits for nothing.

Memory is bounded because nobody produces for a client whose queue is not empty
(`wait_drained`, `OutgoingStream.send`), and what waits for nothing is limited in number.
"""

from collections import deque
from collections.abc import Callable

import trio

from wlproxy.host.sent_file import SentFile
from wlproxy.host.stream_lane import OutgoingStream, StreamLane, max_cost
from wlproxy.protocol.channel.flow import SendWindow, cost
from wlproxy.protocol.channel.frames import (
    MAX_TEXT,
    ClientClosed,
    ClientReleased,
    Credit,
    Data,
    FileData,
    Frame,
)
from wlproxy.protocol.channel.lanes.bounds import CHUNK, MAX_URGENT
from wlproxy.protocol.errors import ChannelError, LocalProtocolError
from wlproxy.transport.fds import OwnedFd


def _nothing() -> None:
    pass


def fit_text(text: str) -> str:
    """Make a text fit into a frame: no NUL, MAX_TEXT bytes at most."""
    encoded = text.replace("\0", " ").encode(errors="replace")
    return encoded[:MAX_TEXT].decode(errors="ignore")


_Ordered = Data | ClientClosed | ClientReleased | SentFile


class ClientQueue:
    """What waits for one client's Wayland connection."""

    def __init__(
        self,
        client_id: int,
        window: SendWindow,
        wake: Callable[["Lane"], None],
        streams: Callable[[int], StreamLane | None],
    ) -> None:
        """Use `Outgoing.open_client`."""
        self.client_id = client_id
        self.window = window
        self._max_cost = max_cost(window)
        self.queued = False  # whether the writer has it in its round
        self.gone = False  # whether nobody takes anything out any more
        self._wake = wake
        self._streams = streams
        self._ordered: deque[_Ordered] = deque()
        self._unread = 0
        self._drained = trio.lowlevel.ParkingLot()

    @property
    def unread_bytes(self) -> int:
        """Bytes of events that wait, and of files that exist nowhere else."""
        return self._unread

    def put(self, frame: Data | ClientClosed | ClientReleased) -> None:
        """Queue a frame that keeps its order, in pieces if it is too large."""
        if self.gone:
            return
        if isinstance(frame, Data):
            self._unread += cost(frame)
        if isinstance(frame, Data) and cost(frame) > self._max_cost:
            self._ordered += self._pieces(frame)
        else:
            self._ordered.append(frame)
        self.wake()

    def put_file(self, file_id: int, fd: OwnedFd, size: int) -> None:
        """Queue the contents of a file, whose fd this takes over."""
        if not size or self.gone:
            fd.close()
            return
        self._ordered.append(SentFile(file_id, fd, size))
        self.wake()

    def put_contents(self, file_id: int, contents: bytes) -> None:
        """Queue a file that is nowhere else."""
        if contents and not self.gone:
            self._unread += len(contents)
            self._ordered.append(SentFile(file_id, contents, len(contents)))
            self.wake()

    def wake(self) -> None:
        """Have the writer look again: something was queued, or credit came."""
        self._wake(self)

    async def wait_drained(self) -> None:
        """Wait until no data waits.  Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while self._ordered:
            await self._drained.park()

    def drop_data(self) -> None:
        """Forget all data, and the streams it would have told of.

        What says that the client is gone stays.
        """
        kept = [
            item
            for item in self._ordered
            if isinstance(item, ClientClosed | ClientReleased) and not self.gone
        ]
        streams = self._streams(self.client_id)
        for item in self._ordered:
            if isinstance(item, SentFile):
                item.close()
            elif isinstance(item, Data) and streams is not None:
                streams.drop(item)
        self._ordered = deque(kept)
        self._unread = 0
        self._note_drained()
        self.wake()

    def take(self) -> Frame | None:
        """Hand out the next frame that may leave now."""
        if not self._ordered:
            return None
        item = self._ordered[0]
        if isinstance(item, SentFile):
            return self._take_chunk(item)
        if isinstance(item, Data):
            if not self._afford(cost(item)):
                return None
            self._unread -= cost(item)
            self._announce(item)
        self._ordered.popleft()
        self._note_drained()
        return item

    def _pieces(self, frame: Data) -> list[Data]:
        """Split a frame; all its attachments go with the first piece."""
        first = self._max_cost - (cost(frame) - len(frame.data))
        pieces = [Data(frame.client_id, frame.data[:first], frame.attachments)]
        for start in range(first, len(frame.data), self._max_cost):
            piece = frame.data[start : start + self._max_cost]
            pieces.append(Data(frame.client_id, piece))
        return pieces

    def _take_chunk(self, file: SentFile) -> Frame | None:
        wanted = min(CHUNK, self._max_cost, file.size - file.sent)
        if not self._afford(wanted):  # what `cost` says of FileData
            return None
        contents = file.read(wanted)
        if isinstance(file.source, bytes):
            self._unread -= wanted
        if file.sent == file.size:
            file.close()
            self._ordered.popleft()
            self._note_drained()
        return FileData(self.client_id, file.file_id, contents)

    def _afford(self, amount: int) -> bool:
        if self.window.available < amount:
            return False
        self.window.take(amount)
        return True

    def _announce(self, frame: Data) -> None:
        streams = self._streams(self.client_id) if frame.attachments else None
        if streams is not None:
            streams.announce(frame)

    def _note_drained(self) -> None:
        if not self._ordered:
            self._drained.unpark_all()


Lane = ClientQueue | StreamLane


class Outgoing:
    """All that waits for the guest in one session."""

    def __init__(self, client_window: int, stream_window: int) -> None:
        """Nothing waits yet.

        Args:
            client_window: the guest's, of its `HelloAck`.
            stream_window: the same.
        """
        self._client_window = client_window
        self._stream_window = stream_window
        self._control: deque[Frame] = deque()
        self._clients: dict[int, ClientQueue] = {}
        self._streams: dict[int, StreamLane] = {}
        self._round: deque[Lane] = deque()
        self._work = trio.lowlevel.ParkingLot()
        self._closed = False

    @property
    def clients(self) -> dict[int, ClientQueue]:
        """The queues, by client id."""
        return self._clients

    @property
    def stream_count(self) -> int:
        """How many streams all clients have, those included whose end has not left."""
        return sum(len(lane.streams) for lane in self._streams.values())

    def open_client(self, client_id: int) -> ClientQueue:
        """Start the queue of a client.

        Raises:
            LocalProtocolError: it has one.
        """
        if client_id in self._clients:
            raise LocalProtocolError(f"client {client_id} has a queue")
        window = SendWindow(self._client_window)
        queue = ClientQueue(client_id, window, self._wake, self._streams.get)
        self._clients[client_id] = queue
        return queue

    def open_stream(
        self,
        client_id: int,
        stream_id: int,
        *,
        announced: bool,
        dropped: Callable[[], None] = _nothing,
    ) -> OutgoingStream:
        """Start a stream.

        Args:
            client_id: whose, or whose it was.
            stream_id: its id.
            announced: the guest knows it already; else its frames wait for the
                `Data` that attaches it.
            dropped: called if that `Data` is dropped.

        Raises:
            LocalProtocolError: there is one with this id.
        """
        lane = self._streams.get(client_id)
        if lane is None:
            lane = self._streams[client_id] = StreamLane(client_id, self._wake)
        window = SendWindow(self._stream_window)
        return lane.open_stream(stream_id, window, announced=announced, dropped=dropped)

    def has_stream(self, client_id: int, stream_id: int) -> bool:
        """Tell if there is such a stream, or one whose end has not left yet."""
        lane = self._streams.get(client_id)
        return lane is not None and stream_id in lane.streams

    def put(self, frame: Frame) -> None:
        """Queue a frame; one for a client that is gone is dropped."""
        if self._closed:
            return
        if isinstance(frame, Data | ClientClosed | ClientReleased):
            queue = self._clients.get(frame.client_id)
            if queue is not None:
                queue.put(frame)
        else:
            self._control.append(frame)
            self._work.unpark_all()

    def check_read(self) -> None:
        """To be called before what the guest sends is taken.

        Not when frames are handed out: of a guest that does not read, none are.

        Raises:
            ChannelError: the guest makes us answer and does not read.
        """
        if len(self._control) > MAX_URGENT:
            raise ChannelError("the agent sends but does not read")

    def receive_credit(self, frame: Credit) -> None:
        """Take the guest's grant.  One for somebody who is gone means nothing.

        Raises:
            ChannelError: more than ever was spent.
        """
        if frame.stream_id:
            self._receive_stream_credit(frame)
            return
        queue = self._clients.get(frame.client_id)
        if queue is not None:
            queue.window.grant(frame.amount)
            queue.wake()

    def _receive_stream_credit(self, frame: Credit) -> None:
        lane = self._streams.get(frame.client_id)
        stream = lane.streams.get(frame.stream_id) if lane is not None else None
        if lane is not None and stream is not None:
            stream.window.grant(frame.amount)
            lane.wake()

    def take(self, max_frames: int) -> list[Frame]:
        """Hand out frames that may leave now: what waits for nothing, then in turn."""
        frames: list[Frame] = []
        while self._control and len(frames) < max_frames:
            frames.append(self._control.popleft())
        while self._round and len(frames) < max_frames:
            lane = self._round.popleft()
            frame = lane.take()
            if frame is None:
                lane.queued = False
                if isinstance(lane, StreamLane) and not lane.streams:
                    self._streams.pop(lane.client_id, None)
                continue
            self._round.append(lane)
            frames.append(frame)
            if isinstance(frame, ClientReleased) and isinstance(lane, ClientQueue):
                self._forget(lane)
        return frames

    async def wait_work(self) -> None:
        """Wait until `take` may have something.  Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while not (self._control or self._round):
            await self._work.park()

    def close(self) -> None:
        """Forget everything, and whatever is queued from now on."""
        self._closed = True
        self._control.clear()
        for queue in tuple(self._clients.values()):
            queue.gone = True
            queue.drop_data()
        self._clients.clear()
        for lane in tuple(self._streams.values()):
            lane.close()
        self._streams.clear()
        self._round.clear()

    def _wake(self, lane: Lane) -> None:
        if not lane.queued:
            lane.queued = True
            self._round.append(lane)
            self._work.unpark_all()

    def _forget(self, queue: ClientQueue) -> None:
        queue.drop_data()
        self._clients.pop(queue.client_id, None)
