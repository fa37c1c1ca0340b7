"""The fds of one app that the host may ask about, each by a number.

The host may never say what one was for: an app like Xwayland makes thousands of buffers, of which
few are shown.  Where there are too many, those that nobody has asked about for longest are closed.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from wlproxy.protocol.quota import Quota
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.quotas import FEW_MEMORIES

log = logging.getLogger(__name__)


class Memories(Mapping[int, OwnedFd]):
    """An app's fds, by their numbers; the one to be closed next is the first."""

    __slots__ = ("_fds", "_forgetful", "_limit", "_next", "_owner", "_total")

    def __init__(self, owner: str, limit: int, total: Quota) -> None:
        """There are none yet.

        Args:
            owner: named in the log.
            limit: most of this app.
            total: how many there may be of all apps.
        """
        self._owner = owner
        self._limit = limit
        self._total = total
        self._fds: OrderedDict[int, OwnedFd] = OrderedDict()
        self._next = 1
        self._forgetful = False

    def __getitem__(self, memory_id: int) -> OwnedFd:
        return self._fds[memory_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._fds)

    def __len__(self) -> int:
        return len(self._fds)

    def keep(self, fd: OwnedFd) -> int:
        """Keep an fd until the host knows what it is for, or has no use for it."""
        if len(self._fds) >= self._limit:
            self._forget()
        while not self._total.take(1):
            if len(self._fds) < FEW_MEMORIES:
                self._total.used += 1  # others' thousands are no reason
                break
            self._forget()
        memory_id = self._next
        self._next += 1
        self._fds[memory_id] = fd
        return memory_id

    def was_kept(self, memory_id: int) -> bool:
        """Whether there has ever been one of that number."""
        return memory_id < self._next

    def use(self, memory_id: int) -> None:
        """Note that the host has asked about one."""
        if memory_id in self._fds:
            self._fds.move_to_end(memory_id)

    def take(self, memory_id: int) -> OwnedFd | None:
        """Hand one over, if it is still there."""
        fd = self._fds.pop(memory_id, None)
        if fd is not None:
            self._total.give_back(1)
        return fd

    def close(self, memory_id: int) -> None:
        """Close one, if it is still there."""
        fd = self.take(memory_id)
        if fd is not None:
            fd.close()

    def close_all(self) -> None:
        """Close all of them."""
        for memory_id in tuple(self._fds):
            self.close(memory_id)

    def _forget(self) -> None:
        if not self._forgetful:
            self._forgetful = True
            count = len(self._fds)
            log.warning("%s: over %d fds: the oldest are closed", self._owner, count)
        self.close(next(iter(self._fds)))
