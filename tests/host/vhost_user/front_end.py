"""A VMM's side of vhost-user, as QEMU speaks it, and a guest's ring in its RAM."""

import os
import struct
from collections.abc import Sequence

from wlproxy.host.vhost_user.messages import (
    HEADER,
    MemoryRegion,
    Message,
    Request,
    encode_request,
    encode_single,
    encode_table,
)

PAGE = 4096
GPA = 0x10_0000
"""Guest address of the first byte of the RAM that `Guest` has."""
ADDRESS = 0x7F00_0000_0000
"""Where the VMM has it mapped."""
SIZE = 64 * PAGE
RING_SIZE = 8
DESCRIPTORS, AVAILABLE, USED, STATUS = 0, PAGE, 2 * PAGE, 3 * PAGE
"""Offsets in the RAM."""
NEXT, WRITE = 1, 2
UNTOUCHED = 0xFF


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def ask(request: Request, payload: bytes = b"") -> bytes:
    """Write a message."""
    return encode_request(Message(request, payload))


def answer_of(reply: bytes) -> bytes:
    """Read the payload of a reply."""
    _request, _flags, size = HEADER.unpack_from(reply)
    assert len(reply) == HEADER.size + size
    return reply[HEADER.size :]


class Guest:
    """A guest's RAM: a memfd that the caller owns, with a ring of a driver's in it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.ftruncate(fd, SIZE)
        self._offered = 0

    region = MemoryRegion(GPA, SIZE, ADDRESS, 0)

    def describe(
        self, number: int, gpa: int, length: int, flags: int, then: int
    ) -> None:
        """Write a descriptor."""
        data = struct.pack("<QIHH", gpa, length, flags, then)
        os.pwrite(self.fd, data, DESCRIPTORS + 16 * number)

    def offer(self, first: int) -> None:
        """Make a chain of descriptors available."""
        place = AVAILABLE + 4 + 2 * (self._offered % RING_SIZE)
        os.pwrite(self.fd, struct.pack("<H", first), place)
        self._offered += 1
        os.pwrite(self.fd, struct.pack("<H", self._offered & 0xFFFF), AVAILABLE + 2)

    def request(self, first: int = 0) -> None:
        """Ask for a sector, as virtio-blk does: a head, room for data, and a status."""
        self.describe(first, GPA + 4 * PAGE, 16, NEXT, first + 1)
        self.describe(first + 1, GPA + 5 * PAGE, 512, NEXT | WRITE, first + 2)
        self.describe(first + 2, GPA + STATUS, 1, WRITE, 0)
        os.pwrite(self.fd, bytes([UNTOUCHED]), STATUS)
        self.offer(first)

    @property
    def status(self) -> int:
        """What the device has written of the last request."""
        return os.pread(self.fd, 1, STATUS)[0]

    def used(self) -> list[tuple[int, int]]:
        """What the device has given back: first descriptor, bytes written."""
        (count,) = struct.unpack("<H", os.pread(self.fd, 2, USED + 2))
        data = os.pread(self.fd, 8 * min(count, RING_SIZE), USED + 4)
        return list(struct.iter_unpack("<II", data))

    def memory(self) -> tuple[bytes, Sequence[int]]:
        """The message that tells of it, and its fds."""
        return ask(Request.SET_MEM_TABLE, encode_table((self.region,))), [self.fd]

    def ring(
        self, kick: int, call: int, index: int = 0
    ) -> list[tuple[bytes, Sequence[int]]]:
        """The messages that start its ring, as the one of a number."""
        addresses = (ADDRESS + DESCRIPTORS, ADDRESS + USED, ADDRESS + AVAILABLE)
        return [
            (ask(Request.SET_VRING_NUM, struct.pack("<II", index, RING_SIZE)), []),
            (ask(Request.SET_VRING_BASE, struct.pack("<II", index, 0)), []),
            (
                ask(
                    Request.SET_VRING_ADDR,
                    struct.pack("<IIQQQQ", index, 0, *addresses, 0),
                ),
                [],
            ),
            (ask(Request.SET_VRING_KICK, u64(index)), [kick]),
            (ask(Request.SET_VRING_CALL, u64(index)), [call]),
            (ask(Request.SET_VRING_ENABLE, struct.pack("<II", index, 1)), []),
        ]


def plug(region: MemoryRegion) -> bytes:
    """Write the message that adds a region."""
    return ask(Request.ADD_MEM_REG, encode_single(region))


def unplug(region: MemoryRegion) -> bytes:
    """Write the message that removes one; its offset need not be told."""
    told = MemoryRegion(region.gpa, region.length, region.address, 0)
    return ask(Request.REM_MEM_REG, encode_single(told))
