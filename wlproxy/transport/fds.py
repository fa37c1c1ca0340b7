"""Gives every fd one owner, which closes it exactly once.

No other module calls `os.close` or `os.dup`.  A socket is owned by its socket object, not
here.  What an fd is for is not known here.
"""

import os
import resource
import socket
import warnings
from array import array
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Self

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.transport.closable import Closing


class FdState(Enum):
    """What has become of an owned fd."""

    OPEN = "open"
    CLOSING = "closing"
    """To be closed when the last hold is released."""
    CLOSED = "closed"
    DETACHED = "detached"
    """Somebody else owns it."""


class OwnedFd(Closing):
    """An fd and the duty to close it.

    `hold()` keeps it open over a `close()`, for as long as it waits to be sent.
    """

    __slots__ = ("_close_number", "_fd", "_holds", "_state")

    def __init__(self, fd: int, close: Callable[[int], None] = os.close) -> None:
        """Own `fd`.

        Args:
            fd: its number.
            close: closes it, called once.  For what close(2) may have to wait for, it
                has somebody else do that; nobody waits for it here.

        Raises:
            LocalProtocolError: it is negative.
        """
        if fd < 0:
            raise LocalProtocolError(f"{fd} is not an fd")
        self._fd = fd
        self._close_number = close
        self._holds = 0
        self._state = FdState.OPEN

    @property
    def state(self) -> FdState:
        """What has become of it."""
        return self._state

    def fileno(self) -> int:
        """Borrow the number.

        Raises:
            LocalProtocolError: it is closed or detached.
        """
        if self._state in (FdState.CLOSED, FdState.DETACHED):
            raise LocalProtocolError(f"fd {self._fd} is {self._state.value}")
        return self._fd

    def duplicate(self) -> "OwnedFd":
        """Make another fd of the same open file, which is closed the same way.

        Raises:
            OSError: there are too many fds.
            LocalProtocolError: it is closed or detached.
        """
        return duplicate(self.fileno(), self._close_number)

    def detach(self) -> int:
        """Give up ownership: the caller closes it.

        Raises:
            LocalProtocolError: it is not open, or held.
        """
        if self._state is not FdState.OPEN or self._holds:
            raise LocalProtocolError(f"fd {self._fd} is {self._state.value} or held")
        self._state = FdState.DETACHED
        return self._fd

    def hold(self) -> Self:
        """Keep it open until the matching `release`, whatever `close` says.

        Whoever holds it may hand it on: one that is only waiting to be closed can be
        held once more.

        Raises:
            LocalProtocolError: it is closed or detached.
        """
        self.fileno()
        self._holds += 1
        return self

    def release(self) -> None:
        """Undo one `hold`; close the fd if that was asked for meanwhile.

        Raises:
            LocalProtocolError: nothing holds it.
        """
        if not self._holds:
            raise LocalProtocolError(f"fd {self._fd} is not held")
        self._holds -= 1
        if not self._holds and self._state is FdState.CLOSING:
            self._close()

    def close(self) -> None:
        """Close it now, or when the last hold is released.  Again: nothing happens."""
        if self._state is not FdState.OPEN:
            return
        if self._holds:
            self._state = FdState.CLOSING
        else:
            self._close()

    def _close(self) -> None:
        self._state = FdState.CLOSED
        self._close_number(self._fd)

    def __del__(self) -> None:
        # Not `_state` alone: __init__ may have raised before it was set.
        if getattr(self, "_state", None) in (FdState.OPEN, FdState.CLOSING):
            warnings.warn(
                f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self
            )
            self._close()

    def __repr__(self) -> str:
        return f"<OwnedFd {self._fd} {self._state.value} holds={self._holds}>"


def duplicate(fd: int, close: Callable[[int], None] = os.close) -> OwnedFd:
    """Duplicate an fd that was only lent; `close` is as for `OwnedFd`.

    Raises:
        OSError: there are too many fds, or `fd` is none.
    """
    return OwnedFd(os.dup(fd), close)


def receive_fds(
    connection: socket.socket, size: int, most: int, flags: int = 0
) -> tuple[bytes, list[OwnedFd], int]:
    """Receive bytes, and fds that are closed on exec.

    Not socket.recv_fds(): it drops its flags (CPython 3.11, Lib/socket.py), and so
    MSG_CMSG_CLOEXEC.

    Args:
        connection: a Unix socket.
        size: bytes, at most.
        most: fds that there is room for.
        flags: of recvmsg(2).

    Returns:
        The bytes; the fds; the flags that the kernel answered with, of which MSG_CTRUNC
        says that some fds are lost.

    Raises:
        OSError: as of recvmsg(2).
    """
    one = array("i").itemsize
    data, ancillary, answered, _ = connection.recvmsg(
        size, socket.CMSG_LEN(most * one), flags | socket.MSG_CMSG_CLOEXEC
    )
    fds = [
        OwnedFd(number)
        for level, kind, payload in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for number in array("i", payload[: len(payload) // one * one])
    ]
    return data, fds, answered


def raise_fd_limit() -> None:
    """Allow ourselves as many fds as we may have: apps pass many.

    The usual 1024 are for programs that use `select`, which trio does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may have its own ideas
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
