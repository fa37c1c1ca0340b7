"""Locates memory in a domain of Xen's: has the module `gem_grant` grant it to the host's domain.

What is told of pages are grant references (`Feature.GRANTS`), and not addresses, by which nobody
outside could find them.  Without the module nothing is located.  Its ioctls are in `gem_grant`.
"""

import errno
import logging
import os
from typing import Final

from wlproxy.protocol.channel.extents import GRANT_SIZE
from wlproxy.protocol.channel.frames import Feature, LocateStatus
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd, duplicate
from wlproxy_guest.attachments import dmabuf_size, is_dmabuf
from wlproxy_guest.locating import module_locator
from wlproxy_guest.locating.gem_grant import DEVICE, GemGrant, as_extents, read_runs
from wlproxy_guest.locating.mapping import PAGE_SIZE, pages_of
from wlproxy_guest.locating.module_locator import NOT_LOCATABLE, refusal
from wlproxy_guest.locating.page_locator import (
    LARGEST_RANGE,
    LocateError,
    Locator,
    PinnedRange,
    check_range,
)
from wlproxy_guest.locating.pin import KeptFds

NOT_GRANTED: Final = {
    **NOT_LOCATABLE,
    errno.EACCES: "not open for reading and writing",
    errno.EPERM: "sealed against writing",
}
"""What the module says of memory that it will never grant -> in words."""
TABLE_FULL: Final = (
    "the domain's grant table is full: raise max_grant_frames in its xl.cfg, and tell the "
    "proxy (--xen-grant-frames)"
)
OVER_QUOTA: Final = (
    "over the limits of /sys/module/gem_grant/parameters; of these, max_refs is 7/8 of the "
    "domain's grant table unless it is set, and that is as large as max_grant_frames in its "
    "xl.cfg says (the proxy then needs --xen-grant-frames)"
)

log = logging.getLogger(__name__)


class GrantLocator(Locator):
    """Locates memfds and dma-bufs by granting them."""

    __slots__ = ("_complaint", "_device", "_path")

    def __init__(self, path: str = DEVICE) -> None:
        """Open nothing yet."""
        self._path = path
        self._device: GemGrant | None = None
        self._complaint = ""

    def close(self) -> None:
        """Close the device; what is granted stays so."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def find_features(self) -> Feature:
        """See `Locator`: nothing, until the module can be used."""
        if self._device is None:
            self._open()
        if self._device is None or PAGE_SIZE != GRANT_SIZE:
            return Feature.NONE
        return Feature.LOCATE_MEMFD | Feature.LOCATE_DMABUF | Feature.GRANTS

    def _open(self) -> None:
        complaint = ""
        try:
            self._device = GemGrant(self._path)
            log.info("pages are granted to domain %d", self._device.domid)
        except OSError as exc:
            complaint = f"{self._path} cannot be used: {explain_open(exc)}"
        if complaint and complaint != self._complaint:
            log.warning("%s", complaint)
        self._complaint = complaint

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """See `Locator`; pages need not be neighbours, whatever `collapse_above`.

        Raises:
            LocateError: why not.
        """
        if self._device is None:
            raise LocateError(LocateStatus.NOT_PERMITTED)
        try:
            dmabuf = is_dmabuf(fd)
            size = dmabuf_size(fd) if dmabuf else os.fstat(fd).st_size
            check_range(offset, length, size)
            start, end = pages_of(offset, length)
            if (size if dmabuf else end - start) > LARGEST_RANGE:
                raise LocateError(LocateStatus.LIMIT_EXCEEDED)
            kept, count = self._device.grant(fd, start, end - start)
            return _pinned(kept, count, fd if dmabuf else -1, end - start, size)
        except OSError as exc:
            raise explain_refusal(exc, length) from exc


def _pinned(
    kept: OwnedFd, count: int, dmabuf: int, length: int, size: int
) -> PinnedRange:
    """Say what was granted; a dma-buf is kept as a whole.

    Raises:
        LocateError: the module says something else than what it was asked for.
        OSError: it does not say it, or no fd is left.
    """
    with closed_on_error(kept):
        extents = as_extents(read_runs(kept, count))
        if sum(extents.words[1::2]) != length:
            raise LocateError(LocateStatus.FAILED, errno.EPROTO)
        if dmabuf < 0:
            return PinnedRange(extents, KeptFds(kept, pinned=length), pinned=length)
        of_it = duplicate(dmabuf)
    return PinnedRange(extents, KeptFds(kept, of_it, pinned=size), size, of_it.fileno())


def explain_open(exc: OSError) -> str:
    """Say why the device cannot be used, and what helps."""
    if exc.errno == errno.ENOENT:
        return "is the module gem_grant loaded? Without it no window can be shown"
    return module_locator.explain_open(exc, "xen.conf")


def explain_refusal(exc: OSError, length: int) -> LocateError:
    """Say what the module's error means for a client that wanted `length` bytes granted."""
    # The file has become shorter since its size was looked up.
    if exc.errno == errno.EINVAL:
        return LocateError(LocateStatus.OUT_OF_RANGE)
    if exc.errno == errno.ENOSPC:
        log.warning("%s", TABLE_FULL)
        return LocateError(LocateStatus.LIMIT_EXCEEDED)
    if exc.errno == errno.EDQUOT:
        log.warning("%s", OVER_QUOTA)
        return LocateError(LocateStatus.LIMIT_EXCEEDED)
    return refusal(exc, length, "gem_grant", NOT_GRANTED)
