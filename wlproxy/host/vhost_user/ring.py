"""One ring of the disk's requests: each of them is answered with an I/O error.

Nobody ought to ask a disk of no sectors for anything, but firmware that looks for something to boot does,
and would wait for ever for one that does not answer.

Source: virtio 1.2, 2.7 (split virtqueues), 5.2.6 (the last byte of a request is its status).
"""

import os
import struct
from contextlib import suppress
from typing import Final

from wlproxy.host.vhost_user.messages import VhostUserError
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd

MAX_SIZE: Final = 32768
"""Entries that a ring may have: virtio 1.2, 2.7."""
IO_ERROR: Final = b"\x01"
"""VIRTIO_BLK_S_IOERR."""

_INDEX: Final = struct.Struct("<H")
_DESCRIPTOR: Final = struct.Struct("<QIHH")
"""Guest address, length, flags, next."""
_USED: Final = struct.Struct("<II")
"""First descriptor, bytes written."""
_NEXT, _WRITE = 1, 2
"""Flags of a descriptor: another one follows; it is for the device to write."""
_HEAD: Final = 4
"""Bytes before the entries of a ring: flags, index."""


class Ring(Closing):
    """A ring, as far as the VMM has told of it.

    Attributes:
        size: entries; 0: not known yet.
        addresses: of its descriptors, used and available ring, as the VMM maps them.
        kick: an eventfd that tells of requests; None: it is stopped.
        call: an eventfd to tell of answers; None: nobody wants to know.
        next: the entry of the available ring that is looked at next.
        due: whether there may be requests that were not looked at.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self.size = 0
        self.addresses: tuple[int, int, int] | None = None
        self.kick: OwnedFd | None = None
        self.call: OwnedFd | None = None
        self.next = 0
        self.due = False

    def set_kick(self, fd: OwnedFd | None) -> None:
        """Have another eventfd tell of requests; what was asked before then is due, too."""
        if self.kick is not None:
            self.kick.close()
        self.kick = fd
        self.due = fd is not None

    def set_call(self, fd: OwnedFd | None) -> None:
        """Have another eventfd told of answers."""
        if self.call is not None:
            self.call.close()
        self.call = fd
        # What was answered may have been told to the one before, which nobody reads.
        self.tell()

    def take_kick(self) -> None:
        """Hear of requests, whoever has taken the news before us."""
        assert self.kick is not None
        with suppress(BlockingIOError):
            os.eventfd_read(self.kick.fileno())
            self.due = True

    def tell(self) -> None:
        """Tell the guest of answers.  One that has not taken a great many knows enough."""
        if self.call is not None:
            with suppress(OSError):
                os.eventfd_write(self.call.fileno(), 1)

    def close(self) -> None:
        """Stop it, and close its fds."""
        self.set_kick(None)
        self.set_call(None)

    def answer(self, ram: Ram, most: int) -> int:
        """Answer requests that wait, and tell the guest; if all were, nothing is due any more.

        Args:
            ram: the guest's.
            most: descriptors to look at, and then no more requests.

        Returns:
            How many descriptors were looked at: the work.

        Raises:
            VhostUserError: the ring, or a request, is not in RAM, or is none.
        """
        self.due = False
        if self.addresses is None or not self.size:
            return 0
        _, used, available = self.addresses
        newest = _index(ram, available + 2)
        waiting = newest - self.next & 0xFFFF
        if waiting > self.size:
            raise VhostUserError(f"{waiting} requests in a ring of {self.size}")
        done = _index(ram, used + 2)
        work = 0
        try:
            for _ in range(waiting):
                self.due = work >= most
                if self.due:
                    break
                place = available + _HEAD + _INDEX.size * (self.next % self.size)
                first = _index(ram, place)
                written, looked_at = self._fail(ram, first)
                work += looked_at
                place = used + _HEAD + _USED.size * (done % self.size)
                ram.write(place, _USED.pack(first, written))
                done = done + 1 & 0xFFFF
                # The guest looks at the entry once it sees this number.
                ram.write(used + 2, _INDEX.pack(done))
                self.next = self.next + 1 & 0xFFFF
        finally:
            if work:
                self.tell()
        return work

    def _fail(self, ram: Ram, first: int) -> tuple[int, int]:
        """Write a request's status; return how many bytes those were, and its descriptors."""
        assert self.addresses is not None
        descriptors, *_ = self.addresses
        number, status, looked_at = first, None, 0
        while looked_at < self.size:  # a chain that is longer is a circle
            looked_at += 1
            if number >= self.size:
                raise VhostUserError(f"no descriptor {number} in {self.size}")
            place = descriptors + _DESCRIPTOR.size * number
            gpa, length, flags, number = _DESCRIPTOR.unpack(
                ram.read(place, _DESCRIPTOR.size)
            )
            if flags & _WRITE and length:
                status = gpa + length - 1
            if not flags & _NEXT:
                break
        if status is None:
            return 0, looked_at
        ram.write_guest(status, IO_ERROR)
        return 1, looked_at


def _index(ram: Ram, address: int) -> int:
    return int.from_bytes(ram.read(address, _INDEX.size), "little")
