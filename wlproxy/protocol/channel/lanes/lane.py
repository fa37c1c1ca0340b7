"""One lane: the queue and the credit of a client's connection, or of one of its streams.

`engine` decides which lane has its turn, and what a frame does to other lanes.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wlproxy.protocol.channel.flow import ReceiveWindow, SendWindow, cost
from wlproxy.protocol.channel.frames import (
    MAX_PAYLOAD,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientReleased,
    Data,
    Frame,
    Launch,
    Located,
    OpenStream,
    ReadMemory,
    Released,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import CHUNK, CLIENT_WINDOW, STREAM_WINDOW
from wlproxy.protocol.channel.launching import PIPES

_OVERHEAD: Final = 4
"""Bytes of a payload that are neither data nor attachments."""

TINY: Final = 512
"""Bytes up to which chunks that come are kept as one."""


class Lane(NamedTuple):
    """The name of a lane, as `Credit` has it: `stream_id` 0 is the client's connection."""

    client_id: int
    stream_id: int = 0


@dataclass(frozen=True, slots=True)
class Windows:
    """Credit to begin with, bytes: per client, and per stream."""

    client: int = CLIENT_WINDOW
    stream: int = STREAM_WINDOW


class Usage(NamedTuple):
    """How much of a client's own lane is taken up, bytes.

    Attributes:
        waiting: of data that waits, and of files that are nowhere but here.
        credit: that may still be sent.
        held: received, and not consumed.
    """

    waiting: int
    credit: int
    held: int


NOTHING: Final = Usage(0, 0, 0)


@dataclass(frozen=True, slots=True)
class FilePiece:
    """A `FileData` whose bytes are to be read: `length` bytes from `start` of `source`.

    With the `last` one the source is done with.
    """

    client_id: int
    file_id: int
    source: object
    start: int
    length: int
    last: bool


@dataclass(slots=True)
class Dropped:
    """What will never be sent.

    Attributes:
        streams: lanes of which the peer will never hear.
        sources: of files.
    """

    streams: list[Lane] = field(default_factory=list)
    sources: list[object] = field(default_factory=list)


@dataclass(slots=True)
class File:
    """A file whose pieces are sent as credit comes."""

    file_id: int
    source: object
    size: int
    sent: int = 0

    @property
    def kept(self) -> int:
        """Bytes that are nowhere but here, and are still to be sent."""
        return self.size - self.sent if isinstance(self.source, bytes) else 0


Ordered = Data | ClientClosed | ClientReleased | File
"""What keeps its order in a client's own lane."""


@dataclass(slots=True)
class Connection:
    """A client's own lane: what waits, and credit both ways.

    Attributes:
        send: what we may send.
        received: what the peer may.
        most: bytes of a frame that credit can always be had for.
        answers: that wait.
        ordered: what else does.
        closed: by either side: no data is sent or taken any more.
        peer_closed: by the peer.
        leaving: our `ClientClosed` waits.
        waiting: bytes of `Data` that waits, and of files that are nowhere but here.
    """

    send: SendWindow
    received: ReceiveWindow
    most: int
    # Most often empty, for each app, at both ends: a deque takes 760 bytes then.
    answers: list[Located | Released] = field(default_factory=list)
    ordered: list[Ordered] = field(default_factory=list)
    closed: bool = False
    peer_closed: bool = False
    leaving: bool = False
    waiting: int = 0

    @classmethod
    def begin(cls, send: int, receive: int) -> "Connection":
        """Begin with windows of so many bytes."""
        return cls(SendWindow(send), ReceiveWindow(receive), _most_of(send))

    @property
    def open(self) -> bool:
        """Whether it can still send or receive anything."""
        return not self.closed

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not (self.answers or self.ordered)

    @property
    def room(self) -> int:
        """How many bytes would leave at once."""
        return min(self.send.available, self.most) if self.idle else 0

    @property
    def usage(self) -> Usage:
        """How much of it is taken up."""
        return Usage(self.waiting, self.send.available, self.received.held)

    def add(self, item: Ordered) -> None:
        """Have an item wait, behind what waits already."""
        self.ordered.append(item)
        self.waiting += _kept(item)

    def add_data(self, frame: Data) -> None:
        """Have data wait, in pieces that credit always suffices for; fds go with the first."""
        whole = cost(frame)
        if frame.data and whole <= self.most:
            self.ordered.append(frame)
            self.waiting += whole
            return
        start, end = 0, self.most - (whole - len(frame.data))
        attachments = frame.attachments
        while start < len(frame.data):
            self.add(Data(frame.client_id, frame.data[start:end], attachments))
            start, end, attachments = end, end + self.most, ()

    def take(self, client_id: int) -> Frame | FilePiece | None:
        """Hand out the next frame that may leave now."""
        if self.answers:
            return self.answers.pop(0)
        if not self.ordered:
            return None
        item = self.ordered[0]
        if isinstance(item, File):
            return self._take_piece(client_id, item)
        if isinstance(item, Data):
            amount = cost(item)
            if not self._afford(amount):
                return None
            self.waiting -= amount
        elif isinstance(item, ClientClosed):
            self.leaving = False
        self.ordered.pop(0)
        return item

    def drop_data(self) -> list[Data | File]:
        """Drop what no longer matters; keep what says that the client is gone."""
        dropped = [item for item in self.ordered if isinstance(item, Data | File)]
        self.ordered = [i for i in self.ordered if not isinstance(i, Data | File)]
        self.waiting = 0
        self.answers.clear()
        return dropped

    def _take_piece(self, client_id: int, file: File) -> FilePiece | None:
        length = min(CHUNK, self.most, file.size - file.sent)
        if not self._afford(length):  # what `cost` says of FileData
            return None
        self.waiting -= file.kept
        start, file.sent = file.sent, file.sent + length
        self.waiting += file.kept
        last = file.sent == file.size
        if last:
            self.ordered.pop(0)
        return FilePiece(client_id, file.file_id, file.source, start, length, last)

    def _afford(self, amount: int) -> bool:
        if self.send.available < amount:
            return False
        self.send.take(amount)
        return True


@dataclass(slots=True)
class Stream:
    """A stream's lane: bytes go one way, credit the other, and either side may end it.

    Attributes:
        window: it sends if this does.
        announced: the peer knows of it.
        attached: something that waits, or has left, tells the peer of it.
        most: bytes of a frame that credit can always be had for.
        chunks: that wait.
        end: ours, while it waits.
        inbox: what came and was not pulled.
        peer_ended: the peer has sent all; what is in the inbox is still to be taken.
    """

    window: SendWindow | ReceiveWindow
    announced: bool
    attached: bool
    most: int
    chunks: deque[StreamData] = field(default_factory=deque)
    end: StreamClosed | None = None
    inbox: deque[bytes] = field(default_factory=deque)
    peer_ended: bool = False

    @classmethod
    def begin(cls, window: SendWindow | ReceiveWindow, *, announced: bool) -> "Stream":
        """Begin; the arguments are attributes."""
        most = 0
        if isinstance(window, SendWindow):
            most = min(CHUNK, _most_of(window.available))
        return cls(window, announced, announced, most)

    @property
    def open(self) -> bool:
        """Whether it can still send or receive anything."""
        return self.end is None

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not (self.chunks or self.end)

    @property
    def room(self) -> int:
        """How many bytes would leave at once."""
        if not self.idle or isinstance(self.window, ReceiveWindow):
            return 0
        return min(self.window.available, self.most)

    def keep(self, data: bytes) -> None:
        """Keep bytes that came; tiny ones together, which else take up many times their size."""
        if self.inbox and len(self.inbox[-1]) + len(data) <= TINY:
            self.inbox[-1] += data
        else:
            self.inbox.append(data)

    def take(self) -> StreamData | StreamClosed | None:
        """Hand out the next frame that may leave now."""
        if not self.announced:
            return None
        if not self.chunks or isinstance(self.window, ReceiveWindow):
            return self.end
        if self.window.available < cost(self.chunks[0]):
            return None
        self.window.take(cost(self.chunks[0]))
        return self.chunks.popleft()


def streams_in(frame: Data) -> list[tuple[Lane, bool]]:
    """List the streams that a frame attaches, and whether its sender sends."""
    if not frame.attachments:
        return []
    return [
        (
            Lane(frame.client_id, one.object_id),
            one.flags is AttachmentFlags.HOLDER_READS,
        )
        for one in frame.attachments
        if one.kind is AttachmentKind.STREAM
    ]


def opened_by(frame: OpenStream | ReadMemory | Launch) -> list[tuple[Lane, bool]]:
    """List the streams that a frame of the host opens, and whether the host sends."""
    if isinstance(frame, ReadMemory):
        return [(Lane(frame.client_id, frame.stream_id), False)]
    if isinstance(frame, OpenStream):
        sends = frame.flags is AttachmentFlags.HOLDER_WRITES
        return [(Lane(frame.client_id, frame.stream_id), sends)]
    return [
        (Lane(frame.client_id, frame.stream_id + 2 * index), pipe.from_host)
        for index, pipe in enumerate(PIPES)
    ]


def _kept(item: Ordered) -> int:
    """Say how many bytes an item makes us keep."""
    return item.kept if isinstance(item, File) else cost(item)


def _most_of(window: int) -> int:
    """Return the largest frame that this window lets pass when it is idle.

    Half the window: the peer may keep back the credit of the other half.
    """
    return min(MAX_PAYLOAD - _OVERHEAD, window // 2)
