"""Every fd has one owner, which closes it exactly once.

`OwnedFd` owns one; `HandleTable` maps the core's handles to them.  No other module calls
`os.close`.  Sockets are owned by their socket objects, not here.
"""

import os
import resource
import warnings
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Final, Self

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.handles import Handle
from wlproxy.relay.quotas import MAX_FDS

FDS_FOR_ALL_ELSE: Final = 2048
"""Pipes, connections, and what we open for moments."""


def raise_fd_limit() -> None:
    """Allow ourselves as many fds as we may have: each buffer of a guest is one.

    The usual 1024 are for programs that use `select`, which trio does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may have its own ideas
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fds_for_buffers() -> int:
    """Count the fds that buffers may take: what we may open, less all else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_FDS
    return max(soft - FDS_FOR_ALL_ELSE, soft // 2)


class FdState(Enum):
    """What has become of an owned fd."""

    OPEN = "open"
    CLOSING = "closing"
    """To be closed when the last hold is released."""
    CLOSED = "closed"
    DETACHED = "detached"
    """Somebody else owns it."""


class OwnedFd:
    """An fd and the duty to close it.

    `hold()` keeps it open over a `close()`, for as long as it waits to be sent.
    """

    __slots__ = ("_fd", "_holds", "_state")

    def __init__(self, fd: int) -> None:
        if fd < 0:
            raise LocalProtocolError(f"{fd} is not an fd")
        self._fd = fd
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
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Not `_state` alone: __init__ may have raised before it was set.
        if getattr(self, "_state", None) in (FdState.OPEN, FdState.CLOSING):
            warnings.warn(
                f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self
            )
            self._close()

    def __repr__(self) -> str:
        return f"<OwnedFd {self._fd} {self._state.value} holds={self._holds}>"


class HandleTable:
    """The fds behind the core's handles, by the client they belong to."""

    __slots__ = ("_clients", "_owners")

    def __init__(self) -> None:
        self._clients: dict[int, dict[Handle, OwnedFd]] = {}
        self._owners: dict[Handle, int] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, handle: Handle) -> bool:
        return handle in self._owners

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._owners)

    def add(self, client_id: int, handle: Handle, fd: OwnedFd) -> None:
        """Take over `fd` as `handle` of a client.

        Raises:
            LocalProtocolError: the handle is in use.  `fd` is still the caller's.
        """
        if handle in self._owners:
            raise LocalProtocolError(f"handle {handle} is in use")
        self._owners[handle] = client_id
        self._clients.setdefault(client_id, {})[handle] = fd

    def get(self, handle: Handle) -> OwnedFd:
        """Look up the fd of a handle, which stays the table's.

        Raises:
            LocalProtocolError: there is no such handle.
        """
        try:
            return self._clients[self._owners[handle]][handle]
        except KeyError:
            raise LocalProtocolError(f"handle {handle} is not open") from None

    def take(self, client_id: int, handle: Handle) -> OwnedFd:
        """Forget a handle; its fd becomes the caller's.

        Raises:
            LocalProtocolError: the client has no such handle.
        """
        if self._owners.get(handle) != client_id:
            raise LocalProtocolError(f"client {client_id} has no handle {handle}")
        del self._owners[handle]
        handles = self._clients[client_id]
        fd = handles.pop(handle)
        if not handles:
            del self._clients[client_id]
        return fd

    def close(self, client_id: int, handle: Handle) -> None:
        """Forget a handle and close its fd, once nothing holds it.

        Raises:
            LocalProtocolError: the client has no such handle.
        """
        self.take(client_id, handle).close()

    def close_client(self, client_id: int) -> None:
        """Close all handles of a client; perhaps it has none."""
        for handle, fd in self._clients.pop(client_id, {}).items():
            del self._owners[handle]
            fd.close()

    def close_all(self) -> None:
        """Close everything."""
        for client_id in tuple(self._clients):
            self.close_client(client_id)
