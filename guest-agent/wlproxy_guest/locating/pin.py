"""Keeps a file's pages in place by holding references to them in pipes.

`vmsplice()` puts references to the pages of a mapping into a pipe.  While the pipe lives,
the pages are neither migrated (by compaction or collapse) nor reclaimed.  This works for
every file that can be mapped: memfds that cannot be sealed, tmpfs, read-only fds.  The
obvious alternatives do not: `mlock` allows migration, and a udmabuf would need a seal on
the client's own file.  `splice()` from the file looks up each page anew, which takes twice
as long.  Where the pages are is the business of `pagemap`.
"""

import fcntl
import os
from typing import Final

from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.hanging_files import LARGE, close_large
from wlproxy_guest.locating.mapping import PAGE_SIZE, AlignedMapping, round_up

PIPE_SIZE: Final = 1024 * 1024
"""/proc/sys/fs/pipe-max-size as every kernel starts: a larger pipe takes a capability."""
LARGEST_PIPE: Final = 128 * 1024 * 1024
"""Far above a 4K frame, far below what a pipe's ring may be (2 GiB)."""


class KeptFds:
    """A pin that is fds: what they keep is let go when they are closed."""

    __slots__ = ("_fds", "pinned")

    def __init__(self, *fds: OwnedFd, pinned: int = 0) -> None:
        """Take over `fds`, which keep so many bytes."""
        self._fds = list(fds)
        self.pinned = pinned

    def close(self) -> None:
        """Let the pages go, soon if they are many; again is harmless."""
        while self._fds:
            fd = self._fds.pop()
            if self.pinned < LARGE:
                fd.close()
            else:
                close_large(fd.detach())


class PipePin(KeptFds):
    """References to pages, in pipes whose write ends are closed: one fd per pipe."""

    __slots__ = ()

    def hold(self, mapping: AlignedMapping, start: int, end: int) -> None:
        """Reference the pages of a range of the mapped file.

        Raises:
            OSError: no fds or memory are left; EFAULT: the file ends before `end`.
        """
        self.pinned += end - start
        while start < end:
            reader, writer = map(OwnedFd, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
            self._fds.append(reader)
            with writer:
                enlarge(writer.fileno(), end - start)
                start = fill(mapping, writer.fileno(), start, end)


def enlarge(pipe: int, length: int) -> None:
    """Enlarge a pipe to hold `length` bytes, or as many as we are allowed.

    Raises:
        OSError: not even a small pipe can be had.
    """
    wanted = round_up(min(length, LARGEST_PIPE), PAGE_SIZE)
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, wanted)
    except PermissionError:
        # Without CAP_SYS_RESOURCE: several pipes instead.
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, min(wanted, PIPE_SIZE))


def fill(mapping: AlignedMapping, pipe: int, start: int, end: int) -> int:
    """Splice until the pipe is full or the range is done; return how far that is.

    Raises:
        OSError: as from `AlignedMapping.vmsplice`, and if the pipe takes nothing.
    """
    first = start
    while start < end:
        try:
            start += mapping.vmsplice(pipe, start, end)
        except BlockingIOError:
            if start == first:
                raise
            return start
    return start
