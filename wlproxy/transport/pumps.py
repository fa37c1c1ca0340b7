"""Pumps: they carry bytes between one end of a pipe and its stream's lane.

A stream outlives its client's Wayland connection: apps ask for a paste and leave, or leave
a helper behind that writes.  Whose the pipe is, and who may have one, is not known here.
Which streams there are, order and credit are `protocol.channel.lanes`' business.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import trio

from wlproxy.protocol.channel.frames import CloseReason, StreamClosed, StreamData
from wlproxy.protocol.channel.lanes.bounds import CHUNK
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.stream_end import StreamEnd, adopt_end, make_pipe

UNLIMITED: Final = 1 << 63
"""Bytes of a stream: more than any has."""

Start = Callable[[int, Callable[[], Awaitable[None]]], None]
"""Starts a task of a client."""
GetEnd = Callable[[], Awaitable[StreamEnd]]
"""Finds out what an fd is, where that takes time; closes it if it is of no use."""


class Pumps:
    """The open pipes of a session."""

    def __init__(self, lanes: LaneTasks, start: Start) -> None:
        """Begin without pipes; `start` starts their tasks."""
        self._lanes = lanes
        self._start = start
        self._running: dict[Lane, trio.CancelScope] = {}
        lanes.stream_ended = self._cancel

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._running

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._running))

    def adopt(
        self,
        lane: Lane,
        fd: OwnedFd,
        *,
        to_peer: bool,
        limit: int = 0,
        offset: int | None = None,
    ) -> None:
        """Take over a pipe's end that somebody passed, once its stream has a name.

        It ends after `limit` bytes, if that is not 0.  A file is read from `offset` on, if
        that is given.

        Raises:
            OSError: it is of no use; the peer is told.
            MemoryError: likewise.
        """
        if not self._lanes.is_open(lane):  # the peer closed the client, or the stream
            fd.close()
            return
        try:
            end = adopt_end(fd, we_write=not to_peer, offset=offset)
        except (OSError, MemoryError):
            self.refuse(lane, CloseReason.FAILED)
            raise
        self.start(lane, end, to_peer=to_peer, limit=limit)

    def create(self, lane: Lane, *, to_peer: bool, limit: int = 0) -> OwnedFd:
        """Make a pipe for a stream; return the end that is to be passed on.

        It ends after `limit` bytes, if that is not 0.
        If the stream has ended already, that is one of a pipe without another end.

        Raises:
            OSError: no pipe can be had; the peer is told.
            MemoryError: likewise.
        """
        try:
            end, theirs = make_pipe(we_write=not to_peer)
        except (OSError, MemoryError):
            self.refuse(lane, CloseReason.FAILED)
            raise
        if self._lanes.is_open(lane):
            self.start(lane, end, to_peer=to_peer, limit=limit)
        else:
            end.close()
        return theirs

    def start(
        self, lane: Lane, end: StreamEnd | GetEnd, *, to_peer: bool, limit: int = 0
    ) -> None:
        """Pump what an end reads to the peer, or what the peer sends into the end."""
        self._running[lane] = trio.CancelScope()
        run = partial(self._run, lane, end, to_peer=to_peer, limit=limit)
        self._start(lane.client_id, run)

    def refuse(self, lane: Lane, reason: CloseReason) -> None:
        """Tell the peer that nothing is done with a stream, or nothing more."""
        self._lanes.put(StreamClosed(*lane, reason))

    def end(self, lane: Lane, reason: CloseReason) -> None:
        """End a stream, whatever is still in its pipe."""
        self.refuse(lane, reason)
        self._cancel(lane)

    def close(self) -> None:
        """End all streams without a word: the session is over."""
        for scope in self._running.values():
            scope.cancel()

    def _cancel(self, lane: Lane) -> None:
        if lane in self._running:
            self._running[lane].cancel()

    async def _run(
        self, lane: Lane, end: StreamEnd | GetEnd, *, to_peer: bool, limit: int
    ) -> None:
        pump = pump_to_peer if to_peer else pump_from_peer
        reason: CloseReason | None = None  # as it stays if this is cancelled
        try:
            with self._running[lane]:
                if not isinstance(end, StreamEnd):
                    end = await end()
                with end:
                    await pump(end, lane, self._lanes, limit)
                reason = CloseReason.NORMAL
        except OSError:
            reason = CloseReason.FAILED
        except Exception:
            reason = CloseReason.FAILED
            raise
        finally:
            del self._running[lane]
            if reason is not None:
                self.refuse(lane, reason)


async def pump_to_peer(
    end: StreamEnd, lane: Lane, lanes: LaneTasks, limit: int = 0
) -> None:
    """Send what the pipe yields until its end.  Cancel it when the peer reads no more.

    Args:
        end: of the pipe.
        lane: the stream's.
        lanes: where it goes.
        limit: bytes after which it is enough; 0: none.

    Raises:
        OSError: it cannot be read.
    """
    left = limit or UNLIMITED
    while left:
        room = await lanes.room(lane)
        data = await end.read(min(CHUNK, room, left))
        if not data:
            return
        left -= len(data)
        lanes.put(StreamData(*lane, data))


async def pump_from_peer(
    end: StreamEnd, lane: Lane, lanes: LaneTasks, limit: int = 0
) -> None:
    """Write what the peer sends until its end, or until nobody reads any more; see above."""
    left = limit or UNLIMITED

    async def next_chunk() -> bytes | None:
        nonlocal left
        chunk = await lanes.pull(lane) if left else None
        if chunk is None:
            return None
        chunk = chunk[:left]
        left -= len(chunk)
        return chunk

    await end.write_chunks(next_chunk, partial(lanes.consumed, lane))
