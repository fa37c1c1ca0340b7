"""Keeps a file's pages in place by holding references to them in pipes.

`splice()` puts references to the pages themselves into a pipe.  While the pipe lives, the
pages are neither migrated (by compaction or collapse) nor reclaimed.  This works for every
file that has pages: memfds that cannot be sealed, tmpfs, read-only fds.  The obvious
alternatives do not: `mlock` allows migration, and a udmabuf would need a seal on the
client's own file.  Where the pages are is the business of `pagemap`.
"""

import errno
import fcntl
import os
from typing import Final

from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.mapping import PAGE_SIZE, round_up

SPLICE_F_NONBLOCK: Final = 2
"""`os.SPLICE_F_NONBLOCK`, which Python names from 3.12 on."""
PIPE_SIZE: Final = 1024 * 1024
"""/proc/sys/fs/pipe-max-size as every kernel starts: a larger pipe takes a capability."""
LARGEST_PIPE: Final = 128 * 1024 * 1024
"""Far above a 4K frame, far below what a pipe's ring may be (2 GiB)."""


class KeptFds:
    """A pin that is fds: what they keep is let go when they are closed."""

    __slots__ = ("_fds",)

    def __init__(self, *fds: OwnedFd) -> None:
        """Take over `fds`."""
        self._fds = list(fds)

    def close(self) -> None:
        """Let the pages go; again is harmless."""
        while self._fds:
            self._fds.pop().close()


class PipePin(KeptFds):
    """References to pages, in pipes whose write ends are closed: one fd per pipe."""

    __slots__ = ()

    def hold(self, fd: int, start: int, end: int) -> None:
        """Reference the pages of a range that has been populated.

        Holes would be referenced as the kernel's zero page, not as the file's: hence
        the condition.

        Raises:
            OSError: no fds or memory are left, the fd is not open for reading, or the
                kind of file cannot be spliced.
            EOFError: the file ends before `end`.
        """
        while start < end:
            reader, writer = map(OwnedFd, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
            self._fds.append(reader)
            with writer:
                enlarge(writer.fileno(), end - start)
                start = fill(fd, writer.fileno(), start, end)


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


def fill(fd: int, pipe: int, start: int, end: int) -> int:
    """Splice until the pipe is full or the range is done; return how far that is.

    Raises:
        OSError: as from `splice`.
        EOFError: the file ends before `end`.
    """
    first = start
    while start < end:
        try:
            moved = os.splice(
                fd, pipe, end - start, offset_src=start, flags=SPLICE_F_NONBLOCK
            )
        except OSError as exc:
            if exc.errno == errno.EAGAIN and start > first:
                return start
            raise
        if not moved:
            raise EOFError(f"the file ends at {start}, before {end}")
        start += moved
    return start
