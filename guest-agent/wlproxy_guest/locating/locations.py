"""The located ranges of one client: the host's questions, the answers, and the pins.

The host says when a pin may be dropped (`Release`, `ClientReleased`); otherwise it is
dropped when the session ends.  `page_locator` finds out where the pages are.

Questions are answered one by one, each in a thread, because locating blocks and some files'
servers never answer.  No thread can be interrupted.  So a question that takes too long is
answered with an error, and whatever its thread has taken (an fd, quota, perhaps a pin) is given
back when the thread returns, and not before.  The host may release a location while it waits
for the answer.  The pin is then dropped after the answer, so that the host never hears
`Released` before `Located`.
"""

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from wlproxy.protocol.channel.frames import (
    MAX_EXTENTS_PER_FRAME,
    Extent,
    Locate,
    Located,
    LocateStatus,
    Release,
    Released,
)
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.protocol.errors import ChannelError
from wlproxy.protocol.quota import Quota, Share
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy_guest.hanging_files import may_hang
from wlproxy_guest.locating.fences import WriteFences
from wlproxy_guest.locating.mapping import pages_of
from wlproxy_guest.locating.page_locator import LocateError, Locator, Pin, PinnedRange
from wlproxy_guest.quotas import Limits
from wlproxy_guest.workers import Workers

MAX_WAITING: Final = 4096
"""Questions about one client that may wait; the host pins no more than it uses."""
LOCATE_SECONDS: Final = 30.0
"""After which a question is answered, whatever hangs."""
MAX_HANGING: Final = 2
"""Answers that hang per client; with as many, its other files that may hang are not located."""
MAX_FOREIGN: Final = 2
"""Threads that locate files which may make them wait: other apps' buffers do not."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Locating:
    """What the clients of an agent share for locating.

    Attributes:
        locator: does the work, in threads.
        threads: where, and how many at once.
        pinned: bytes of all clients together.
        foreign: the threads for files that may make them wait.
    """

    locator: Locator
    threads: Workers
    pinned: Quota
    foreign: Workers = field(default_factory=lambda: Workers(MAX_FOREIGN))


@dataclass(frozen=True, slots=True)
class _Pinned:
    """A pin, how many bytes it keeps, and the fd of the dma-buf or -1."""

    pin: Pin
    amount: int
    dmabuf: int


@dataclass(slots=True)
class _Attempt:
    """A range that a thread is locating: what was taken for it, and whether it is over."""

    fd: OwnedFd
    amount: int
    ended: bool = False
    hanging: bool = False


class Locations:
    """The ranges of one client that are pinned or about to be."""

    def __init__(
        self, client_id: int, locating: Locating, limits: Limits, lanes: LaneTasks
    ) -> None:
        self._client_id = client_id
        self._locating = locating
        self._limit = limits.locations
        self._pinned = Share(locating.pinned, limits.pinned_of_one)
        self._lanes = lanes
        self._pins: dict[int, _Pinned] = {}
        """By location id."""
        self._fences = WriteFences()
        self._waiting: list[tuple[Locate, float]] = []
        """Questions, and when each is to be answered."""
        self._hanging = 0
        self._unanswered: set[int] = set()
        self._released_early: set[int] = set()
        self._running = False
        self._over = False

    def receive_locate(self, request: Locate) -> None:
        """Queue a question.

        Raises:
            ChannelError: the id is in use, or too many questions wait.
        """
        location_id = request.location_id
        if location_id in self._pins or location_id in self._unanswered:
            raise ChannelError(f"location {location_id} is in use")
        if len(self._unanswered) >= MAX_WAITING:
            raise ChannelError(f"over {MAX_WAITING} unanswered Locate frames")
        self._unanswered.add(location_id)
        self._waiting.append((request, trio.current_time() + LOCATE_SECONDS))

    def receive_release(self, request: Release) -> None:
        """Drop a pin and say so.  If it is still being made, drop it when that is done."""
        if request.location_id in self._unanswered:
            self._released_early.add(request.location_id)
        else:
            self._release(request.location_id)
            self._lanes.put(Released(self._client_id, request.location_id))

    def release_all(self) -> None:
        """Drop every pin, now and later, without a word."""
        self._over = True
        for location_id in list(self._pins):
            self._release(location_id)

    def are_drawn(self) -> bool:
        """Tell whether nothing is being written into pinned dma-bufs just now."""
        return not self._fences.pending()

    async def wait_drawn(self) -> None:
        """Wait until what is being written into pinned dma-bufs has been written."""
        # At worst one is shown half drawn, after so long.
        await self._fences.wait_drawn()

    def attend(self) -> bool:
        """Whether `run` is to be called now, since questions wait that nobody answers."""
        if self._running or not self._waiting:
            return False
        self._running = True
        return True

    async def run(self, memories: Mapping[int, OwnedFd]) -> None:
        """Answer the questions about the fds in `memories`, one by one, until none waits."""
        try:
            await self._run(memories)
        finally:
            self._running = False

    async def _run(self, memories: Mapping[int, OwnedFd]) -> None:
        while self._waiting:
            request, deadline = self._waiting.pop(0)
            try:
                extents = await self._locate(request, deadline, memories)
            except Exception as caught:  # noqa: BLE001 - it costs this answer only
                exc = as_locate_error(caught)
                log.info("client %d: not located: %s", self._client_id, exc)
                self._answer(request.location_id, exc.status, exc.errno)
            else:
                await self._tell(request.location_id, extents)
            self._unanswered.discard(request.location_id)
            if request.location_id in self._released_early:
                self._released_early.discard(request.location_id)
                self.receive_release(Release(self._client_id, request.location_id))

    async def _tell(self, location_id: int, extents: Sequence[Extent]) -> None:
        for first in range(0, len(extents), MAX_EXTENTS_PER_FRAME):
            last = first + MAX_EXTENTS_PER_FRAME
            await self._lanes.idle(Lane(self._client_id))
            part, more = extents[first:last], last < len(extents)
            self._answer(location_id, LocateStatus.OK, extents=part, more=more)

    def _answer(
        self,
        location_id: int,
        status: LocateStatus,
        number: int = 0,
        *,
        extents: Sequence[Extent] = (),
        more: bool = False,
    ) -> None:
        self._lanes.put(
            Located(self._client_id, location_id, status, number, more, extents)
        )

    async def _locate(
        self, request: Locate, deadline: float, memories: Mapping[int, OwnedFd]
    ) -> Sequence[Extent]:
        """Pin a range by `deadline`, or give it up, perhaps only when its thread returns."""
        fd = memories.get(request.memory_id)
        if fd is None:
            raise LocateError(LocateStatus.UNKNOWN_MEMORY)
        start, end = pages_of(request.offset, request.length)
        amount = end - start
        if len(self._pins) >= self._limit or not self._pinned.take(amount):
            raise LocateError(LocateStatus.LIMIT_EXCEEDED)
        try:
            # The host may close the memory while the thread is at work; the number
            # could then be another file's.
            attempt = _Attempt(fd.duplicate(), amount)
        except OSError:
            self._pinned.give_back(amount)
            raise
        location = await self._locate_in_thread(attempt, request, deadline)
        attempt.fd.close()
        self._hold(request.location_id, location, amount)
        # A commit may have been forwarded before this was pinned: until the answer the
        # host shows nothing of it.
        if not self.are_drawn() and location.dmabuf in await self._fences.wait_drawn():
            self._release(request.location_id)
            raise LocateError(LocateStatus.FAILED, errno.ETIMEDOUT)
        return location.extents

    async def _locate_in_thread(
        self, attempt: _Attempt, request: Locate, deadline: float
    ) -> PinnedRange:
        """Locate in a thread.  If this raises, `attempt` is undone when the thread returns."""

        def locate() -> PinnedRange:
            return self._locating.locator.locate(
                attempt.fd.fileno(),
                request.offset,
                request.length,
                request.collapse_above,
            )

        def undo(found: PinnedRange | None) -> None:
            attempt.ended = True
            self._hanging -= attempt.hanging
            attempt.fd.close()
            if found is not None:
                found.pin.close()
            self._pinned.give_back(attempt.amount)

        threads = self._locating.threads
        if may_hang(attempt.fd.fileno()):
            threads = self._locating.foreign
            if self._hanging >= MAX_HANGING:
                undo(None)
                raise LocateError(LocateStatus.FAILED, errno.ETIMEDOUT)
        try:
            return await threads.run(locate, undo, deadline)
        except trio.TooSlowError:
            attempt.hanging = not attempt.ended
            self._hanging += attempt.hanging
            raise

    def _hold(self, location_id: int, location: PinnedRange, amount: int) -> None:
        """Keep a pin, for which `amount` was taken; a dma-buf is always pinned as a whole."""
        if not self._pinned.take(location.pinned - amount):
            location.pin.close()
            self._pinned.give_back(amount)
            raise LocateError(LocateStatus.LIMIT_EXCEEDED)
        self._pins[location_id] = _Pinned(
            location.pin, location.pinned, location.dmabuf
        )
        if location.dmabuf >= 0:
            self._fences.add(location.dmabuf)
        if self._over:
            self._release(location_id)

    def _release(self, location_id: int) -> None:
        pinned = self._pins.pop(location_id, None)
        if pinned is not None:
            if pinned.dmabuf >= 0:
                self._fences.remove(pinned.dmabuf)
            pinned.pin.close()
            self._pinned.give_back(pinned.amount)


def as_locate_error(exc: Exception) -> LocateError:
    """Turn any error into one for the host, so that it costs no more than one answer."""
    match exc:
        case LocateError():
            return exc
        case trio.TooSlowError():
            return LocateError(LocateStatus.FAILED, errno.ETIMEDOUT)
        case MemoryError():
            return LocateError(LocateStatus.FAILED, errno.ENOMEM)
        case OSError():
            return LocateError(LocateStatus.FAILED, exc.errno or errno.EIO)
        case _:
            log.error("a bug in locating", exc_info=exc)
            return LocateError(LocateStatus.FAILED, errno.EIO)
