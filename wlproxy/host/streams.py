"""Pipes between the guest and the compositor: clipboard, drag and drop.

Each stream has one direction, and one pump: a task that moves bytes between a pipe and
`StreamData` frames, as fast as the slower side takes them.  Either side may close; what
still comes for a stream that is gone is dropped.
"""

import os
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from wlproxy.host.errors import HostError, TooManyStreamsError
from wlproxy.host.fds import OwnedFd
from wlproxy.host.outgoing import Outgoing, OutgoingStream
from wlproxy.protocol.channel.flow import ReceiveWindow, cost
from wlproxy.protocol.channel.frames import (
    CloseReason,
    Credit,
    StreamClosed,
    StreamData,
)
from wlproxy.relay.commands import Direction

MAX_STREAMS = 64
"""Open streams per client.  A clipboard needs one or two at a time."""

MAX_VM_STREAMS = 1024
"""The same of all clients together: each may make us hold a window."""

STREAM_WINDOW = 128 * 1024
"""Bytes that the guest may have outstanding on a stream: twice a pipe's capacity."""

Start = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task; it must not fail."""


class _Writer:
    """Guest to compositor: chunks that wait for room in the pipe."""

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.window = ReceiveWindow(STREAM_WINDOW)
        self.scope = trio.CancelScope()
        self.chunks: deque[bytes] = deque()
        self.ended = False
        self.changed = trio.lowlevel.ParkingLot()

    async def next_chunk(self) -> bytes | None:
        """Wait for a chunk; None is the end."""
        while not self.chunks and not self.ended:
            await self.changed.park()
        return self.chunks.popleft() if self.chunks else None


class _Reader:
    """Compositor to guest."""

    def __init__(self, outgoing: OutgoingStream) -> None:
        self.outgoing = outgoing
        self.scope = trio.CancelScope()


class Streams:
    """The streams of one client."""

    def __init__(self, client_id: int, outgoing: Outgoing, start: Start) -> None:
        """There are none yet.

        Args:
            client_id: whose.
            outgoing: where their frames go.
            start: starts the pumps.
        """
        self._client_id = client_id
        self._outgoing = outgoing
        self._start = start
        self._pumps: dict[int, _Reader | _Writer] = {}

    def __len__(self) -> int:
        return len(self._pumps)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._pumps

    def create(self, stream_id: int, direction: Direction) -> OwnedFd:
        """Make a pipe for a stream that the guest named; return the compositor's end.

        Raises:
            TooManyStreamsError: the client has too many, or all together have.
            HostError: it has one with this id, or no fd is left.
        """
        self._check_new(stream_id)
        try:
            numbers = os.pipe2(os.O_CLOEXEC)
        except OSError as exc:
            raise HostError(
                "cannot make a pipe", tried="pipe2", errno=exc.errno or 0
            ) from exc
        read_end, write_end = (OwnedFd(number) for number in numbers)
        if direction is Direction.TO_COMPOSITOR:
            self._pump(stream_id, write_end, direction, announced=True)
            return read_end
        self._pump(stream_id, read_end, direction, announced=True)
        return write_end

    def adopt(self, stream_id: int, fd: OwnedFd, direction: Direction) -> None:
        """Pump an fd that the compositor sent, and which this takes over.

        Raises:
            TooManyStreamsError: the client has too many, or all together have.
            HostError: it has one with this id.
        """
        try:
            self._check_new(stream_id)
        except HostError:
            fd.close()
            raise
        self._pump(stream_id, fd, direction, announced=False)

    def receive_data(self, frame: StreamData) -> None:
        """Take a chunk from the guest.

        Raises:
            ChannelError: it exceeds the stream's window.
        """
        pump = self._pumps.get(frame.stream_id)
        if isinstance(pump, _Writer):
            pump.window.received(cost(frame))
            pump.chunks.append(frame.data)
            pump.changed.unpark_all()

    def receive_closed(self, frame: StreamClosed) -> None:
        """Take the guest's word that its end is closed."""
        pump = self._pumps.get(frame.stream_id)
        if isinstance(pump, _Writer):
            pump.ended = True
            pump.changed.unpark_all()
        elif isinstance(pump, _Reader):
            pump.scope.cancel()

    def close(self) -> None:
        """Close all pipes, whatever is still in them."""
        for pump in self._pumps.values():
            pump.scope.cancel()

    def _check_new(self, stream_id: int) -> None:
        if len(self._pumps) >= MAX_STREAMS:
            raise TooManyStreamsError(f"more than {MAX_STREAMS} open pipes")
        if self._outgoing.stream_count >= MAX_VM_STREAMS:
            raise TooManyStreamsError(f"more than {MAX_VM_STREAMS} pipes of all apps")
        if self._outgoing.has_stream(self._client_id, stream_id):
            raise HostError(f"stream {stream_id} is open already")

    def _pump(
        self, stream_id: int, fd: OwnedFd, direction: Direction, *, announced: bool
    ) -> None:
        outgoing = self._outgoing.open_stream(
            self._client_id, stream_id, announced=announced
        )
        if direction is Direction.TO_COMPOSITOR:
            writer = _Writer(stream_id)
            self._pumps[stream_id] = writer
            self._start(lambda: self._run_writer(writer, fd, outgoing))
        else:
            reader = _Reader(outgoing)
            self._pumps[stream_id] = reader
            self._start(lambda: self._run_reader(reader, fd))

    async def _run_reader(self, reader: _Reader, fd: OwnedFd) -> None:
        reason: CloseReason | None = None
        try:
            async with _pipe(fd) as pipe:
                with reader.scope:
                    reason = await self._read(reader, pipe)
        finally:
            self._finish(reader.outgoing, reason)

    async def _read(self, reader: _Reader, pipe: trio.lowlevel.FdStream) -> CloseReason:
        try:
            while chunk := await pipe.receive_some(reader.outgoing.chunk_size):
                await reader.outgoing.send(bytes(chunk))
        except trio.BrokenResourceError:
            return CloseReason.FAILED
        return CloseReason.NORMAL

    async def _run_writer(
        self, writer: _Writer, fd: OwnedFd, outgoing: OutgoingStream
    ) -> None:
        reason: CloseReason | None = None
        try:
            async with _pipe(fd) as pipe:
                with writer.scope:
                    reason = await self._write(writer, pipe)
        finally:
            self._finish(outgoing, reason)

    async def _write(
        self, writer: _Writer, pipe: trio.lowlevel.FdStream
    ) -> CloseReason | None:
        while (chunk := await writer.next_chunk()) is not None:
            try:
                await pipe.send_all(chunk)
            except trio.BrokenResourceError:
                return CloseReason.NORMAL  # nobody reads: as a shell's `| head`
            grant = writer.window.consumed(len(chunk))
            if grant:
                self._outgoing.put(Credit(self._client_id, writer.stream_id, grant))
        return None  # the guest said so itself

    def _finish(self, outgoing: OutgoingStream, reason: CloseReason | None) -> None:
        """Forget a stream; tell the guest unless it knows."""
        del self._pumps[outgoing.stream_id]
        if reason is None:
            outgoing.forget()
        else:
            outgoing.close(reason)


def _pipe(fd: OwnedFd) -> trio.lowlevel.FdStream:
    # Non-blocking is a property of the open file: of a pipe that the compositor sent
    # it is also the compositor's, until trio restores it.
    return trio.lowlevel.FdStream(fd.detach())
