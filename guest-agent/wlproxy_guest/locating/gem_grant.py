"""/dev/gem-grant: the ioctls of the kernel module, as functions.

The module grants the pages of a dma-buf or of a range of a memfd to the host's domain of Xen's.  It
returns an fd; the pages stay where they are, and granted, until that fd is closed and the host has
unmapped them.  The module defines the interface
(`kernel/udmabuf/include/uapi/linux/gem_grant.h`, `docs/kernel.md`).  What its errors mean for a client
is decided in `grant_locator`.
"""

import fcntl
import struct
from array import array
from typing import Final

from wlproxy.protocol.channel.extents import GRANT_SIZE, Extents
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.module_device import open_device, read_pairs

DEVICE: Final = "/dev/gem-grant"
ABI_VERSION: Final = 1
"""What we need; a driver only ever adds to it."""

INFO: Final = struct.Struct("=II")
"""version, domain that pages are granted to."""
PAGES: Final = struct.Struct("=iIQQII")
"""fd, flags, offset, length, count of runs (out), reserved."""
RUNS: Final = struct.Struct("=QII")
"""address of the array, count (in: room; out: how many there are), reserved."""

GEM_GRANT_INFO: Final = 0x80087768
GEM_GRANT_PAGES: Final = 0xC020776A
GEM_GRANT_RUNS: Final = 0xC010776B


class GemGrant:
    """The device, open.  Its methods may be called from any thread, at the same time."""

    __slots__ = ("_fd", "domid")

    def __init__(self, path: str = DEVICE) -> None:
        """Open it.

        Raises:
            OSError: as `open_device`.
        """
        self._fd, self.domid = open_device(path, GEM_GRANT_INFO, INFO, ABI_VERSION)

    def close(self) -> None:
        """Close it; what was granted stays so.  Again is harmless."""
        self._fd.close()

    def grant(self, fd: int, offset: int, length: int) -> tuple[OwnedFd, int]:
        """Grant a page-aligned range; return an fd that keeps it, and its runs.

        Raises:
            OSError: as `docs/kernel.md` lists.
        """
        request = bytearray(PAGES.pack(fd, 0, offset, length, 0, 0))
        kept = OwnedFd(fcntl.ioctl(self._fd.fileno(), GEM_GRANT_PAGES, request))
        *_, count, _ = PAGES.unpack(request)
        return kept, count


def read_runs(kept: OwnedFd, count: int) -> "array[int]":
    """Read the runs of references of what was granted: first, how many, first, ...

    Raises:
        OSError: EPROTO if they are not `count`, which the driver itself has said.
    """
    return read_pairs(kept, GEM_GRANT_RUNS, RUNS, "I", count)


def as_extents(runs: "array[int]") -> Extents:
    """Write runs of references as extents are with GRANTS: times the size of a grant."""
    return Extents(array("Q", (number * GRANT_SIZE for number in runs)))
