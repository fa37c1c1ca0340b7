"""What waits for one client's compositor connection, in the order it was decided.

Bytes with their fds, pixels that must be copied before the bytes behind them may leave,
and the credit that the guest gets back once the compositor has taken the bytes before
it: a compositor that does not read, or a client that has much copied, makes that client
run out of credit, and nothing else.

A buffer waits to be copied once at most: what else is to be copied into it joins that.
What the compositor sees of it is then newer than what it is told, never older, which is
what it may see of any buffer that an app draws into again before it is released.  Of
several buffers that one surface shows in turn each is copied: between any two commits
the compositor may look at the surface.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from wlproxy.host.pixels import Copy, CopyBuffer
from wlproxy.relay.commands import CopyRows
from wlproxy.transport.fd_stream import Chunk, FdStream
from wlproxy.transport.fds import OwnedFd

MAX_BATCH = 64
"""Chunks per send: as many as go into one system call."""


@dataclass(frozen=True, slots=True)
class _Grant:
    amount: int


class CompositorQueue:
    """The queue, and the loop that empties it into a connection."""

    def __init__(self) -> None:
        self._items: deque[Chunk | Copy | _Grant] = deque()
        self._copies: dict[CopyBuffer, Copy] = {}  # those that have not begun
        self._copying = False
        self._unsent_bytes = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._dropped = False

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait."""
        return self._unsent_bytes

    def put(self, data: bytes, fds: Sequence[OwnedFd] = ()) -> None:
        """Queue bytes; the fds stay their owner's and are held until they have left."""
        if self._dropped:
            return
        self._items.append(Chunk(data, tuple(fd.hold() for fd in fds)))
        self._unsent_bytes += len(data)
        self._changed.unpark_all()

    def put_copy(self, rows: CopyRows, target: CopyBuffer) -> None:
        """Queue a copy, to be done before what is put from now on leaves.

        Its buffer and fd are held until it is done.

        Raises:
            LocalProtocolError: the rows are not inside the guest's pages and the target.
        """
        if self._dropped:
            return
        copy = self._copies.get(target)
        if copy is None:
            copy = self._copies[target] = Copy(rows.handle, target)
            self._items.append(copy)
            self._changed.unpark_all()
        copy.add(rows)

    def put_grant(self, amount: int) -> None:
        """Queue a return of credit, due when all before it has been sent."""
        if self._dropped:
            return
        self._items.append(_Grant(amount))
        self._changed.unpark_all()

    async def wait_below(self, limit: int) -> None:
        """Wait until fewer than `limit` bytes wait.  Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while self._unsent_bytes >= limit:
            await self._changed.park()

    async def wait_copied(self) -> None:
        """Wait until nothing is being copied at the moment."""
        while self._copying:
            await self._changed.park()

    async def run(
        self,
        stream: FdStream,
        copy: Callable[[Copy], Awaitable[None]],
        grant: Callable[[int], None],
    ) -> None:
        """Send what is queued, for ever.

        Args:
            stream: the connection.
            copy: carries a copy out.
            grant: returns that much credit to the guest.

        Raises:
            trio.BrokenResourceError: the compositor is gone.
            trio.ClosedResourceError: the connection was closed or shut down here.
            HostError: as `copy`.
        """
        while True:
            while not self._items:
                await self._changed.park()
            match self._items[0]:
                case Chunk():
                    await self._send(stream)
                case Copy() as waiting:
                    await self._carry_out(waiting, copy)
                case _Grant(amount=amount):
                    self._items.popleft()
                    grant(amount)

    def drop(self) -> None:
        """Forget what waits, and whatever is queued from now on."""
        self._dropped = True
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Chunk):
                _release((item,))
            elif isinstance(item, Copy):
                item.release()
        self._copies.clear()
        self._unsent_bytes = 0
        self._changed.unpark_all()

    async def _send(self, stream: FdStream) -> None:
        batch = self._take_batch()
        try:
            await stream.send_batch(batch)
        finally:
            _release(batch)
        self._unsent_bytes -= sum(len(chunk.data) for chunk in batch)
        self._changed.unpark_all()

    async def _carry_out(
        self, copy: Copy, carry_out: Callable[[Copy], Awaitable[None]]
    ) -> None:
        self._items.popleft()
        del self._copies[copy.target]
        self._copying = True
        try:
            await carry_out(copy)
        finally:
            copy.release()
            self._copying = False
            self._changed.unpark_all()

    def _take_batch(self) -> list[Chunk]:
        batch: list[Chunk] = []
        while self._items and len(batch) < MAX_BATCH:
            item = self._items[0]
            if not isinstance(item, Chunk):
                break
            batch.append(item)
            self._items.popleft()
        return batch


def _release(chunks: Sequence[Chunk]) -> None:
    for chunk in chunks:
        for fd in chunk.fds:
            fd.release()
