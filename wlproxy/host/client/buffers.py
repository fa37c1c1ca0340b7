"""The buffers that a client shows: dma-bufs of its pages, and memory that pixels are copied into.

Each is an fd that the core has a name for (`handles`).  `compositor_queue` decides what is
copied when, and `pixels` knows how.
"""

import errno

import trio

from wlproxy.host.client.handles import Handles
from wlproxy.host.client.pixels import CopyBuffer
from wlproxy.host.errors import HostError
from wlproxy.host.pages import PageSource
from wlproxy.host.report.metrics import Metrics
from wlproxy.relay.commands import CreateCopyBuffer, CreateUdmabuf
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import BufferCreated, BufferFailed
from wlproxy.transport.fds import OwnedFd

Answer = BufferCreated | BufferFailed


class Buffers:
    """The buffers of one client."""

    def __init__(
        self, client_id: int, handles: Handles, pages: PageSource, metrics: Metrics
    ) -> None:
        """There are none yet.

        Args:
            client_id: whose.
            handles: the client's; this adds to them, and closes them.
            pages: makes dma-bufs, or what else the compositor maps.
            metrics: counted into.
        """
        self._client_id = client_id
        self._handles = handles
        self._pages = pages
        self._metrics = metrics
        self._copies: dict[Handle, CopyBuffer] = {}
        self._udmabufs: set[Handle] = set()
        self._creating: set[Handle] = set()
        self._discarded: set[Handle] = set()
        self._closed = False

    def copy_target(self, handle: Handle) -> CopyBuffer:
        """Find what pixels are copied into.

        Raises:
            KeyError: there is no such buffer.
        """
        return self._copies[handle]

    def create_copy(self, command: CreateCopyBuffer) -> Answer:
        """Make memory to copy pixels into."""
        try:
            made = CopyBuffer(command.size)
        except HostError as exc:
            number = exc.errno or errno.ENOMEM
            return BufferFailed(self._client_id, command.handle, number, exc.problem)
        self._handles.add(command.handle, made.fd)
        self._copies[command.handle] = made
        return BufferCreated(self._client_id, command.handle)

    def create_udmabuf(self, command: CreateUdmabuf) -> Answer | None:
        """Make a dma-buf; None if that takes long, and is for `create_slowly`."""
        self._creating.add(command.handle)
        if self._pages.is_slow(command.items):
            return None
        return self._take(command, self._pages.make(command.items))

    async def create_slowly(self, command: CreateUdmabuf) -> Answer | None:
        """Make a dma-buf in a thread; None if nobody waits for it any more."""
        made: OwnedFd | HostError = HostError("there is no dma-buf")
        try:
            with self._pages.holding(command.items):
                made = await trio.to_thread.run_sync(self._pages.make, command.items)
        finally:
            answer = self._take(command, made)
        return answer

    def close(self, handle: Handle) -> None:
        """Close what a handle names, which may be no buffer, or not made yet.

        Raises:
            LocalProtocolError: there is no such handle.
        """
        if handle in self._creating:
            self._discarded.add(handle)
            return
        if handle in self._udmabufs:
            self._udmabufs.remove(handle)
            self._metrics.udmabufs_alive -= 1
        self._handles.close(handle)
        self._copies.pop(handle, None)

    def close_all(self) -> None:
        """Close everything, also what is made later; again is harmless."""
        self._closed = True
        self._metrics.udmabufs_alive -= len(self._udmabufs)
        self._udmabufs.clear()
        self._handles.close_all()
        self._copies.clear()

    def _take(self, command: CreateUdmabuf, made: OwnedFd | HostError) -> Answer | None:
        """Take over a dma-buf; None if nobody waits for it any more."""
        handle = command.handle
        self._creating.discard(handle)
        wanted = not (self._closed or handle in self._discarded)
        self._discarded.discard(handle)
        if isinstance(made, HostError):
            self._metrics.udmabufs_failed += 1
            number = made.errno or errno.EINVAL
            failed = BufferFailed(self._client_id, handle, number, made.problem)
            return failed if wanted else None
        self._metrics.udmabufs_created += 1
        if not wanted:
            made.close()
            return None
        self._handles.add(handle, made)
        self._udmabufs.add(handle)
        self._metrics.udmabufs_alive += 1
        return BufferCreated(self._client_id, handle)
