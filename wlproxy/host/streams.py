"""Pipes between the guest and the compositor: clipboard, drag and drop.

Each stream has one direction, and one pump: a task that moves bytes between an fd and
`StreamData` frames, as fast as the slower side takes them.  Either side may close; what
still comes for a stream that is gone is dropped.

Streams belong to the session: an app that has asked for a paste, or was asked for one,
may close its Wayland connection before it is done.  One too many ends at once, for both
who hold its ends, and ends nothing else.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from wlproxy.host.errors import HostError
from wlproxy.host.outgoing import Outgoing
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.stream_lane import OutgoingStream
from wlproxy.protocol.channel.flow import ReceiveWindow, cost
from wlproxy.protocol.channel.frames import (
    CloseReason,
    Credit,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import (
    MAX_ALL_STREAMS,
    MAX_STREAMS,
    STREAM_WINDOW,
)
from wlproxy.relay.commands import Direction
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.stream_end import StreamEnd, adopt_end, make_pipe

MAX_LEFT_STREAMS = 256
"""Streams of clients that have gone.  Of more, those end whose clients went first: apps
that come and go must not take up what the others may have."""

Start = Callable[[int, Callable[[], Awaitable[None]]], None]
"""Starts a task of a client; whatever goes wrong in it is that client's."""


class _Pump:
    """One stream."""

    def __init__(self, client_id: int, stream_id: int) -> None:
        self.client_id = client_id
        self.stream_id = stream_id
        self.scope = trio.CancelScope()
        self.reason: CloseReason | None = None
        """What the guest is to be told when it ends; None if it knows."""

    def end(self, reason: CloseReason | None) -> None:
        """Have it end, whatever is still in it."""
        self.reason = reason
        self.scope.cancel()

    def drop(self) -> None:
        """The guest has never heard of it."""
        self.end(None)


class _Writer(_Pump):
    """Guest to compositor: chunks that wait for room in the pipe."""

    def __init__(self, client_id: int, stream_id: int) -> None:
        super().__init__(client_id, stream_id)
        self.window = ReceiveWindow(STREAM_WINDOW)
        self.chunks: deque[bytes] = deque()
        self.ended = False
        self.changed = trio.lowlevel.ParkingLot()

    async def next_chunk(self) -> bytes | None:
        """Wait for a chunk; None is the end."""
        while not self.chunks and not self.ended:
            await self.changed.park()
        return self.chunks.popleft() if self.chunks else None


class _Reader(_Pump):
    """Compositor to guest."""


class Streams:
    """The streams of one session."""

    def __init__(self, outgoing: Outgoing, start: Start, log: VmLog) -> None:
        """There are none yet.

        Args:
            outgoing: where their frames go.
            start: starts the pumps.
            log: written to.
        """
        self._outgoing = outgoing
        self._start = start
        self._log = log
        self._clients: dict[int, dict[int, _Pump]] = {}
        self._left: dict[int, None] = {}
        """Clients that have gone and have streams, in the order in which they went."""
        self._warned: set[int] = set()

    def __len__(self) -> int:
        return sum(len(pumps) for pumps in self._clients.values())

    def count(self, client_id: int) -> int:
        """How many a client has."""
        return len(self._clients.get(client_id, ()))

    def has(self, client_id: int, stream_id: int) -> bool:
        """Whether there is such a stream."""
        return self._find(client_id, stream_id) is not None

    def create(
        self,
        client_id: int,
        stream_id: int,
        direction: Direction,
        *,
        usable: bool = True,
    ) -> OwnedFd:
        """Make a pipe for a stream that the guest knows; return the compositor's end.

        Is the stream one too many, or not usable, it is told so, and the pipe has no
        other end.

        Raises:
            HostError: there is a stream with this id, or no fd is left.
        """
        if self._outgoing.has_stream(client_id, stream_id):
            raise HostError(f"stream {stream_id} is open already")
        reason = CloseReason.FAILED
        if usable and self._are_too_many(client_id):
            usable, reason = False, CloseReason.LIMIT_EXCEEDED
        to_compositor = direction is Direction.TO_COMPOSITOR
        try:
            end, theirs = make_pipe(we_write=to_compositor)
        except OSError as exc:
            self.refuse(client_id, stream_id)
            raise HostError(
                "cannot make a pipe", tried="pipe2", errno=exc.errno or 0
            ) from exc
        if usable:
            self._pump(client_id, stream_id, end, direction, announced=True)
        else:
            end.close()
            self.refuse(client_id, stream_id, reason)
        return theirs

    def refuse(
        self,
        client_id: int,
        stream_id: int,
        reason: CloseReason = CloseReason.FAILED,
    ) -> None:
        """Tell the guest that nothing is done with a stream that it attached."""
        self._outgoing.put(StreamClosed(client_id, stream_id, reason))

    def adopt(
        self, client_id: int, stream_id: int, fd: OwnedFd, direction: Direction
    ) -> None:
        """Pump an fd that the compositor sent, and which this takes over.

        One that cannot be used, or is one too many, has ended for the guest.

        Raises:
            HostError: there is a stream with this id.
        """
        if self._outgoing.has_stream(client_id, stream_id):
            fd.close()
            raise HostError(f"stream {stream_id} is open already")
        if self._are_too_many(client_id):
            fd.close()
            self._announce_ended(client_id, stream_id, CloseReason.LIMIT_EXCEEDED)
            return
        try:
            to_compositor = direction is Direction.TO_COMPOSITOR
            end = adopt_end(fd, we_write=to_compositor)
        except OSError as exc:
            self._warn(
                client_id, f"it has to go into something else than a file: {exc}"
            )
            self._announce_ended(client_id, stream_id, CloseReason.FAILED)
            return
        self._pump(client_id, stream_id, end, direction, announced=False)

    def receive(self, frame: StreamData | StreamClosed) -> None:
        """Take what the guest says of a stream; raises as `receive_data`."""
        if isinstance(frame, StreamData):
            self.receive_data(frame)
        else:
            self.receive_closed(frame)

    def receive_data(self, frame: StreamData) -> None:
        """Take a chunk from the guest.

        Raises:
            ChannelError: it exceeds the stream's window.
        """
        pump = self._find(frame.client_id, frame.stream_id)
        if isinstance(pump, _Writer):
            pump.window.received(cost(frame))
            pump.chunks.append(frame.data)
            pump.changed.unpark_all()

    def receive_closed(self, frame: StreamClosed) -> None:
        """Take the guest's word that its end is closed."""
        pump = self._find(frame.client_id, frame.stream_id)
        if isinstance(pump, _Writer):
            pump.ended = True
            pump.changed.unpark_all()
        elif pump is not None:
            pump.end(None)

    def client_left(self, client_id: int) -> None:
        """A client has gone: its streams stay, but are the first to end if need be."""
        self._warned.discard(client_id)
        if client_id in self._clients:
            self._left[client_id] = None
        excess = sum(map(self.count, self._left)) - MAX_LEFT_STREAMS
        for left in tuple(self._left):
            for pump in tuple(self._clients[left].values())[: max(excess, 0)]:
                pump.end(CloseReason.LIMIT_EXCEEDED)
                excess -= 1

    def close(self) -> None:
        """Close all pipes, whatever is still in them."""
        for pumps in self._clients.values():
            for pump in pumps.values():
                pump.drop()

    def _find(self, client_id: int, stream_id: int) -> _Pump | None:
        return self._clients.get(client_id, {}).get(stream_id)

    def _are_too_many(self, client_id: int) -> bool:
        if self.count(client_id) >= MAX_STREAMS:
            self._warn(client_id, f"it has {MAX_STREAMS} open pipes")
            return True
        if self._outgoing.stream_count >= MAX_ALL_STREAMS:
            self._warn(client_id, f"all apps have {MAX_ALL_STREAMS} open pipes")
            return True
        return False

    def _warn(self, client_id: int, problem: str) -> None:
        """Say once why a client's transfers end at their beginning."""
        if client_id not in self._warned:
            self._warned.add(client_id)
            self._log.of_client(
                logging.WARNING, "client %d: a paste has ended: %s", client_id, problem
            )

    def _announce_ended(
        self, client_id: int, stream_id: int, reason: CloseReason
    ) -> None:
        """Have the guest told, once it knows of the stream, that there is nothing."""
        self._outgoing.open_stream(client_id, stream_id, announced=False).close(reason)

    def _pump(
        self,
        client_id: int,
        stream_id: int,
        end: StreamEnd,
        direction: Direction,
        *,
        announced: bool,
    ) -> None:
        to_compositor = direction is Direction.TO_COMPOSITOR
        pump = (_Writer if to_compositor else _Reader)(client_id, stream_id)
        outgoing = self._outgoing.open_stream(
            client_id, stream_id, announced=announced, dropped=pump.drop
        )
        self._clients.setdefault(client_id, {})[stream_id] = pump
        self._start(client_id, lambda: self._run(pump, end, outgoing))

    async def _run(self, pump: _Pump, end: StreamEnd, outgoing: OutgoingStream) -> None:
        try:
            with pump.scope:
                if isinstance(pump, _Writer):
                    pump.reason = await self._write(pump, end)
                else:
                    pump.reason = await self._read(end, outgoing)
        finally:
            end.close()
            self._finish(pump, outgoing)

    async def _read(self, end: StreamEnd, outgoing: OutgoingStream) -> CloseReason:
        try:
            while chunk := await end.read(outgoing.chunk_size):
                await outgoing.send(chunk)
        except OSError:
            return CloseReason.FAILED
        return CloseReason.NORMAL

    async def _write(self, writer: _Writer, end: StreamEnd) -> CloseReason | None:
        def written(amount: int) -> None:
            grant = writer.window.consumed(amount)
            if grant:
                self._outgoing.put(Credit(writer.client_id, writer.stream_id, grant))

        if await end.write_chunks(writer.next_chunk, written):
            return None  # the guest said so itself
        return CloseReason.NORMAL  # nobody reads: as a shell's `| head`

    def _finish(self, pump: _Pump, outgoing: OutgoingStream) -> None:
        """Forget a stream; tell the guest unless it knows."""
        pumps = self._clients[pump.client_id]
        del pumps[pump.stream_id]
        if not pumps:
            del self._clients[pump.client_id]
            self._left.pop(pump.client_id, None)
        if pump.reason is None:
            outgoing.forget()
        else:
            outgoing.close(pump.reason)
