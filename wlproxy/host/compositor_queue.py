"""What waits for one client's compositor connection, in the order it was decided.

Bytes with their fds, and the credit that the guest gets back once the compositor has
taken the bytes before it: a compositor that does not read makes its client run out of
credit, and nothing else.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from wlproxy.host.fds import OwnedFd
from wlproxy.host.unix_socket import Chunk, FdStream

MAX_BATCH = 64
"""Chunks per send: as many as go into one system call."""


@dataclass(frozen=True, slots=True)
class _Grant:
    amount: int


class CompositorQueue:
    """The queue, and the loop that empties it into a connection."""

    def __init__(self) -> None:
        self._items: deque[Chunk | _Grant] = deque()
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

    async def run(self, stream: FdStream, grant: Callable[[int], None]) -> None:
        """Send what is queued, for ever.

        Args:
            stream: the connection.
            grant: returns that much credit to the guest.

        Raises:
            trio.BrokenResourceError: the compositor is gone.
            trio.ClosedResourceError: the connection was closed or shut down here.
        """
        while True:
            while not self._items:
                await self._changed.park()
            batch = self._take_batch()
            try:
                if batch:
                    await stream.send_batch(batch)
            finally:
                _release(batch)
            self._unsent_bytes -= sum(len(chunk.data) for chunk in batch)
            self._changed.unpark_all()
            while self._items and isinstance(self._items[0], _Grant):
                item = self._items.popleft()
                assert isinstance(item, _Grant)
                grant(item.amount)

    def drop(self) -> None:
        """Forget what waits, and whatever is queued from now on."""
        self._dropped = True
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Chunk):
                _release((item,))
        self._unsent_bytes = 0
        self._changed.unpark_all()

    def _take_batch(self) -> list[Chunk]:
        batch: list[Chunk] = []
        while self._items and len(batch) < MAX_BATCH:
            item = self._items[0]
            if isinstance(item, _Grant):
                break
            batch.append(item)
            self._items.popleft()
        return batch


def _release(chunks: Sequence[Chunk]) -> None:
    for chunk in chunks:
        for fd in chunk.fds:
            fd.release()
