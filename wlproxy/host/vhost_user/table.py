"""The table of a guest's RAM, as the tap sends it to the proxy: one packet with the files.

A packet (SOCK_SEQPACKET) is a head, then the regions; all numbers are little-endian::

    16 bytes  "wlproxy RAM 2", NULs     u32  the VMM's process id; 0: no VMM is there
    u32  number of regions              u32  number of regions that are left out, u32 0
    each: u64 guest address, u64 bytes, u64 offset, u32 file, u32 0

Its fds are the files, each once; a region says which of them it is in.  There is one packet when
somebody connects, and one whenever the table has changed.  Shared memory that no dma-buf can be made of
(ivshmem, an NVDIMM, RAM in a file) is left out, so that all other is used.  What is left is sealed files in
memory, which a proxy can close without waiting for anybody.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from wlproxy.host.desktop.udmabuf_device import seal_error
from wlproxy.host.errors import GuestRamError
from wlproxy.host.vhost_user.messages import MemoryRegion
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.memory.guest_memory import RamRegion
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd

MAX_FILES: Final = 253
"""The kernel's SCM_MAX_FD."""
MAX_PACKET: Final = 1 << 16
"""Bytes: more than 509 regions have."""

_MAGIC: Final = b"wlproxy RAM 2"
_HEAD: Final = struct.Struct("<16sIIII")
_REGION: Final = struct.Struct("<QQQII")


@dataclass(frozen=True, slots=True)
class Table(Closing):
    """A guest's RAM at one time.

    Attributes:
        pid: the VMM's process; 0: there is none.
        regions: where each is in the files.
        files: that back the RAM, each once.
        left_out: how many more regions there are, which cannot be used.
    """

    pid: int
    regions: tuple[RamRegion, ...]
    files: tuple[OwnedFd, ...]
    left_out: int = 0

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()


def identity(file: OwnedFd) -> tuple[int, int]:
    """Say which file an fd is of, whatever other fds are of it: device and inode."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


class LeftOut(NamedTuple):
    """A region that is in no packet, and why."""

    region: MemoryRegion
    why: str


class Packet(NamedTuple):
    """A table, ready to be sent.

    Attributes:
        data: its bytes.
        fds: to send with it, which stay the RAM's.
        left_out: what the VMM has told of, and cannot be used.
    """

    data: bytes
    fds: list[int]
    left_out: list[LeftOut]


def encode(pid: int, ram: Ram) -> Packet:
    """Write a packet.

    Raises:
        GuestRamError: there are more files than a packet can have.
    """
    indexes: dict[tuple[int, int], int] = {}
    packet = Packet(b"", [], [])
    regions: list[bytes] = []
    for region, file in ram:
        # Before anything else is asked of it: this asks the kernel only.
        if unsuitable := seal_error(file.fileno()):
            packet.left_out.append(LeftOut(region, unsuitable.explanation))
            continue
        index = indexes.setdefault(identity(file), len(indexes))
        if index == len(packet.fds):
            packet.fds.append(file.fileno())
        regions.append(_REGION.pack(region.gpa, region.length, region.offset, index, 0))
    if len(packet.fds) > MAX_FILES:
        raise GuestRamError(
            f"the guest's RAM is in {len(packet.fds)} files, over {MAX_FILES}"
        )
    head = _HEAD.pack(_MAGIC, pid, len(regions), len(packet.left_out), 0)
    return packet._replace(data=head + b"".join(regions))


def decode(data: bytes, files: Sequence[OwnedFd]) -> Table:
    """Read a packet; the files are the table's, or closed.

    Raises:
        GuestRamError: it is none.
    """
    try:
        pid, regions, left_out = _parse(data, len(files))
    except (struct.error, ValueError) as exc:
        for file in files:
            file.close()
        raise GuestRamError(
            f"what the RAM's tap sends is no table: {exc}",
            remedy="Is it `wlproxy ram-tap`, of the same version as this?",
        ) from exc
    return Table(pid, regions, tuple(files), left_out)


def _parse(data: bytes, files: int) -> tuple[int, tuple[RamRegion, ...], int]:
    magic, pid, count, left_out, _ = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic.rstrip(b"\0") != _MAGIC or len(body) != count * _REGION.size:
        raise ValueError("not of this version")
    regions = tuple(
        RamRegion(gpa, length, file, offset)
        for gpa, length, offset, file, _ in _REGION.iter_unpack(body)
    )
    if any(each.file >= files for each in regions):
        raise ValueError("a region without its file")
    return pid, regions, left_out
