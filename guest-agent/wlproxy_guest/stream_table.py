"""The open streams of one client: ids, the quota, and who runs them."""

import os

import trio

from wlproxy.protocol.channel.frames import (
    AttachmentFlags,
    Credit,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy_guest.outbox import Outbox
from wlproxy_guest.quotas import QuotaError
from wlproxy_guest.streams import Stream, StreamToApp, StreamToHost


class StreamTable:
    """Streams by id: even ones began with an fd of the app's, odd ones with the host."""

    def __init__(
        self,
        client_id: int,
        outbox: Outbox,
        *,
        limit: int,
        send_window: int,
        receive_window: int,
    ) -> None:
        self._client_id = client_id
        self._outbox = outbox
        self._limit = limit
        self._send_window = send_window
        self._receive_window = receive_window
        self._streams: dict[int, Stream] = {}
        self._next_id = 2
        self._last_from_host = 0
        self._nursery: trio.Nursery | None = None
        self._finished = trio.lowlevel.ParkingLot()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run the streams, for ever; none begins before this has started."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def sent(self) -> None:
        """Wait until no app writes into a pipe of ours any more."""
        while any(isinstance(each, StreamToHost) for each in self._streams.values()):
            await self._finished.park()

    def adopt(self, fd: int, flags: AttachmentFlags) -> int:
        """Take over a pipe's end that the app passed; return the stream's id.

        Raises:
            QuotaError: too many streams; the fd is closed.
        """
        if len(self._streams) >= self._limit:
            os.close(fd)
            raise QuotaError(f"over {self._limit} pipes")
        stream_id = self._next_id
        self._next_id += 2
        # "Holder" is who will be given the fd: the app's peer, on the host.
        self._begin(stream_id, fd, to_host=flags is AttachmentFlags.HOLDER_READS)
        return stream_id

    def create(self, stream_id: int, flags: AttachmentFlags) -> int:
        """Make a pipe for a stream of the host's; return the app's end.

        Raises:
            QuotaError: too many streams.
            OSError: no pipe can be had.
            ChannelError: the id was used before.
        """
        if stream_id <= self._last_from_host:
            raise ChannelError(f"stream {stream_id} is not new")
        if len(self._streams) >= self._limit:
            raise QuotaError(f"over {self._limit} pipes")
        self._last_from_host = stream_id
        reader, writer = os.pipe2(os.O_CLOEXEC)
        app_reads = flags is AttachmentFlags.HOLDER_READS
        ours, apps = (writer, reader) if app_reads else (reader, writer)
        self._begin(stream_id, ours, to_host=not app_reads)
        return apps

    def receive(self, frame: StreamData | StreamClosed | Credit) -> None:
        """Take a frame; one for a stream that has ended was sent before that was known.

        Raises:
            ChannelError: the host broke the protocol.
        """
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            newest = self._last_from_host if frame.stream_id % 2 else self._next_id - 2
            if frame.stream_id > newest:
                raise ChannelError(f"there is no stream {frame.stream_id} yet")
            return
        match frame:
            case StreamData():
                stream.receive(frame.data)
            case StreamClosed():
                stream.receive_end()
            case Credit():
                stream.receive_credit(frame.amount)

    def close(self) -> None:
        """Close our ends; again is harmless."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    def _begin(self, stream_id: int, fd: int, *, to_host: bool) -> None:
        assert self._nursery is not None
        args = (self._client_id, stream_id, fd, self._outbox)
        stream: Stream = (
            StreamToHost(*args, self._send_window)
            if to_host
            else StreamToApp(*args, self._receive_window)
        )
        self._streams[stream_id] = stream
        self._nursery.start_soon(self._run_stream, stream_id, stream)

    async def _run_stream(self, stream_id: int, stream: Stream) -> None:
        try:
            await stream.run()
        finally:
            self._streams.pop(stream_id, None)
            self._finished.unpark_all()
