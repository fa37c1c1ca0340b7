"""Recognizes files whose server may never answer, and closes them without waiting.

Behind a file on FUSE or NFS is a process or a machine.  If it does not answer, a system
call on the file blocks, even `close`, and the call may end in any error.  The event loop
serves all apps, so it must never make such a call.  The checks here ask the kernel only,
never the server.

`own` takes over each fd that an app passes, so that closing it holds up nobody.  Closing takes
its time without a server, too: the last fd of a file in memory gives all pages back.
"""

import ctypes
import os
import stat
import struct
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import trio

from wlproxy.transport.fds import OwnedFd

AT_EMPTY_PATH: Final = 0x1000
AT_STATX_DONT_SYNC: Final = 0x4000
STATX_TYPE_MODE_SIZE: Final = 0x203
STATX: Final = struct.Struct("=28xH10xQ88xII112x")
"""struct statx: mode, size, and the numbers of the device."""
LARGE: Final = 2 << 20
"""Bytes of memory that take half a millisecond to give back: from here on a thread does it."""
MAX_CLOSING: Final = 8
"""Threads that close files at once; behind as many that hang, the others stay open."""
MAX_FREEING: Final = 2
"""Threads that give memory back at once, which always comes to an end."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.statx.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_char_p,
)


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What the kernel knows about a file without asking its server.

    Attributes:
        mode: its type and permissions.
        size: bytes; of a file elsewhere, when it was last asked for.
        device: number of the file system.
    """

    mode: int
    size: int
    device: int


def known_status(fd: int) -> FileStatus:
    """Do what `fstat` does, but never wait for the file's server.

    Raises:
        OSError: `fd` is not an open fd.
    """
    answer = ctypes.create_string_buffer(STATX.size)
    flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC
    if _libc.statx(fd, b"", flags, STATX_TYPE_MODE_SIZE, answer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    mode, size, major, minor = STATX.unpack(answer.raw)
    return FileStatus(mode, size, os.makedev(major, minor))


def may_hang(fd: int) -> bool:
    """Tell whether a call on an fd may wait for anybody but the kernel.

    Sure not to are pipes, dma-bufs, and files in memory: where they are unknown (a tmpfs
    of another mount namespace) they are taken for the others, which costs a thread.
    """
    return _memory_of(fd) is None


def _memory_of(fd: int) -> int | None:
    """Return how many bytes closing an fd may give back; None if it may hang."""
    try:
        status = known_status(fd)
        if stat.S_ISFIFO(status.mode) or not stat.S_IFMT(status.mode):
            return status.size
        if not stat.S_ISREG(status.mode):
            return None
        in_memory = status.device == _memfd_device() or _is_tmpfs(status.device)
    except (OSError, MemoryError):
        return None
    return status.size if in_memory else None


@cache
def _memfd_device() -> int:
    """Return the device number of the file system that holds all memfds."""
    with OwnedFd(os.memfd_create("wlproxy", os.MFD_CLOEXEC)) as fd:
        return os.fstat(fd.fileno()).st_dev


def _is_tmpfs(device: int) -> bool:
    """Look up in our mounts (proc(5)) whether a file system is a tmpfs."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split(" ", 3)[2] == number:
            return source.split(" ", 1)[0] == "tmpfs"
    return False


def own(fd: int) -> OwnedFd:
    """Take over an fd that an app passed.

    It is closed at once, or soon if that may hang or take long: by a thread, whose errors
    mean nothing any more.
    """
    return OwnedFd(fd, _close)


def close_large(fd: int) -> None:
    """Have a thread close an fd that gives much memory back, or close it if there is none."""
    if not _freeing.close(fd):
        OwnedFd(fd).close()


def _close(fd: int) -> None:
    memory = _memory_of(fd)
    if memory is None:
        if not _closing.close(fd):
            _closing.leave(fd)
    elif memory >= LARGE:
        close_large(fd)
    else:
        OwnedFd(fd).close()


class _Closer:
    """Closes fds in other threads."""

    def __init__(self, most: int) -> None:
        """Use so many threads at once."""
        self._most = most
        self._lock = threading.Lock()
        # Numbers: what still waits when the process ends is the kernel's to close.
        self._waiting: deque[int] = deque()
        self._threads = 0

    def close(self, fd: int) -> bool:
        """Have a thread close an fd; False if there is no thread."""
        with self._lock:
            if self._threads >= self._most:
                self._waiting.append(fd)
                return True
            self._threads += 1
        try:
            trio.lowlevel.start_thread_soon(partial(self._work, fd), lambda _: None)
        except (RuntimeError, MemoryError):
            with self._lock:
                self._threads -= 1
            return False
        return True

    def leave(self, fd: int) -> None:
        """Have an fd closed by the next thread that can be had, or by one that works."""
        with self._lock:
            self._waiting.append(fd)

    def _work(self, fd: int) -> None:
        while True:
            with suppress(OSError):
                OwnedFd(fd).close()
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                fd = self._waiting.popleft()


_closing = _Closer(MAX_CLOSING)
_freeing = _Closer(MAX_FREEING)
