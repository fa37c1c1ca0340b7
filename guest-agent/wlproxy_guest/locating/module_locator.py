"""Locates memory with the `gem_locate` module or, where that cannot help, the pagemap.

The module can locate dma-bufs, which no pagemap shows, and needs no capability.  So it is
asked first.  What it cannot locate (files of other file systems) the pagemap may still
show, if the agent has CAP_SYS_ADMIN.  The module's ioctls are in `gem_locate`.
"""

import errno
import logging
import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from wlproxy.protocol.channel.frames import Feature, LocateStatus
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import duplicate
from wlproxy_guest.attachments import dmabuf_size, is_dmabuf
from wlproxy_guest.locating.gem_locate import (
    DEVICE,
    GemLocate,
    cut_extents,
    read_extents,
)
from wlproxy_guest.locating.mapping import PAGE_SIZE, AlignedMapping, pages_of
from wlproxy_guest.locating.page_locator import (
    LARGEST_RANGE,
    LocateError,
    Locator,
    PageLocator,
    PinnedRange,
    check_range,
    collapse_covered,
)
from wlproxy_guest.locating.pin import KeptFds

NOT_LOCATABLE: Final = {
    errno.EBADFD: "a file, but not of shared memory",
    errno.EREMOTE: "not in ordinary memory",
    errno.EXDEV: "behind an IOMMU or a bounce buffer",
    errno.EOPNOTSUPP: "its driver may move it",
}
"""What the module says of memory that it will never locate -> in words."""

log = logging.getLogger(__name__)


class ModuleLocator(Locator):
    """Locates all kinds of memory, by the best means that there are."""

    __slots__ = ("_complaint", "_device", "_pages", "_path")

    def __init__(self, path: str = DEVICE) -> None:
        """Open what there is.

        Raises:
            OSError: there is no /proc.
        """
        self._path = path
        self._pages = PageLocator()
        self._device: GemLocate | None = None
        self._complaint = ""

    def close(self) -> None:
        """Close both; what is pinned stays so."""
        self._pages.close()
        if self._device is not None:
            self._device.close()
            self._device = None

    def find_features(self) -> Feature:
        """See `Locator`: dma-bufs as well, if the module can be used by now."""
        if self._device is None:
            self._open()
        if self._device is None:
            return self._pages.find_features()
        return Feature.LOCATE_MEMFD | Feature.LOCATE_DMABUF

    def _open(self) -> None:
        complaint = ""
        try:
            self._device = GemLocate(self._path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            complaint = (
                f"{self._path} cannot be used: {explain_open(exc, 'gem-locate.conf')}"
            )
        if complaint and complaint != self._complaint:
            log.warning("%s", complaint)
        self._complaint = complaint

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """See `Locator`.

        Raises:
            LocateError: why not.
        """
        if self._device is None:
            return self._pages.locate(fd, offset, length, collapse_above)
        amount = length
        dmabuf = False
        try:
            if dmabuf := is_dmabuf(fd):
                amount = dmabuf_size(fd)
                return _locate_dmabuf(self._device, fd, amount, offset, length)
            check_range(offset, length, os.fstat(fd).st_size)
            return _locate_file(self._device, fd, offset, length, collapse_above)
        except OSError as exc:
            refused = explain_refusal(exc, amount, dmabuf=dmabuf)
        if refused.status is not LocateStatus.UNSUPPORTED:
            raise refused
        with suppress(LocateError):
            return self._pages.locate(fd, offset, length, collapse_above)
        raise refused


def explain_open(exc: OSError, drop_in: str) -> str:
    """Say why the device of a module cannot be used, and what helps.

    Args:
        exc: what opening it raised.
        drop_in: the file that lets the agent's unit use it.
    """
    match exc.errno:
        case errno.EACCES:
            return "no permission; install the udev rule of the module"
        case errno.EPERM:  # what systemd's device policy answers
            return f"not for this unit; install {drop_in}"
        case _:
            return str(exc)


def _locate_dmabuf(
    device: GemLocate, fd: int, size: int, offset: int, length: int
) -> PinnedRange:
    # The module pins all of it, whatever the range.
    check_range(offset, length, size)
    if size > LARGEST_RANGE:
        raise LocateError(LocateStatus.LIMIT_EXCEEDED)
    kept, size, count = device.locate_dmabuf(fd)
    with closed_on_error(kept):
        pairs = read_extents(kept, count)
        start, end = pages_of(offset, length)
        extents = cut_extents(pairs, start, end)
        if not _in_pages(pairs) or sum(extents.words[1::2]) != end - start:
            raise LocateError(LocateStatus.UNSUPPORTED)
        of_it = duplicate(fd)
    return PinnedRange(extents, KeptFds(kept, of_it, pinned=size), size, of_it.fileno())


def _in_pages(pairs: Sequence[int]) -> bool:
    return not any(number % PAGE_SIZE for number in pairs)


def _locate_file(
    device: GemLocate, fd: int, offset: int, length: int, collapse_above: int
) -> PinnedRange:
    start, end = pages_of(offset, length)
    kept, count = device.locate_memfd(fd, start, end - start)
    if collapse_above and count > collapse_above:
        # What is pinned cannot be moved.
        kept.close()
        with suppress(OSError), AlignedMapping(fd, start, end) as mapping:
            collapse_covered(mapping, start, end)
        kept, count = device.locate_memfd(fd, start, end - start)
    with closed_on_error(kept):
        extents = cut_extents(read_extents(kept, count), 0, end - start)
    pin = KeptFds(kept, pinned=end - start)
    return PinnedRange(extents, pin, pinned=end - start)


def explain_refusal(exc: OSError, length: int, *, dmabuf: bool) -> LocateError:
    """Say what the module's error means for a client that wanted `length` bytes located."""
    # The size of a file is all it checks that can have changed since we did.
    if exc.errno == errno.EINVAL and not dmabuf:
        return LocateError(LocateStatus.OUT_OF_RANGE)
    return refusal(exc, length, "gem_locate", NOT_LOCATABLE)


def refusal(
    exc: OSError, length: int, module: str, never: Mapping[int, str]
) -> LocateError:
    """Say what an error means that each of our modules may answer with.

    Args:
        exc: the error.
        length: bytes that a client wanted located, or granted.
        module: its name.
        never: what it says of memory that it will never take -> in words.
    """
    number = exc.errno or errno.EIO
    if number in never:
        log.debug("not taken by %s: %s", module, never[number])
        return LocateError(LocateStatus.UNSUPPORTED)
    if number == errno.EDQUOT:
        log.warning("over the limits of /sys/module/%s/parameters", module)
        return LocateError(LocateStatus.LIMIT_EXCEEDED)
    if number == errno.ENOMEM and over_memlock(length):
        log.warning("over RLIMIT_MEMLOCK: raise LimitMEMLOCK= of the unit")
        return LocateError(LocateStatus.LIMIT_EXCEEDED)
    return LocateError(LocateStatus.FAILED, number)


def over_memlock(length: int) -> bool:
    """Tell whether `length` more bytes would exceed our RLIMIT_MEMLOCK."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return limit != resource.RLIM_INFINITY and locked_bytes() + length > limit


def locked_bytes() -> int:
    """Return the bytes charged to our RLIMIT_MEMLOCK: VmLck of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmLck":
            return int(value.split()[0]) * 1024
    return 0
