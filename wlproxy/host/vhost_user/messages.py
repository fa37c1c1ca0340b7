"""The messages of vhost-user, without I/O: a header of 12 bytes, and what it says follows.

Source: docs/interop/vhost-user.rst in QEMU, "Message Specification".
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

HEADER: Final = struct.Struct("<III")
"""Request, flags, bytes of the payload."""
VERSION: Final = 0x1
VERSION_MASK: Final = 0x3
REPLY: Final = 1 << 2
MAX_PAYLOAD: Final = 4096
"""Bytes: the largest that is asked for here is a table of 8 regions, 264."""
MAX_FDS: Final = 8
"""With one message: a table of `BASELINE_REGIONS`."""
BASELINE_REGIONS: Final = 8

U64: Final = struct.Struct("<Q")
VRING_STATE: Final = struct.Struct("<II")
"""Index of the ring, number."""
VRING_ADDRESS: Final = struct.Struct("<IIQQQQ")
"""Index, flags; user addresses of descriptors, used ring, available ring; log."""
CONFIG: Final = struct.Struct("<III")
"""Offset, size, flags; the bytes themselves follow."""
_TABLE: Final = struct.Struct("<II")
"""Number of regions, padding."""
_REGION: Final = struct.Struct("<QQQQ")
"""Guest address, size, user address, offset in the file."""
_SINGLE: Final = struct.Struct("<Q")
"""Padding before the region of ADD_MEM_REG and REM_MEM_REG."""

RING_MASK: Final = 0xFF
"""What of a kick's or call's u64 is the index of the ring."""
NO_FD: Final = 1 << 8
"""In such a u64: no fd comes with it."""


class VhostUserError(Exception):
    """The other end broke the protocol; the message says how."""


class Request(IntEnum):
    """What the front-end, which is the VMM, may ask."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24
    SET_CONFIG = 25
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


class ProtocolFeature(IntFlag):
    """What both ends of this protocol can do; bits of a u64."""

    MQ = 1 << 0
    LOG_SHMFD = 1 << 1
    CONFIG = 1 << 9
    RESET_DEVICE = 1 << 13
    CONFIGURE_MEM_SLOTS = 1 << 15
    STATUS = 1 << 16


@dataclass(frozen=True, slots=True)
class Message:
    """A message from the front-end.

    Attributes:
        request: a `Request`, or a number that is none of them.
        payload: bytes, as the header says how many.
    """

    request: int
    payload: bytes = b""

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """Read what the payload begins with.

        Raises:
            VhostUserError: it is shorter.
        """
        if len(self.payload) < layout.size:
            raise VhostUserError(
                f"request {self.request} has {len(self.payload)} bytes"
            )
        return layout.unpack_from(self.payload)


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """A piece of the guest's RAM.

    Attributes:
        gpa: guest-physical address of its first byte.
        length: bytes.
        address: where the VMM has it mapped: addresses of rings are such.
        offset: first byte in its file.
    """

    gpa: int
    length: int
    address: int
    offset: int

    def encode(self) -> bytes:
        """Its bytes in a table."""
        return _REGION.pack(self.gpa, self.length, self.address, self.offset)


class Incoming:
    """Puts a message together from what is read.

    Fds come with the first bytes of their message, so no more is read at once than of one.
    """

    def __init__(self) -> None:
        """Nothing has come."""
        self._data = bytearray()
        self._needed = HEADER.size

    @property
    def wanted(self) -> int:
        """How many bytes to read, at most; never 0."""
        return self._needed - len(self._data)

    def feed(self, data: bytes) -> Message | None:
        """Take bytes that were read, `wanted` at most; return a message that is whole.

        Raises:
            VhostUserError: the header cannot be one.
        """
        self._data += data
        if self.wanted:
            return None
        request, flags, size = HEADER.unpack_from(self._data)
        if flags & VERSION_MASK != VERSION or flags & REPLY or size > MAX_PAYLOAD:
            raise VhostUserError(
                f"no message: request {request}, flags {flags:#x}, {size} bytes"
            )
        self._needed = HEADER.size + size
        if len(self._data) < self._needed:
            return None
        payload = bytes(self._data[HEADER.size :])
        self._data.clear()
        self._needed = HEADER.size
        return Message(request, payload)


def encode_reply(request: int, payload: bytes) -> bytes:
    """Write the back-end's answer to a request."""
    return HEADER.pack(request, VERSION | REPLY, len(payload)) + payload


def encode_request(message: Message) -> bytes:
    """Write a front-end's message, as a VMM would."""
    header = HEADER.pack(message.request, VERSION, len(message.payload))
    return header + message.payload


def parse_table(payload: bytes) -> tuple[MemoryRegion, ...]:
    """Read the payload of SET_MEM_TABLE: regions, in the order of their fds.

    Raises:
        VhostUserError: it is none.
    """
    if len(payload) < _TABLE.size:
        raise VhostUserError("a memory table without a length")
    (count, _) = _TABLE.unpack_from(payload)
    if count > BASELINE_REGIONS or len(payload) < _TABLE.size + count * _REGION.size:
        raise VhostUserError(
            f"a memory table of {count} regions in {len(payload)} bytes"
        )
    rest = payload[_TABLE.size :][: count * _REGION.size]
    return tuple(MemoryRegion(*fields) for fields in _REGION.iter_unpack(rest))


def encode_table(regions: tuple[MemoryRegion, ...]) -> bytes:
    """Write the payload of SET_MEM_TABLE."""
    return _TABLE.pack(len(regions), 0) + b"".join(each.encode() for each in regions)


def parse_single(payload: bytes) -> MemoryRegion:
    """Read the payload of ADD_MEM_REG or REM_MEM_REG.

    Raises:
        VhostUserError: it is none.
    """
    if len(payload) < _SINGLE.size + _REGION.size:
        raise VhostUserError(f"a memory region of {len(payload)} bytes")
    return MemoryRegion(*_REGION.unpack_from(payload, _SINGLE.size))


def encode_single(region: MemoryRegion) -> bytes:
    """Write the payload of ADD_MEM_REG or REM_MEM_REG."""
    return _SINGLE.pack(0) + region.encode()
