"""A byte stream that carries fds: a Unix socket under trio.

Knows nothing of Wayland.  Received fds arrive as `OwnedFd`s; fds to be sent stay their
owner's, and are held until the kernel has them.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wlproxy.host.fds import OwnedFd

MAX_FDS_OUT = 28
"""Fds per sendmsg: what libwayland sends, and expects, at most."""
MAX_FDS_IN = 253
"""Fds per recvmsg: the kernel's SCM_MAX_FD, so that none is ever cut off."""
RECEIVE_SIZE = 65536


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes, and the fds that leave with the first of them."""

    data: bytes
    fds: tuple[OwnedFd, ...] = ()


async def connect_unix(path: Path) -> "FdStream":
    """Connect to a listening Unix socket.

    Raises:
        OSError: nothing listens there, no permission, or the path is too long.
    """
    raise NotImplementedError


class FdStream:
    """A connected Unix stream socket, which it owns.

    One task may receive while another one sends.
    """

    def __init__(self, sock: socket.socket) -> None:
        raise NotImplementedError

    @property
    def socket(self) -> socket.socket:
        """The socket, for its options (SO_PEERCRED)."""
        raise NotImplementedError

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer."""
        raise NotImplementedError

    async def receive(
        self, max_bytes: int = RECEIVE_SIZE
    ) -> tuple[bytes, list[OwnedFd]]:
        """Wait for bytes; none mean that the peer has closed.

        Nothing is lost by cancellation: there is no checkpoint after the system call.

        Raises:
            FdsLostError: the kernel dropped fds; those that came have been closed.
            trio.ClosedResourceError: the stream was closed here.
            trio.BrokenResourceError: the connection broke.
            trio.BusyResourceError: another task is receiving.
        """
        raise NotImplementedError

    async def send(self, data: bytes, fds: Sequence[OwnedFd] = ()) -> None:
        """Send bytes; the fds leave with the first byte.  As `send_batch`."""
        raise NotImplementedError

    async def send_batch(self, chunks: Sequence[Chunk]) -> None:
        """Send chunks in order, in as few system calls as their fds allow.

        The fds are held at once, so their owner may close them after this was
        called.  Cancelled, the rest is remembered: whatever is sent next, or
        `flush`, goes on with it.

        Raises:
            LocalProtocolError: a chunk has fds but too few bytes to carry them.
            trio.ClosedResourceError: the stream was closed here.
            trio.BrokenResourceError: the peer is gone.
            trio.BusyResourceError: another task is sending.
        """
        raise NotImplementedError

    async def flush(self) -> None:
        """Send what an earlier, cancelled send left.  Raises as `send_batch`."""
        raise NotImplementedError

    def shutdown_write(self) -> None:
        """Tell the peer that nothing more comes.  What is unsent is dropped."""
        raise NotImplementedError

    async def wait_closed(self, timeout: float) -> bool:
        """Discard what the peer still sends until it closes; False after `timeout` s.

        Raises:
            trio.ClosedResourceError: the stream was closed here.
            trio.BusyResourceError: another task is receiving.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the socket and drop what is unsent.  A checkpoint."""
        raise NotImplementedError
