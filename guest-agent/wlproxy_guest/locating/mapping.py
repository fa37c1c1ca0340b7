"""A read-only, 2 MiB-aligned mapping of a file, and what the kernel can do through it.

Nobody reads through the mapping.  It exists to populate the file's pages, to make them
contiguous, to hand them to a pipe, and to have an address to look up in the pagemap.  So a
client that truncates its file meanwhile cannot hurt us: SIGBUS takes an access from user
space, and MADV_POPULATE_READ and vmsplice report EFAULT instead.  Python's `mmap` can
neither place a mapping at a chosen address nor tell where it is, hence ctypes.
"""

import ctypes
import errno
import mmap
import os
from typing import Final

from wlproxy.transport.closable import Closing, closed_on_error

PAGE_SIZE: Final = mmap.PAGESIZE
HUGE_SIZE: Final = 2 * 1024 * 1024
"""What the kernel collapses at once; a mapping that is not aligned to it cannot be."""

_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000
_MADV_POPULATE_READ: Final = 22
_MADV_COLLAPSE: Final = 25
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_PROT_NONE: Final = 0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class _IoVec(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t))


_libc.vmsplice.restype = ctypes.c_ssize_t
_libc.vmsplice.argtypes = (
    ctypes.c_int,
    ctypes.POINTER(_IoVec),
    ctypes.c_ulong,
    ctypes.c_uint,
)
_SPLICE_F_NONBLOCK: Final = 2


def round_down(number: int, unit: int) -> int:
    """Round to the multiple of `unit` at or below `number`."""
    return number // unit * unit


def round_up(number: int, unit: int) -> int:
    """Round to the multiple of `unit` at or above `number`."""
    return -(-number // unit) * unit


def pages_of(offset: int, length: int) -> tuple[int, int]:
    """Widen a range to whole pages; return its start and its end."""
    return round_down(offset, PAGE_SIZE), round_up(offset + length, PAGE_SIZE)


class AlignedMapping(Closing):
    """Maps the 2 MiB blocks of a file that hold `start` to `end`; a context manager.

    Blocks may reach beyond the end of the file: that is how its tail is collapsed too.
    """

    __slots__ = ("_file_offset", "_length", "_reserved", "_reserved_length", "address")

    def __init__(self, fd: int, start: int, end: int) -> None:
        """Map.

        Raises:
            OSError: the file cannot be mapped for reading, or no address space is left.
        """
        self._file_offset = round_down(start, HUGE_SIZE)
        self._length = round_up(end, HUGE_SIZE) - self._file_offset
        self._reserved_length = self._length + HUGE_SIZE
        self._reserved = _mmap(
            0,
            self._reserved_length,
            _PROT_NONE,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE,
            fd=-1,
            offset=0,
        )
        self.address = round_up(self._reserved, HUGE_SIZE)
        with closed_on_error(self):
            _mmap(
                self.address,
                self._length,
                mmap.PROT_READ,
                mmap.MAP_SHARED | _MAP_FIXED,
                fd=fd,
                offset=self._file_offset,
            )

    def close(self) -> None:
        """Unmap; again is harmless."""
        if self._reserved:
            _libc.munmap(self._reserved, self._reserved_length)
            self._reserved = 0

    def address_of(self, offset: int) -> int:
        """Return the address at which byte `offset` of the file is mapped."""
        return self.address + offset - self._file_offset

    def populate(self, start: int, end: int) -> None:
        """Give every page of the range a page of memory, and map it.

        Raises:
            OSError: EFAULT beyond the end of the file, ENOMEM, EINTR.
        """
        _madvise(self.address_of(start), end - start, _MADV_POPULATE_READ)

    def collapse(self, start: int, end: int) -> None:
        """Make each 2 MiB block of the block-aligned range physically contiguous.

        Raises:
            OSError: not possible now (EAGAIN, ENOMEM) or here (EINVAL); some of the
                blocks may be contiguous all the same.
        """
        _madvise(self.address_of(start), end - start, _MADV_COLLAPSE)

    def vmsplice(self, pipe: int, start: int, end: int) -> int:
        """Put references to the mapped pages into a pipe; return how many bytes it took.

        Raises:
            BlockingIOError: it is full.
            OSError: EFAULT beyond the end of the file, ENOMEM.
        """
        pages = _IoVec(self.address_of(start), end - start)
        taken = _libc.vmsplice(pipe, pages, 1, _SPLICE_F_NONBLOCK)
        if taken < 0:
            raise _os_error("vmsplice")
        return int(taken)


def _mmap(
    address: int, length: int, protection: int, flags: int, *, fd: int, offset: int
) -> int:
    result = _libc.mmap(address or None, length, protection, flags, fd, offset)
    if result is None or result == _MAP_FAILED:
        raise _os_error("mmap")
    return int(result)


def _madvise(address: int, length: int, advice: int) -> None:
    while _libc.madvise(address, length, advice):
        if ctypes.get_errno() != errno.EINTR:
            raise _os_error("madvise")


def _os_error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
