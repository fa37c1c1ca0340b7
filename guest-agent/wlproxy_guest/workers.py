"""A limited number of threads for calls that may hang, and callers that give up on them.

A call can hang in the kernel, for example on a page of a file whose FUSE daemon or NFS
server does not answer, and no thread can be ended from outside.  So a thread that hangs is
abandoned: its caller gets an error, and another thread may take its place.
Which files may hang is known to `hanging_files`.
"""

import errno
import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

MAX_STUCK: Final = 64
"""Threads that hang and were replaced; with more of them, fewer work."""
LAST_MOMENT: Final = 1.0
"""Seconds that a call may still take when nobody wants its result any more."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class _Job(Generic[T]):
    """One call: its result, and whether anybody still waits for it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.done = trio.Event()
        self.results: list[T] = []
        """The one, once there is one."""
        self.error: BaseException | None = None
        self.abandoned = False
        self.replaced = False

    @property
    def result(self) -> T | None:
        """The call's result, if it has one."""
        return self.results[0] if self.results else None

    def run(self) -> None:
        """Make the call; runs in the thread."""
        try:
            self.results.append(self._work())
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            self.error = exc


class Workers:
    """A limited number of threads that many tasks share."""

    __slots__ = ("_limiter", "_stuck")

    def __init__(self, most: int) -> None:
        """Allow `most` calls at a time, not counting those that hang."""
        self._limiter = trio.CapacityLimiter(most)
        self._stuck = 0

    async def run(
        self,
        work: Callable[[], T],
        discard: Callable[[T | None], object],
        deadline: float,
    ) -> T:
        """Call `work` in a thread and return its result; other tasks go on.

        Args:
            work: what may block.
            discard: called once if this raises, with the result if there is one, as soon
                as nothing works for it any more; that may be much later.
            deadline: when to give up, on trio's clock.

        Raises:
            trio.TooSlowError: the deadline has passed.
            OSError: EAGAIN, no thread can be had.
            BaseException: what `work` raises.
        """
        job = _Job(work)
        try:
            with trio.fail_at(deadline):
                await self._limiter.acquire_on_behalf_of(job)
        except BaseException:
            discard(None)
            raise
        self._start(job, discard)
        try:
            with trio.fail_at(deadline):
                await job.done.wait()
        except BaseException:
            with trio.move_on_after(LAST_MOMENT, shield=True):
                await job.done.wait()
            if job.done.is_set():
                discard(job.result)
            else:
                self._abandon(job)
            raise
        if job.error is not None:
            discard(None)
            raise job.error
        return job.results[0]

    def _start(self, job: _Job[T], discard: Callable[[T | None], object]) -> None:
        token = trio.lowlevel.current_trio_token()

        def report(_: object) -> None:
            try:
                token.run_sync_soon(self._finish, job, discard)
            except trio.RunFinishedError:
                discard(job.result)

        try:
            trio.lowlevel.start_thread_soon(job.run, report)
        except (RuntimeError, MemoryError) as exc:
            self._limiter.release_on_behalf_of(job)
            discard(None)
            raise OSError(errno.EAGAIN, f"no thread can be started: {exc}") from exc

    def _finish(self, job: _Job[T], discard: Callable[[T | None], object]) -> None:
        self._limiter.release_on_behalf_of(job)
        job.done.set()
        if job.abandoned:
            self._stuck -= 1
            self._limiter.total_tokens -= job.replaced
            discard(job.result)

    def _abandon(self, job: _Job[T]) -> None:
        job.abandoned = True
        job.replaced = self._stuck < MAX_STUCK
        self._stuck += 1
        self._limiter.total_tokens += job.replaced
        log.warning("a thread hangs in a call on an app's file (%d do)", self._stuck)
