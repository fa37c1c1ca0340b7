"""The table of a guest's RAM, as the tap sends it to the proxy: one packet with the files.

A packet (SOCK_SEQPACKET) is a head, then the regions; all numbers are little-endian::

    16 bytes  "wlproxy RAM 1", NULs     u32  the VMM's process id; 0: no VMM is there
    u32  number of regions              each: u64 guest address, u64 bytes, u64 offset, u32 file, u32 0

Its fds are the files, each once; a region says which of them it is in.  There is one packet when
somebody connects, and one whenever the table has changed.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wlproxy.host.errors import GuestRamError
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.memory.guest_memory import RamRegion
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd

MAX_FILES: Final = 253
"""The kernel's SCM_MAX_FD."""
MAX_PACKET: Final = 1 << 16
"""Bytes: more than 509 regions have."""

_MAGIC: Final = b"wlproxy RAM 1"
_HEAD: Final = struct.Struct("<16sII")
_REGION: Final = struct.Struct("<QQQII")


@dataclass(frozen=True, slots=True)
class Table(Closing):
    """A guest's RAM at one time.

    Attributes:
        pid: the VMM's process; 0: there is none.
        regions: where each is in the files.
        files: that back the RAM, each once.
    """

    pid: int
    regions: tuple[RamRegion, ...]
    files: tuple[OwnedFd, ...]

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()


def identity(file: OwnedFd) -> tuple[int, int]:
    """Say which file an fd is of, whatever other fds are of it: device and inode."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def encode(pid: int, ram: Ram) -> tuple[bytes, list[int]]:
    """Write a packet; return it, and the fds to send with it, which stay `ram`'s.

    Raises:
        GuestRamError: there are more files than a packet can have.
    """
    indexes: dict[tuple[int, int], int] = {}
    fds: list[int] = []
    regions = b""
    for region, file in ram:
        index = indexes.setdefault(identity(file), len(indexes))
        if index == len(fds):
            fds.append(file.fileno())
        regions += _REGION.pack(region.gpa, region.length, region.offset, index, 0)
    if len(fds) > MAX_FILES:
        raise GuestRamError(f"the guest's RAM is in {len(fds)} files, over {MAX_FILES}")
    return _HEAD.pack(_MAGIC, pid, len(ram)) + regions, fds


def decode(data: bytes, files: Sequence[OwnedFd]) -> Table:
    """Read a packet; the files are the table's, or closed.

    Raises:
        GuestRamError: it is none.
    """
    try:
        pid, regions = _parse(data, len(files))
    except (struct.error, ValueError) as exc:
        for file in files:
            file.close()
        raise GuestRamError(
            f"what the RAM's tap sends is no table: {exc}",
            remedy="Is it `wlproxy ram-tap`, of the same version as this?",
        ) from exc
    return Table(pid, regions, tuple(files))


def _parse(data: bytes, files: int) -> tuple[int, tuple[RamRegion, ...]]:
    magic, pid, count = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic.rstrip(b"\0") != _MAGIC or len(body) != count * _REGION.size:
        raise ValueError("not of this version")
    regions = tuple(
        RamRegion(gpa, length, file, offset)
        for gpa, length, offset, file, _ in _REGION.iter_unpack(body)
    )
    if any(each.file >= files for each in regions):
        raise ValueError("a region without its file")
    return pid, regions
