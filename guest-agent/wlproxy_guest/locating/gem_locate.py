"""/dev/gem-locate: the ioctls of the kernel module, as functions.

The module tells where in physical memory a dma-buf or a range of a memfd is.  It returns an
fd, and keeps the pages there until that fd is closed.  The module defines the interface
(`kernel/udmabuf/include/uapi/linux/gem_locate.h`, `docs/kernel.md`).  What its errors mean
for a client, and what else can locate memory, is decided in `module_locator`.
"""

import fcntl
import struct
from array import array
from collections.abc import Sequence
from typing import Final

from wlproxy.protocol.channel.extents import Extents
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.module_device import open_device, read_pairs

DEVICE: Final = "/dev/gem-locate"
ABI_VERSION: Final = 1
"""What we need; a driver only ever adds to it."""

VERSION: Final = struct.Struct("=II")
"""version, reserved."""
DMABUF: Final = struct.Struct("=iIQII")
"""fd, flags, size (out), count (out), reserved."""
MEMFD: Final = struct.Struct("=iIQQII")
"""fd, flags, offset, length, count (out), reserved."""
EXTENTS: Final = struct.Struct("=QII")
"""address of the array, count (in: room; out: how many there are), reserved."""

GEM_LOCATE_VERSION: Final = 0x80087760
GEM_LOCATE_DMABUF: Final = 0xC0187761
GEM_LOCATE_MEMFD: Final = 0xC0207762
GEM_LOCATE_EXTENTS: Final = 0xC0107763


class GemLocate:
    """The device, open.  Its methods may be called from any thread, at the same time."""

    __slots__ = ("_fd",)

    def __init__(self, path: str = DEVICE) -> None:
        """Open it.

        Raises:
            OSError: as `open_device`.
        """
        self._fd, _ = open_device(path, GEM_LOCATE_VERSION, VERSION, ABI_VERSION)

    def close(self) -> None:
        """Close it; what was located stays so.  Again is harmless."""
        self._fd.close()

    def locate_dmabuf(self, fd: int) -> tuple[OwnedFd, int, int]:
        """Locate a whole dma-buf; return an fd that keeps it, its size, its extents.

        Raises:
            OSError: as `docs/kernel.md` lists.
        """
        request = bytearray(DMABUF.pack(fd, 0, 0, 0, 0))
        kept = OwnedFd(fcntl.ioctl(self._fd.fileno(), GEM_LOCATE_DMABUF, request))
        _, _, size, count, _ = DMABUF.unpack(request)
        return kept, size, count

    def locate_memfd(self, fd: int, offset: int, length: int) -> tuple[OwnedFd, int]:
        """Locate a page-aligned range; return an fd that keeps it, and its extents.

        Raises:
            OSError: as `docs/kernel.md` lists.
        """
        request = bytearray(MEMFD.pack(fd, 0, offset, length, 0, 0))
        kept = OwnedFd(fcntl.ioctl(self._fd.fileno(), GEM_LOCATE_MEMFD, request))
        *_, count, _ = MEMFD.unpack(request)
        return kept, count


def read_extents(kept: OwnedFd, count: int) -> "array[int]":
    """Read the extents of what was located: address, length, address, length, ...

    Raises:
        OSError: EPROTO if they are not `count`, which the driver itself has said.
    """
    return read_pairs(kept, GEM_LOCATE_EXTENTS, EXTENTS, "Q", count)


LAST_ADDRESS: Final = (1 << 64) - 1


def cut_extents(pairs: Sequence[int], start: int, end: int) -> Extents:
    """Cut bytes `start` to `end` out of what the pairs describe, in their order.

    Where they end before `end`, so does the result.
    """
    cut = array("Q")
    at = 0
    for gpa, length in zip(pairs[::2], pairs[1::2], strict=True):
        first, last = max(start - at, 0), min(end - at, length)
        if first < last:
            if gpa + first > LAST_ADDRESS:
                break  # no driver says that: the end is as good as any
            cut.extend((gpa + first, last - first))
        at += length
        if at >= end:
            break
    return Extents(cut)
