"""The open streams of a session: ids, quotas, and who runs them.

A stream outlives its client's Wayland connection: apps ask for a paste and leave, or leave
a helper behind that writes.  One too many ends at once, and nothing else does.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import trio

from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    CloseReason,
    Credit,
    OpenStream,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.stream_end import StreamEnd, adopt_end, make_pipe
from wlproxy_guest.outbox import Outbox
from wlproxy_guest.quotas import Budget
from wlproxy_guest.streams import EndedStream, Stream, StreamToApp, StreamToHost


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What the streams of a session share.

    Attributes:
        outbox: where their frames go.
        limit: streams of one client.
        budget: streams of all clients.
        send_window: bytes that the host lets us send on each.
        receive_window: bytes that we let the host send on each.
    """

    outbox: Outbox
    limit: int
    budget: Budget
    send_window: int
    receive_window: int


class StreamTable:
    """The streams of one client.

    Even ids began with an fd of the app's, odd ones with the host.
    """

    def __init__(
        self, client_id: int, context: StreamContext, nursery: trio.Nursery
    ) -> None:
        """They run in `nursery`, the session's."""
        self._client_id = client_id
        self._context = context
        self._nursery = nursery
        self._streams: dict[int, Stream] = {}
        self._next_id = 2
        self._last_attached = 0
        self._last_opened = 0
        self._over = False

    def __len__(self) -> int:
        return len(self._streams)

    def adopt(self, fd: OwnedFd, flags: AttachmentFlags) -> int:
        """Take over a pipe's end that the app passed; return the stream's id."""
        stream_id = self._next_id
        self._next_id += 2
        self._adopt(stream_id, fd, flags)
        return stream_id

    def open(self, frame: OpenStream, fd: OwnedFd | None) -> None:
        """Take over an fd that the app passed and the host has a use for.

        Args:
            frame: says which.
            fd: None if it is gone.

        Raises:
            ChannelError: the id was used before.
        """
        if frame.stream_id <= self._last_opened or frame.stream_id in self._streams:
            if fd is not None:
                fd.close()
            raise ChannelError(f"stream {frame.stream_id} is not new")
        self._last_opened = frame.stream_id
        if fd is None:
            self._refuse(frame.stream_id, CloseReason.FAILED)
        else:
            self._adopt(frame.stream_id, fd, frame.flags)

    def create(self, stream_id: int, flags: AttachmentFlags) -> OwnedFd:
        """Make a pipe for a stream of the host's; return the app's end.

        Raises:
            OSError: no pipe can be had.
            ChannelError: the id was used before.
        """
        self._expect_new(stream_id)
        app_reads = flags is AttachmentFlags.HOLDER_READS
        try:
            end, apps = make_pipe(we_write=app_reads)
        except OSError:
            self._refuse(stream_id, CloseReason.FAILED)
            raise
        self._begin(stream_id, end, to_host=not app_reads)
        return apps

    def ignore(self, attachments: Iterable[Attachment]) -> None:
        """The app will not get these: tell the host that nobody has their ends.

        Raises:
            ChannelError: an id was used before.
        """
        for attachment in attachments:
            if attachment.kind is AttachmentKind.STREAM:
                self._expect_new(attachment.object_id)
                self._refuse(attachment.object_id, CloseReason.NORMAL)

    def forget(self, attachments: Iterable[Attachment]) -> None:
        """Close ends that the app passed and the host will not hear of."""
        for attachment in attachments:
            if attachment.kind is AttachmentKind.STREAM:
                stream = self._streams.get(attachment.object_id)
                if stream is not None:
                    stream.forget()

    def close(self) -> None:
        """The session is over: end all, now and later, without a word."""
        self._over = True
        for stream in self._streams.values():
            stream.forget()

    def receive(self, frame: StreamData | StreamClosed | Credit) -> None:
        """Take a frame; one for a stream that has ended was sent before that was known.

        Raises:
            ChannelError: the host broke the protocol.
        """
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            newest = max(self._last_attached, self._last_opened)
            if frame.stream_id > (newest if frame.stream_id % 2 else self._next_id - 2):
                raise ChannelError(f"there is no stream {frame.stream_id} yet")
            return
        match frame:
            case StreamData():
                stream.receive(frame.data)
            case StreamClosed():
                stream.receive_end()
            case Credit():
                stream.receive_credit(frame.amount)

    def _expect_new(self, stream_id: int) -> None:
        if stream_id <= self._last_attached or stream_id in self._streams:
            raise ChannelError(f"stream {stream_id} is not new")
        self._last_attached = stream_id

    def _adopt(self, stream_id: int, fd: OwnedFd, flags: AttachmentFlags) -> None:
        # "Holder" is who will be given the fd: the app's peer, on the host.
        to_host = flags is AttachmentFlags.HOLDER_READS
        try:
            end = adopt_end(fd, we_write=not to_host)
        except OSError:
            self._refuse(stream_id, CloseReason.FAILED)
        else:
            self._begin(stream_id, end, to_host=to_host)

    def _begin(self, stream_id: int, end: StreamEnd, *, to_host: bool) -> None:
        context = self._context
        if self._over:
            end.close()
            return
        if len(self._streams) >= context.limit or not context.budget.take(1):
            end.close()
            self._refuse(stream_id, CloseReason.LIMIT_EXCEEDED)
            return
        stream: Stream = (
            StreamToHost(
                self._client_id, stream_id, end, context.outbox, context.send_window
            )
            if to_host
            else StreamToApp(
                self._client_id, stream_id, end, context.outbox, context.receive_window
            )
        )
        self._streams[stream_id] = stream
        self._nursery.start_soon(self._run, stream_id, stream, context.budget)

    def _refuse(self, stream_id: int, reason: CloseReason) -> None:
        if self._over:
            return
        closed = StreamClosed(self._client_id, stream_id, reason)
        stream = EndedStream(closed, self._context.outbox)
        self._streams[stream_id] = stream
        self._nursery.start_soon(self._run, stream_id, stream, None)

    async def _run(self, stream_id: int, stream: Stream, budget: Budget | None) -> None:
        try:
            await stream.run()
        finally:
            del self._streams[stream_id]
            if budget is not None:
                budget.give_back(1)
