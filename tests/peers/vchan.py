"""A vchan without Xen: two ends in this process, each with a fd that tells what the other has done.

What it has of libxenvchan is what a caller sees: rings of a size, no call that waits, an event for the other end
when it reads, writes or closes.  Nothing of this is Xen; what that does, only the lab can tell.
"""

import os
import select
import threading

from wlproxy.transport.vchan import RING, VchanClosedError


class FakeVchan:
    """One end.

    Attributes:
        is_open: whether the other end is there, or may still come.
        closed: whether this one has been closed.
        broken: whether its events come no more.
        missed: events that were acknowledged although there was none, where the library would wait.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._other: FakeVchan
        self._ring = bytearray()
        self._quiet = False
        self.is_open = True
        self.closed = False
        self.missed = 0
        self.broken = False

    def fileno(self) -> int:
        assert not self.closed
        return self._event

    def acknowledge(self) -> None:
        assert not self.closed
        if self.broken:
            raise VchanClosedError
        if select.select([self._event], [], [], 0)[0]:
            os.eventfd_read(self._event)
        else:
            self.missed += 1

    def read(self, size: int) -> bytes:
        assert not self.closed
        with self._lock:
            data = bytes(self._ring[:size])
            del self._ring[:size]
            # As the library has it: who has not read it empty is told of nothing more.
            self._quiet = len(data) == size
            if not data and not self.is_open:
                raise VchanClosedError
            if data:
                self._other.tell()
            return data

    def write(self, data: bytes) -> int:
        assert not self.closed
        with self._lock:
            if not self.is_open:
                raise VchanClosedError
            ring = self._other._ring
            taken = data[: RING - len(ring)]
            ring += taken
            if taken and not self._other._quiet:
                self._other.tell()
            return len(taken)

    def close(self) -> None:
        with self._lock:
            if not self.closed:
                self.closed = True
                self._other.is_open = False
                self._other.tell()

    def tell(self) -> None:
        """Have its fd readable."""
        if not self.closed:
            os.eventfd_write(self._event, 1)

    def release(self) -> None:
        """Close its fd."""
        os.close(self._event)


def fake_vchan() -> tuple[FakeVchan, FakeVchan]:
    """Make both ends."""
    lock = threading.Lock()
    one, other = FakeVchan(lock), FakeVchan(lock)
    one._other, other._other = other, one
    return one, other
