"""Keeps the fds behind the handles by which the core names them, for one client.

The core names fds by handles that it makes itself; those of fds that come from the
compositor are made here.  Who closes an fd, and when, is `transport.fds`'s.
"""

import fcntl
import os
import stat
from collections.abc import Iterator

from wlproxy.host.errors import HostError
from wlproxy.protocol.channel.frames import MAX_FILE_SIZE
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import Direction
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, ReceivedFd
from wlproxy.transport.fds import OwnedFd


class Handles:
    """The fds of a client, by handle."""

    __slots__ = ("_fds",)

    def __init__(self) -> None:
        self._fds: dict[Handle, OwnedFd] = {}

    def __len__(self) -> int:
        return len(self._fds)

    def __contains__(self, handle: Handle) -> bool:
        return handle in self._fds

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._fds)

    def add(self, handle: Handle, fd: OwnedFd) -> None:
        """Take over `fd` as `handle`.

        Raises:
            LocalProtocolError: the handle is in use.  `fd` is still the caller's.
        """
        if handle in self._fds:
            raise LocalProtocolError(f"handle {handle} is in use")
        self._fds[handle] = fd

    def get(self, handle: Handle) -> OwnedFd:
        """Look up the fd of a handle, which stays the table's.

        Raises:
            LocalProtocolError: there is no such handle.
        """
        try:
            return self._fds[handle]
        except KeyError:
            raise LocalProtocolError(f"handle {handle} is not open") from None

    def take(self, handle: Handle) -> OwnedFd:
        """Forget a handle; its fd becomes the caller's.

        Raises:
            LocalProtocolError: there is no such handle.
        """
        fd = self.get(handle)
        del self._fds[handle]
        return fd

    def close(self, handle: Handle) -> None:
        """Forget a handle and close its fd, once nothing holds it.

        Raises:
            LocalProtocolError: there is no such handle.
        """
        self.take(handle).close()

    def close_all(self) -> None:
        """Close everything."""
        while self._fds:
            self._fds.popitem()[1].close()


def sealed_file(contents: bytes) -> OwnedFd:
    """Make a file of these contents that a compositor may map as a pool of buffers.

    Raises:
        HostError: no memory or no fd is left.
    """
    problem = "a picture of the proxy's own cannot be made"
    with HostError.explaining(problem, tried=f"memfd_create ({len(contents)} bytes)"):
        fd = OwnedFd(os.memfd_create("wlproxy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        try:
            os.ftruncate(fd.fileno(), len(contents))
            os.pwrite(fd.fileno(), contents, 0)  # whole: it is a few pages of memory
            # Not against writing: compositors map what is in pools for both.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd.fileno(), fcntl.F_ADD_SEALS, seals)
        except OSError:
            fd.close()
            raise
        return fd


def classify(handle: Handle, fd: OwnedFd) -> ReceivedFd:
    """State what can be seen of an fd, for what its message does not say."""
    status = os.fstat(fd.fileno())
    mode = status.st_mode
    direction = _direction(fd)
    # A file that is only to be written has nothing to read.
    write_only = direction is Direction.TO_COMPOSITOR and stat.S_ISREG(mode)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or write_only:
        return ReceivedFd(handle, FdKind.STREAM, 0, direction)
    if stat.S_ISREG(mode) and status.st_size <= MAX_FILE_SIZE:
        return ReceivedFd(handle, FdKind.FILE, status.st_size)
    return ReceivedFd(handle, FdKind.OTHER, 0, direction)


def _direction(fd: OwnedFd) -> Direction | None:
    match fcntl.fcntl(fd.fileno(), fcntl.F_GETFL) & os.O_ACCMODE:
        case os.O_WRONLY:
            return Direction.TO_COMPOSITOR
        case os.O_RDONLY:
            return Direction.TO_GUEST
        case _:
            return None
