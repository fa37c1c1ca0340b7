"""Locates a range of a file: pins its pages and returns their guest-physical extents.

`Locator` is the interface that the rest of the agent uses.  `PageLocator` implements it
for files whose pages the kernel shows in the pagemap, `module_locator` with a kernel
module.  Every call blocks, for milliseconds (populate, splice) to hundreds of milliseconds
(collapse): call it in a worker thread.  `quotas` decides who may pin how much.

The steps have an order, and leaving out any one of them has failed in practice: populate
(what is not mapped has no address), collapse (impossible once pages are pinned), read, pin,
read again, and populate what the kernel has unmapped meanwhile.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from wlproxy.protocol.channel.frames import (
    RAM_TOKEN_SIZE,
    Extent,
    Feature,
    LocateStatus,
)
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.attachments import is_dmabuf
from wlproxy_guest.locating.mapping import (
    HUGE_SIZE,
    PAGE_SIZE,
    AlignedMapping,
    pages_of,
    round_down,
    round_up,
)
from wlproxy_guest.locating.pagemap import (
    Pagemap,
    all_present,
    hides_frames,
    same_pages,
    to_extents,
)
from wlproxy_guest.locating.pin import PipePin

LARGEST_RANGE: Final = 1024 * 1024 * 1024
"""Bytes per location: far above any buffer, and small enough to hold the pagemap of."""
ATTEMPTS: Final = 4
"""Pages may move between two readings; that they do so four times running is no accident."""


class LocateError(Exception):
    """Why a range was not located; nothing of it is pinned.

    Attributes:
        status: what to answer.
        errno: the system call's, if the status is FAILED, else 0.
    """

    def __init__(self, status: LocateStatus, number: int = 0) -> None:
        super().__init__(status, number)
        self.status = status
        self.errno = number

    def __str__(self) -> str:
        reason = f": {os.strerror(self.errno)}" if self.errno else ""
        return self.status.name.lower().replace("_", " ") + reason


class Pin(Protocol):
    """Whatever keeps pages where they are."""

    def close(self) -> None:
        """Let them go; again is harmless."""


@dataclass(frozen=True, slots=True)
class PinnedRange:
    """Where a range of a file is in memory, and what keeps it there.

    Attributes:
        extents: of the range, rounded outward to pages, in its order.
        pin: keeps them.
        pinned: bytes that the pin keeps in place, which may be more.
        dmabuf: an fd of the dma-buf, the pin's and open as long as that; -1: it is none.
    """

    extents: Sequence[Extent]
    pin: Pin
    pinned: int
    dmabuf: int = -1


class Locator(Protocol):
    """Finds and pins guest memory."""

    __slots__ = ()

    def find_features(self) -> Feature:
        """Find out what can be located at present."""

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """Pin a range of a file, rounded outward to pages, and say where it is.

        Raises:
            LocateError: why not.
        """

    def place_token(self, token: bytes) -> PinnedRange:
        """Put `token` into a memfd's page, and locate that as any client's memory is.

        Raises:
            LocateError: why not.
        """
        if len(token) != RAM_TOKEN_SIZE:
            raise LocateError(LocateStatus.FAILED, errno.EINVAL)
        try:
            with OwnedFd(os.memfd_create("wlproxy-ram-token", os.MFD_CLOEXEC)) as fd:
                os.write(fd.fileno(), token.ljust(PAGE_SIZE, b"\0"))
                # The page outlives the file: the pin refers to it.
                return self.locate(fd.fileno(), 0, PAGE_SIZE, 0)
        except OSError as exc:
            raise LocateError(LocateStatus.FAILED, exc.errno or errno.EIO) from exc


class PageLocator(Locator):
    """Locates what the pagemap shows: memfds, tmpfs, files; not dma-bufs."""

    __slots__ = ("_pagemap",)

    def __init__(self) -> None:
        """Open the pagemap.

        Raises:
            OSError: there is no /proc.
        """
        self._pagemap = Pagemap()

    def close(self) -> None:
        """Close the pagemap; what is pinned stays so."""
        self._pagemap.close()

    def find_features(self) -> Feature:
        """See `Locator`: files of shared memory."""
        return Feature.LOCATE_MEMFD

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """See `Locator`.

        Raises:
            LocateError: why not.
        """
        try:
            if is_dmabuf(fd):
                raise LocateError(LocateStatus.UNSUPPORTED)
            check_range(offset, length, os.fstat(fd).st_size)
            start, end = pages_of(offset, length)
            with AlignedMapping(fd, start, end) as mapping:
                return self._pin(mapping, start, end, collapse_above)
        except OSError as exc:
            # EFAULT is how populating and pinning tell that it has just been truncated.
            if exc.errno == errno.EFAULT:
                raise LocateError(LocateStatus.OUT_OF_RANGE) from exc
            raise LocateError(LocateStatus.FAILED, exc.errno or errno.EIO) from exc

    def _pin(
        self, mapping: AlignedMapping, start: int, end: int, collapse_above: int
    ) -> PinnedRange:
        mapping.populate(start, end)
        before = self._read(mapping, start, end)
        extents = to_extents(before)
        if collapse_above and len(extents) > collapse_above:
            collapse_covered(mapping, start, end)
            before = self._read(mapping, start, end)
            extents = to_extents(before)
        for _ in range(ATTEMPTS):
            pin = PipePin()
            with closed_on_error(pin):
                pin.hold(mapping, start, end)
                after = self._read(mapping, start, end)
                # What the pagemap shows must be what the pipes hold.  A page that was
                # there both before and after pinning is the one that was pinned.
                if same_pages(before, after):
                    return PinnedRange(extents, pin, pinned=end - start)
            pin.close()
            before, extents = after, to_extents(after)
        raise LocateError(LocateStatus.FAILED, errno.EAGAIN)

    def _read(self, mapping: AlignedMapping, start: int, end: int) -> Sequence[int]:
        """Read until every page is there at once; populate those that are not."""
        pages = (end - start) // PAGE_SIZE
        for _ in range(ATTEMPTS):
            entries = self._pagemap.entries(mapping.address_of(start), pages)
            if all_present(entries):
                if hides_frames(entries):
                    raise LocateError(LocateStatus.NOT_PERMITTED)
                return entries
            mapping.populate(start, end)
        raise LocateError(LocateStatus.FAILED, errno.EAGAIN)


def check_range(offset: int, length: int, size: int) -> None:
    """Check that a range is not empty, and lies within the pages of `size` bytes.

    The last page is a whole one: what a compositor has mapped of it can be read.

    Raises:
        LocateError: it is not.
    """
    pages = round_up(size, PAGE_SIZE)
    if length <= 0 or offset + length > pages:
        raise LocateError(LocateStatus.OUT_OF_RANGE)
    if length > LARGEST_RANGE:
        raise LocateError(LocateStatus.LIMIT_EXCEEDED)


def collapse_covered(mapping: AlignedMapping, start: int, end: int) -> None:
    """Try to collapse the 2 MiB blocks that the range covers by at least half.

    Collapsing fills a block's holes with memory.  A block that belongs mostly to others
    is left alone, so a file grows by no more than was asked to be located.
    """
    first = round_down(start, HUGE_SIZE)
    if min(end, first + HUGE_SIZE) - start < HUGE_SIZE // 2:
        first += HUGE_SIZE
    last = round_up(end, HUGE_SIZE)
    if end - max(first, last - HUGE_SIZE) < HUGE_SIZE // 2:
        last -= HUGE_SIZE
    if first < last:
        # Best effort: without it there are more extents, and that is all.
        with suppress(OSError):
            mapping.collapse(first, last)
