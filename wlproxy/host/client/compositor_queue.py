"""Queues what is to be sent to one client's compositor: bytes, copies before them, credit after.

Bytes with their fds, pixels that must be copied before the bytes behind them may leave,
and the credit that the guest gets back once the compositor has taken the bytes before
it: a compositor that does not read, or a client that has much copied, makes that client
run out of credit, and nothing else.

What need not wait leaves with `flush`, in the task that had it put: bytes, small copies
before them, credit.  The rest is for `run`, which is woken for that alone.

A buffer waits to be copied once at most: what else is to be copied into it joins that.
What the compositor sees of it is then newer than what it is told, never older, which is
what it may see of any buffer that an app draws into again before it is released.  If
one surface shows several buffers in turn, each is copied: between any two commits the
compositor may look at the surface.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from wlproxy.host.client.pixels import Copy, CopyBuffer
from wlproxy.relay.commands import CopyRows
from wlproxy.transport.fd_stream import Chunk, FdStream
from wlproxy.transport.fds import OwnedFd

MAX_BATCH = 64
"""Chunks per send: as many as go into one system call."""


@dataclass(frozen=True, slots=True)
class _Grant:
    amount: int


class CompositorQueue:
    """The queue, and what empties it into a connection."""

    def __init__(
        self,
        *,
        copy_at_once: Callable[[Copy], bool],
        copy: Callable[[Copy], Awaitable[None]],
        grant: Callable[[int], None],
    ) -> None:
        """Nothing is queued, and there is no connection yet.

        Args:
            copy_at_once: carries a copy out if that needs no waiting; else False.
            copy: carries a copy out.
            grant: returns that much credit to the guest.
        """
        self._copy_at_once = copy_at_once
        self._copy = copy
        self._grant = grant
        self._stream: FdStream | None = None
        self._items: list[Chunk | Copy | _Grant] = []
        self._copies: dict[CopyBuffer, Copy] = {}  # those that have not begun
        self._copying = False
        self._queued_bytes = 0
        self._work = trio.lowlevel.ParkingLot()
        """Where `run` waits for something that is for it."""
        self._changed = trio.lowlevel.ParkingLot()
        """Where others wait for less to be queued."""
        self._dropped = False

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait."""
        unsent = self._stream.unsent if self._stream is not None else 0
        return self._queued_bytes + unsent

    def connect(self, stream: FdStream) -> None:
        """Send to this connection from now on."""
        self._stream = stream
        self.flush()

    def put(self, data: bytes, fds: Sequence[OwnedFd] = ()) -> None:
        """Queue bytes; the fds stay their owner's and are held until they have left."""
        if self._dropped:
            return
        self._items.append(Chunk(data, tuple([fd.hold() for fd in fds])))
        self._queued_bytes += len(data)

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
        copy.add(rows)

    def put_grant(self, amount: int) -> None:
        """Queue a return of credit, due when all before it has been sent."""
        if self._dropped:
            return
        self._items.append(_Grant(amount))

    def flush(self) -> None:
        """Do what is queued, as far as nothing has to be waited for."""
        stream = self._stream
        if stream is None or self._copying:
            return
        all_sent = not stream.backlog
        while self._items and all_sent:
            all_sent = self._do_first(stream)
        if not all_sent:
            self._work.unpark_all()

    async def wait_below(self, limit: int) -> None:
        """Wait until fewer than `limit` bytes wait.  Not a checkpoint if they do."""
        while self.unsent_bytes >= limit:
            await self._changed.park()

    async def wait_copied(self) -> None:
        """Wait until nothing is being copied at the moment."""
        while self._copying:
            await self._changed.park()

    async def run(self) -> None:
        """Do what `flush` could not, for ever; once there is a connection.

        Raises:
            trio.BrokenResourceError: the compositor is gone.
            trio.ClosedResourceError: the connection was closed or shut down here.
            HostError: as `copy`.
        """
        stream = self._stream
        assert stream is not None, "connected before"
        while True:
            if stream.backlog:
                await stream.flush()
                self._changed.unpark_all()
            elif self._items and isinstance(self._items[0], Copy):
                await self._carry_out(self._items[0])
            elif self._items:
                self._do_first(stream)
            else:
                await self._work.park()

    def drop(self) -> None:
        """Forget what waits, and whatever is queued from now on."""
        self._dropped = True
        items, self._items = self._items, []
        for item in items:
            if isinstance(item, Chunk):
                _release(item)
            elif isinstance(item, Copy):
                item.release()
        self._copies.clear()
        self._queued_bytes = 0
        self._changed.unpark_all()

    def _do_first(self, stream: FdStream) -> bool:
        """Do what is first, if that needs no waiting; else, or if some is left, False.

        Copies are carried out with the bytes before and after them, which leave together.
        """
        first = self._items[0]
        if isinstance(first, _Grant):
            self._items.pop(0)
            self._grant(first.amount)
            return True
        batch: list[Chunk] = []
        try:
            self._take_into(batch)
            all_sent = stream.send_batch_at_once(batch)
        finally:
            for chunk in batch:
                self._queued_bytes -= len(chunk.data)
                _release(chunk)
            if self._changed:
                self._changed.unpark_all()
        return all_sent and not (self._items and self._items[0] is first)

    async def _carry_out(self, copy: Copy) -> None:
        self._items.pop(0)
        del self._copies[copy.target]
        self._copying = True
        try:
            await self._copy(copy)
        finally:
            copy.release()
            self._copying = False
            self._changed.unpark_all()

    def _take_into(self, batch: list[Chunk]) -> None:
        done = 0
        try:
            while done < len(self._items) and len(batch) < MAX_BATCH:
                match self._items[done]:
                    case Chunk() as chunk:
                        batch.append(chunk)
                    case Copy() as copy if self._copy_at_once(copy):
                        del self._copies[copy.target]
                        copy.release()
                    case _:
                        break
                done += 1
        finally:
            del self._items[:done]


def _release(chunk: Chunk) -> None:
    for fd in chunk.fds:
        fd.release()
