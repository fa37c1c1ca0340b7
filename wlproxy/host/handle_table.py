"""The fds behind the core's handles, and how many there may be.

The core names fds by handles that it makes itself; `HandleTable` maps them to fds.  Who
closes an fd, and when, is `transport/fds`'s.
"""

import resource
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.handles import Handle
from wlproxy.relay.quotas import MAX_FDS
from wlproxy.transport.fds import OwnedFd

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
