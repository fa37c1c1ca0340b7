"""What an fd that QEMU sent is, found out without asking whoever made the file.

A file may be one of FUSE, whose server answers nobody, so that even `fstat` and `close` hang.  Where
an fd's link leads to, whether it can have seals, and what is in its fdinfo, the kernel says by itself.
"""

import fcntl
import mmap
import os
import threading
from typing import Final

from wlproxy.screen.commands import FileKind
from wlproxy.transport.fds import OwnedFd

_DMABUF: Final = "/dmabuf:"
"""How the links of dma-bufs begin (drivers/dma-buf/dma-buf.c).  So may that of an ordinary file."""
_EXPORTER: Final = b"\nexp_name:\t"
"""Begins a line that only dma-bufs have in their fdinfo (`dma_buf_show_fdinfo`, the same file)."""
_FDINFO_SIZE: Final = 4096
"""Bytes of it that are read; it is far less."""


_READ_ONLY: Final = fcntl.F_SEAL_WRITE | 0x10
"""F_SEAL_WRITE and F_SEAL_FUTURE_WRITE, which Python's `fcntl` lacks (linux/fcntl.h)."""


class QemuFile(OwnedFd):
    """An fd that QEMU sent.

    Attributes:
        kind: what it is.
        size: how many bytes it has; 0 if it is OTHER.
        identity: device and inode.
    """

    __slots__ = ("identity", "kind", "size")

    def __init__(self, fd: int) -> None:
        """Own an fd, and see what it is."""
        self.kind = _kind(fd)
        self.size, self.identity = 0, (0, 0)
        if self.kind is FileKind.OTHER:
            super().__init__(fd, _close_in_thread)
            return
        super().__init__(fd)
        found = os.fstat(fd)
        self.identity = found.st_dev, found.st_ino
        if self.kind is FileKind.DMABUF:
            self.size = os.lseek(fd, 0, os.SEEK_END)
        else:
            self.size = found.st_size

    @property
    def mappable(self) -> bool:
        """Whether all of it can be mapped to be read and written, as libwayland does.

        A compositor ends the connection of whoever has it map what cannot be.
        """
        if self.kind is FileKind.OTHER or not self.size:
            return False
        try:
            mmap.mmap(self.fileno(), self.size).close()
        except (OSError, ValueError, OverflowError):
            return False
        return True


def _kind(fd: int) -> FileKind:
    try:
        link = os.readlink(f"/proc/self/fd/{fd}")
        if link.startswith(_DMABUF) and _EXPORTER in _fdinfo(fd):
            return FileKind.DMABUF
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return FileKind.OTHER
    # Compositors map it to be written to, though they do not write, and take us to task if they cannot.
    return (
        FileKind.OTHER if seals & _READ_ONLY or mode != os.O_RDWR else FileKind.MEMORY
    )


def _fdinfo(fd: int) -> bytes:
    with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
        return file.read(_FDINFO_SIZE)


def _close_in_thread(fd: int) -> None:
    threading.Thread(target=OwnedFd(fd).close, daemon=True).start()
