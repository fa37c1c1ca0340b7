"""Mode C: copying rows of pixels from guest RAM into a memfd of ours.

The only module that touches pixels.  Which rows, and when, is decided elsewhere: the core
says it in its commands, and `compositor_queue` carries the copies out just before what
shows them leaves.  Here is how: in turns, so that whatever one client has copied, others
wait for no more than a slice of it.
"""

import errno
import fcntl
import math
import mmap
import os
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final

import trio

from wlproxy.host.errors import HostError
from wlproxy.host.pages import Views
from wlproxy.memory.guest_memory import RamItem
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import CopyRows
from wlproxy.relay.handles import Handle
from wlproxy.transport.fds import OwnedFd

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""The compositor need not fear a SIGBUS, as libwayland does of unsealed pools."""

ROW_COST: Final = 4096
"""Bytes that could be copied in the time that a row takes beside its bytes: about 1 us."""

AT_ONCE: Final = 2 << 20
"""Bytes, rows included at their cost, that are copied where we are: under a millisecond.
More is for a thread, which takes over 0.1 ms to begin."""

SLICE: Final = 4 << 20
"""Bytes of a turn in the thread: a millisecond or two."""

BURST: Final = 0.05
"""Seconds for which there is no pause between slices: several frames of the largest
screens.  60 of these in a second take less than half of the time."""

MAX_RUNS: Final = 1024
"""Runs of guest RAM in a turn: IOV_MAX, and as many pages as a slice has."""

MAX_PARTS: Final = 64
"""Rectangles of one buffer that wait apart; of more, all that they span is copied."""


Part = tuple[int, int, int, int]
"""Rows: where the first starts, from one to the next, the bytes of each, how many."""


class CopyBuffer:
    """A sealed memfd, and our mapping of it (`pixels`), which goes with the last reference.

    The mapping keeps the memfd, and so its pages.  Close the fd before letting go of
    this: the kernel takes a second for the pages of the largest, which is not for the
    event loop to wait for.
    """

    __slots__ = ("fd", "pages", "pixels", "size")

    def __init__(self, size: int) -> None:
        """Make it, all zeros.

        Raises:
            HostError: no memory or no fd is left.
        """
        try:
            self.fd = OwnedFd(
                os.memfd_create("wlproxy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            )
        except OSError as exc:
            raise _no_memory(size, "memfd_create", exc.errno or 0) from exc
        try:
            os.ftruncate(self.fd.fileno(), size)
            fcntl.fcntl(self.fd.fileno(), fcntl.F_ADD_SEALS, SEALS)
            self.pixels = mmap.mmap(self.fd.fileno(), size)
        except (OSError, ValueError, OverflowError) as exc:
            self.fd.close()
            number = getattr(exc, "errno", None) or errno.EINVAL
            raise _no_memory(size, "ftruncate, mmap", number) from exc
        self.size = size
        self.pages: Pages | None = None
        """What is copied into it, once that is known."""

    def __del__(self) -> None:
        mapped = getattr(self, "pixels", None)  # __init__ may have raised before
        if mapped is not None and self.size > SLICE:
            with suppress(RuntimeError):  # no thread is to be had: here, then
                trio.lowlevel.start_thread_soon(mapped.close, _ignore)


class Pages:
    """The guest's pages that a buffer lies in, as one run of bytes."""

    __slots__ = ("_found", "_length", "_views", "items")

    def __init__(self, items: Sequence[RamItem], views: Views) -> None:
        """Map them, unless that is slow: then `find` does, before anybody reads them.

        Args:
            items: the pages, in order.
            views: maps them.

        Raises:
            HostError: they cannot be mapped.
        """
        self.items = items
        self._length = sum(item.length for item in items)
        self._views = views
        self._found: _Mapped | None = None
        if not views.slow:
            self.find()

    def __len__(self) -> int:
        return self._length

    @property
    def found(self) -> bool:
        """Whether they are mapped."""
        return self._found is not None

    def find(self) -> "_Mapped":
        """Map them, if they are not.  Blocks, for as long as `Views.view`.

        Raises:
            HostError: they cannot be mapped.
        """
        if self._found is None:
            runs, files = self._views.view(self.items)
            ends = tuple(accumulate(run.length for run in runs))
            self._found = _Mapped(runs, files, ends)
        return self._found

    def runs(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` to `end`, from as many runs as they lie in."""
        mapped = self.find()
        index = bisect_right(mapped.ends, start)
        while start < end:
            run = mapped.runs[index]
            skip = start - (mapped.ends[index] - run.length)
            taken = min(end - start, run.length - skip)
            source = run.offset + skip
            yield mapped.files[run.file][source : source + taken]
            start += taken
            index += 1


@dataclass(frozen=True, slots=True)
class _Mapped:
    """Runs in what is mapped, that by its name, and where each run ends."""

    runs: Sequence[RamItem]
    files: Mapping[int, memoryview]
    ends: Sequence[int]


class Copy:
    """What waits to be copied into one buffer.  Until that begins, more may join.

    Small ones are done at once, row by row.  Else a row would cost more than what lies
    between it and the next, or a thread would fight over the interpreter for each: then
    all from the first byte to the last is copied, by few system calls.
    """

    __slots__ = (
        "_bytes",
        "_end",
        "_parts",
        "_rows",
        "_spans",
        "_start",
        "handle",
        "target",
    )

    def __init__(self, handle: Handle, target: CopyBuffer) -> None:
        """Nothing is to be copied yet.

        Args:
            handle: the core's name for the buffer.
            target: the buffer; its fd is held until `release`.
        """
        self.handle = handle
        self.target = target
        self._parts: list[Part] = []
        self._bytes = self._rows = 0
        self._start, self._end = target.size, 0
        self._spans: list[tuple[int, int]] | None = None
        target.fd.hold()

    @property
    def found(self) -> bool:
        """Whether what it reads is mapped."""
        return self.target.pages is not None and self.target.pages.found

    @property
    def small(self) -> bool:
        """Whether it is to be done at once."""
        cost = self._bytes + self._rows * ROW_COST
        return self._spans is None and cost <= AT_ONCE

    @property
    def done(self) -> bool:
        """Whether nothing is left of it."""
        return not self._parts and not self._spans

    def add(self, command: CopyRows) -> None:
        """Have rows copied as well.

        Raises:
            LocalProtocolError: they are not inside the guest's pages and the target.
        """
        start, stride, length, rows = _checked(command, self.target)
        if stride == length:  # whole rows follow each other: one long one
            length, rows = length * rows, 1
        part = (start, stride, length, rows)
        if part in self._parts or not length or not rows:
            return
        self._parts.append(part)
        self._bytes += rows * length
        self._rows += rows
        self._start = min(start, self._start)
        self._end = max(_end(part), self._end)
        span = self._end - self._start
        if span < self._bytes or len(self._parts) > MAX_PARTS:
            self._parts = [(self._start, span, span, 1)]
            self._bytes, self._rows = span, 1

    def copy_rows(self) -> int:
        """Copy all of it, row by row; tell how many bytes that were."""
        for start, stride, length, rows in self._parts:
            for row in range(rows):
                self._copy_row(start + row * stride, length)
        self._parts.clear()
        return self._bytes

    def copy_slice(self) -> int:
        """Copy a slice of what it spans; tell how many bytes that were.

        For a thread: waits for no lock of the interpreter while it copies.

        Raises:
            HostError: no memory is left.
        """
        if self._spans is None:
            self._spans = _joined(self._parts)
            self._parts = []
        start, end = self._spans.pop()
        assert self.target.pages is not None
        runs = self.target.pages.runs(start, min(end, start + SLICE))
        try:
            copied = os.pwritev(
                self.target.fd.fileno(), list(islice(runs, MAX_RUNS)), start
            )
        except OSError as exc:
            raise _no_memory(self.target.size, "pwritev", exc.errno or 0) from exc
        if start + copied < end:
            self._spans.append((start + copied, end))
        return copied

    def release(self) -> None:
        """It is done, or not wanted any more: let go of the buffer."""
        self.target.fd.release()

    def _copy_row(self, start: int, length: int) -> None:
        assert self.target.pages is not None
        for run in self.target.pages.runs(start, start + length):
            end = start + len(run)
            self.target.pixels[start:end] = run
            start = end


class _Turns:
    """Whoever waits longest is next; in the long run, half of the time is for others.

    For all else that we do, that is, and on a busy machine for all others too: a slice
    that takes longer is followed by a longer pause.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._paused_until = -math.inf

    @property
    def free(self) -> bool:
        """Whether somebody who comes now would have a turn at once."""
        paused = self._paused_until > trio.current_time()
        return not (self._lock.locked() or paused)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        async with self._lock:
            if self._paused_until > trio.current_time():
                await trio.sleep_until(self._paused_until)
            with self.taken():
                yield

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have a turn that is free."""
        began = trio.current_time()
        yield
        taken = trio.current_time() - began
        self._paused_until = max(self._paused_until, began - BURST) + 2 * taken


class PixelCopier:
    """Copies out of the guest's pages."""

    def __init__(self, views: Views) -> None:
        """Nothing is mapped yet.

        Args:
            views: maps pages, and is closed with this.
        """
        self._views = views
        self._at_once = _Turns()
        self._in_thread = _Turns()

    def find(self, command: CopyRows, target: CopyBuffer) -> None:
        """Say which pages a target's pixels come from, before they are copied.

        Raises:
            HostError: they cannot be mapped, as far as that is known at once.
        """
        if target.pages is None or target.pages.items is not command.items:
            target.pages = Pages(command.items, self._views)

    def copy_at_once(self, copy: Copy) -> int | None:
        """Copy all of it if that is small and nobody waits; tell how many bytes it was."""
        if not (copy.small and copy.found and self._at_once.free):
            return None
        with self._at_once.taken():
            return copy.copy_rows()

    async def copy_some(self, copy: Copy) -> int:
        """Copy a slice when it is its turn; tell how many bytes that were.

        What is small waits for what is small only.  Cancelled, it still waits for the
        slice that is being copied.  Nobody else waits while pages are mapped for it.

        Raises:
            HostError: no memory is left, or the pages cannot be mapped.
        """
        while not copy.found:
            assert copy.target.pages is not None  # named before
            find = copy.target.pages.find
            await trio.to_thread.run_sync(find, abandon_on_cancel=True)
        if copy.small:
            async with self._at_once.turn():
                return copy.copy_rows()
        async with self._in_thread.turn():
            return await trio.to_thread.run_sync(copy.copy_slice)

    def close(self) -> None:
        """Forget what is mapped, which may be other files from now on: it is unmapped once no slice reads it any more.  Again: nothing happens."""
        self._views.close()


def _checked(command: CopyRows, target: CopyBuffer) -> Part:
    """Return (offset, stride, length, rows), inside both ends.

    Raises:
        LocalProtocolError: they are not.
    """
    rows = (command.offset, command.stride, command.length, command.rows)
    if min(rows) < 0:
        raise LocalProtocolError(f"negative rows: {_words(command)}")
    assert target.pages is not None  # found before
    if _end(rows) > min(len(target.pages), target.size):
        raise LocalProtocolError(f"rows outside their buffer: {_words(command)}")
    return rows


def _end(part: Part) -> int:
    start, stride, length, rows = part
    return start + (rows - 1) * stride + length if rows and length else start


def _joined(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Say what parts span, each byte once: (first, end) pairs, the last one first."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted((part[0], _end(part)) for part in parts):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined[::-1]


def _ignore(_: object) -> None:
    """Nobody waits for it."""


def _no_memory(size: int, tried: str, number: int) -> HostError:
    return HostError(
        f"cannot make a buffer of {size} bytes to copy pixels into",
        tried=tried,
        errno=number,
    )


def _words(command: CopyRows) -> str:
    return (
        f"{command.rows} rows of {command.length} bytes, {command.stride} apart, "
        f"from {command.offset}"
    )
