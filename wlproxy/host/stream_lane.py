"""Frames of streams, waiting for the guest: one lane for those of each client.

When a lane has its turn, and what becomes of it with its client, is `outgoing`'s.
"""

from collections.abc import Callable

import trio

from wlproxy.protocol.channel.flow import SendWindow, cost
from wlproxy.protocol.channel.frames import (
    MAX_PAYLOAD,
    AttachmentKind,
    CloseReason,
    Data,
    Frame,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import CHUNK
from wlproxy.protocol.errors import LocalProtocolError


def max_cost(window: SendWindow) -> int:
    """Say how large a frame may be so that this window, when idle, lets it pass.

    Half the window: the peer may keep back the credit of the other half.
    """
    return min(MAX_PAYLOAD, window.available // 2)


class OutgoingStream:
    """The frames of one stream; at most one of its chunks waits at a time."""

    def __init__(
        self,
        client_id: int,
        stream_id: int,
        window: SendWindow,
        wake: Callable[[], None],
        *,
        announced: bool,
        dropped: Callable[[], None],
    ) -> None:
        """Use `Outgoing.open_stream`."""
        self.stream_id = stream_id
        self.dropped = dropped
        self.window = window
        self.chunk_size = min(CHUNK, max_cost(window))
        self.announced = announced
        self._client_id = client_id
        self._wake = wake
        self._chunk: StreamData | None = None
        self._gone = False
        self._closed: StreamClosed | None = None
        self._taken = trio.lowlevel.ParkingLot()

    async def send(self, chunk: bytes) -> None:
        """Send a chunk of at most `chunk_size`; return when the writer has taken it.

        If cancelled, the chunk may still be sent.  If the stream is gone, it is dropped.
        """
        if self._gone:
            return
        self._chunk = StreamData(self._client_id, self.stream_id, chunk)
        self._wake()
        while self._chunk is not None:
            await self._taken.park()

    @property
    def gone(self) -> bool:
        """Whether nothing is to be sent any more."""
        return self._gone

    def close(self, reason: CloseReason) -> None:
        """Send `StreamClosed` after the chunk that may wait; then forget the stream."""
        self._closed = StreamClosed(self._client_id, self.stream_id, reason)
        self._wake()

    def forget(self) -> None:
        """The guest closed the stream itself: there is nothing to say."""
        self._chunk = None
        self._gone = True
        self._taken.unpark_all()
        self._wake()

    def take(self) -> StreamData | StreamClosed | None:
        """Hand out the next frame that may leave now."""
        if not self.announced:
            return None
        chunk = self._chunk
        if chunk is None:
            return self._closed
        if self.window.available < cost(chunk):
            return None
        self.window.take(cost(chunk))
        self._chunk = None
        self._taken.unpark_all()
        return chunk


class StreamLane:
    """The frames of one client's streams.  It lasts as long as any of them."""

    def __init__(self, client_id: int, wake: Callable[["StreamLane"], None]) -> None:
        """Use `Outgoing.open_stream`."""
        self.client_id = client_id
        self.queued = False  # whether the writer has it in its round
        self._wake = wake
        self._streams: dict[int, OutgoingStream] = {}

    @property
    def streams(self) -> dict[int, OutgoingStream]:
        """Those whose `StreamClosed` has not left yet, by their id."""
        return self._streams

    def open_stream(
        self,
        stream_id: int,
        window: SendWindow,
        *,
        announced: bool,
        dropped: Callable[[], None],
    ) -> OutgoingStream:
        """Start a stream; as `Outgoing.open_stream`."""
        if stream_id in self._streams:
            raise LocalProtocolError(f"stream {stream_id} is open")
        stream = OutgoingStream(
            self.client_id,
            stream_id,
            window,
            self.wake,
            announced=announced,
            dropped=dropped,
        )
        self._streams[stream_id] = stream
        return stream

    def announce(self, frame: Data) -> None:
        """The guest is being told of the streams that a frame attaches."""
        for stream in self._attached(frame):
            stream.announced = True
        self.wake()

    def drop(self, frame: Data) -> None:
        """The guest will never be told of the streams that a frame attaches."""
        for stream in self._attached(frame):
            stream.forget()
            stream.dropped()

    def wake(self) -> None:
        """Have the writer look again."""
        self._wake(self)

    def take(self) -> Frame | None:
        """Hand out the next frame that may leave now: streams take turns."""
        for stream_id, stream in tuple(self._streams.items()):
            frame = None if stream.gone else stream.take()
            if stream.gone or isinstance(frame, StreamClosed):
                del self._streams[stream_id]
            elif frame is not None:
                self._streams[stream_id] = self._streams.pop(stream_id)  # to the end
            if frame is not None:
                return frame
        return None

    def close(self) -> None:
        """Forget them all: nobody takes anything out any more."""
        for stream in tuple(self._streams.values()):
            stream.forget()
        self._streams.clear()

    def _attached(self, frame: Data) -> list[OutgoingStream]:
        return [
            self._streams[attachment.object_id]
            for attachment in frame.attachments
            if attachment.kind is AttachmentKind.STREAM
            and attachment.object_id in self._streams
        ]
