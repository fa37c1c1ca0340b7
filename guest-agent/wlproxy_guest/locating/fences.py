"""Waits until dma-bufs have been drawn, by their implicit fences.

An app may commit a buffer that its GPU has not finished.  The kernel keeps *fences* on the
dma-buf for whoever reads it, but no fence crosses to the host.  So an app's bytes go to the
host only when everything that was being written into its dma-bufs at the time the bytes
came in has been written.  Only that app's bytes wait.  The agent does not know which bytes
are a commit, so it waits before all of them.  Fences end in finite time: the kernel requires
that of its drivers.  Where a driver breaks the rule, a time-out ends the wait.
"""

import fcntl
import logging
import select
import struct
from contextlib import ExitStack
from typing import Final

import trio

from wlproxy.transport.fds import OwnedFd

SYNC_FILE: Final = struct.Struct("=Ii")
"""struct dma_buf_export_sync_file: flags, fd (out)."""
DMA_BUF_IOCTL_EXPORT_SYNC_FILE: Final = 0xC0086202
DMA_BUF_SYNC_READ: Final = 1
"""The fences that a reader waits for: those of writers."""
UNDRAWN: Final = 10.0
"""Seconds after which a dma-buf is waited for no more; drivers reset a GPU before."""

log = logging.getLogger(__name__)


class WriteFences:
    """The dma-bufs of one client that the host may read, and whether writing has ended."""

    __slots__ = ("_complained", "_fds", "_poll")

    def __init__(self) -> None:
        self._fds: set[int] = set()
        self._poll = select.poll()
        self._complained = False

    def add(self, fd: int) -> None:
        """Watch a dma-buf from now on; `fd` stays the caller's, open until `remove`."""
        self._fds.add(fd)
        self._poll.register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        """Stop watching a dma-buf; one that was given up is not watched anyway."""
        if fd in self._fds:
            self._fds.discard(fd)
            self._poll.unregister(fd)

    def pending(self) -> set[int]:
        """Return the dma-bufs that are still being written to."""
        if not self._fds:
            return set()
        return self._fds - {fd for fd, _ in self._poll.poll(0)}

    async def wait_drawn(self) -> set[int]:
        """Wait for everything that is being written now; `pending` tells if anything is.

        What is begun meanwhile is not waited for: an app that draws without a pause does
        not stop its own bytes for ever.  Returns those that were waited for in vain;
        they are watched no more.
        """
        pending = self.pending()
        with trio.move_on_after(UNDRAWN) as scope:
            await self._wait(pending)
        if not scope.cancelled_caught:
            return set()
        undrawn = pending & self.pending()
        for fd in undrawn:
            self.remove(fd)
        log.warning(
            "a buffer was not drawn in %g seconds; it is shown as it is", UNDRAWN
        )
        return undrawn

    async def _wait(self, pending: set[int]) -> None:
        with ExitStack() as waited:
            all_fences: list[OwnedFd] = []
            for fd in pending:
                try:
                    all_fences.append(waited.enter_context(export_fences(fd)))
                except OSError as exc:
                    self._complain(exc)
            await trio.lowlevel.checkpoint()
            for fences in all_fences:
                try:
                    await trio.lowlevel.wait_readable(fences.fileno())
                except OSError as exc:  # no memory to wait with
                    self._complain(exc)

    def _complain(self, exc: OSError) -> None:
        # At worst a buffer is shown half drawn: no reason to end the app.
        if not self._complained:
            self._complained = True
            log.warning("cannot wait until buffers are drawn: %s", exc)


def export_fences(fd: int) -> OwnedFd:
    """Take a snapshot of a dma-buf's write fences: an fd, readable when all have ended.

    Raises:
        OSError: ENOTTY before Linux 6.0; or no fds or memory are left.
    """
    request = bytearray(SYNC_FILE.pack(DMA_BUF_SYNC_READ, -1))
    fcntl.ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, request)
    _, fences = SYNC_FILE.unpack(request)
    return OwnedFd(fences)
