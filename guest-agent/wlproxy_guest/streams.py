"""Carries apps' pipes as streams, and limits how many there are.

A stream outlives its client's Wayland connection: an app asks for a paste and leaves, or
leaves behind a helper that still writes.  A stream beyond the limit ends at once, and
nothing else does.  Ids, order and credit are the business of `protocol.channel.lanes`.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

import trio

from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    CloseReason,
    StreamClosed,
)
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.pumps import pump_from_peer, pump_to_peer
from wlproxy.transport.stream_end import StreamEnd, adopt_end, make_pipe
from wlproxy_guest.foreign import may_hang
from wlproxy_guest.quotas import Budget
from wlproxy_guest.workers import Workers

ADOPT_SECONDS: Final = 10.0
"""How long the server of a file may take to say what the file is."""
MAX_ADOPTING: Final = 4
"""Threads that ask at once."""


class Streams:
    """The open pipes of a session."""

    def __init__(self, lanes: LaneTasks, limit: int, budget: Budget) -> None:
        """Allow each client `limit` streams, and all clients together `budget`."""
        self._lanes = lanes
        self._limit = limit
        self._budget = budget
        self._workers = Workers(MAX_ADOPTING)
        self._running: dict[Lane, trio.CancelScope] = {}
        self.nursery: trio.Nursery | None = None
        """Where they run; None before the session begins and after it ended."""

    def adopt(self, lane: Lane, fd: OwnedFd, flags: AttachmentFlags) -> None:
        """Take over a pipe's end that the app passed, once its stream has a name."""
        if not self._lanes.is_open(lane):  # the host closed the client, or the stream
            fd.close()
            return
        # "Holder" is who will be given the fd: the app's peer, on the host.
        to_host = flags is AttachmentFlags.HOLDER_READS
        if may_hang(fd.fileno()):
            self._start(lane, fd, to_host=to_host)  # which asks in a thread
            return
        try:
            end = adopt_end(fd, we_write=not to_host)
        except OSError:
            self.refuse(lane, CloseReason.FAILED)
        else:
            self._start(lane, end, to_host=to_host)

    def create(self, lane: Lane, flags: AttachmentFlags) -> OwnedFd:
        """Make a pipe for a stream of the host's; return the app's end.

        Raises:
            OSError: no pipe can be had.
        """
        app_reads = flags is AttachmentFlags.HOLDER_READS
        try:
            end, apps = make_pipe(we_write=app_reads)
        except OSError:
            self.refuse(lane, CloseReason.FAILED)
            raise
        self._start(lane, end, to_host=not app_reads)
        return apps

    def refuse(self, lane: Lane, reason: CloseReason) -> None:
        """Tell the host that nothing is done with a stream, or nothing more."""
        self._lanes.put(StreamClosed(*lane, reason))

    def ignore(self, client_id: int, attachments: Iterable[Attachment]) -> None:
        """Tell the host that the app will not get these streams, and nobody has their ends."""
        for one in attachments:
            if one.kind is AttachmentKind.STREAM:
                self.refuse(Lane(client_id, one.object_id), CloseReason.NORMAL)

    def receive_end(self, lane: Lane) -> None:
        """Take the host's closing of a stream; tell the app if nobody reads any more."""
        scope = self._running.get(lane)
        if scope is not None and not self._lanes.is_open(lane):
            scope.cancel()

    def close(self) -> None:
        """End all streams, present and future, without a word: the session is over."""
        self.nursery = None
        for scope in self._running.values():
            scope.cancel()

    def _start(self, lane: Lane, end: StreamEnd | OwnedFd, *, to_host: bool) -> None:
        of_client = sum(one.client_id == lane.client_id for one in self._running)
        if self.nursery is None:
            end.close()
        elif of_client >= self._limit or not self._budget.take(1):
            end.close()
            self.refuse(lane, CloseReason.LIMIT_EXCEEDED)
        else:
            self._running[lane] = trio.CancelScope()
            self.nursery.start_soon(self._run, lane, end, to_host)

    async def _run(
        self,
        lane: Lane,
        end: StreamEnd | OwnedFd,
        to_host: bool,  # noqa: FBT001 - of start_soon
    ) -> None:
        pump = pump_to_peer if to_host else pump_from_peer
        reason = None
        try:
            with self._running[lane]:
                if isinstance(end, OwnedFd):
                    end = await self._adopt_elsewhere(end, we_write=not to_host)
                try:
                    reason = await pump(end, lane, self._lanes)
                finally:
                    end.close()
        except OSError:
            reason = CloseReason.FAILED
        finally:
            del self._running[lane]
            self._budget.give_back(1)
        if reason is not None:
            self.refuse(lane, reason)

    async def _adopt_elsewhere(self, fd: OwnedFd, *, we_write: bool) -> StreamEnd:
        """Take over an fd whose server may not answer; it is taken over even if this fails.

        Raises:
            OSError: it is of no use, or the server takes too long.
        """

        def discard(end: StreamEnd | None) -> None:
            # Without an end, `adopt_end` has closed the fd, or was never called.
            (end or fd).close()

        work = partial(adopt_end, fd, we_write=we_write)
        deadline = trio.current_time() + ADOPT_SECONDS
        try:
            return await self._workers.run(work, discard, deadline)
        except trio.TooSlowError as exc:
            raise TimeoutError("the server of a file does not answer") from exc
