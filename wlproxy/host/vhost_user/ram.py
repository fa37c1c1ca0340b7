"""The guest's RAM as the VMM has told it: regions, the files they are in, and their bytes.

Bytes are read and written by pread and pwrite, whose locks also keep the order in which the guest
sees them.  (A file of huge pages cannot be written so: there the disk does not answer.)
"""

import os
from collections.abc import Iterator

from wlproxy.host.vhost_user.messages import MemoryRegion, VhostUserError
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd


class Ram(Closing):
    """Regions and their files."""

    def __init__(self) -> None:
        """There is none."""
        self._regions: dict[MemoryRegion, OwnedFd] = {}

    def __iter__(self) -> Iterator[tuple[MemoryRegion, OwnedFd]]:
        """List regions and their files, which stay ours."""
        return iter(self._regions.items())

    def __len__(self) -> int:
        """How many regions there are."""
        return len(self._regions)

    def add(self, region: MemoryRegion, file: OwnedFd) -> None:
        """Add a region; the file is ours from now on.

        Raises:
            VhostUserError: there is such a region, or it is not in the file.
        """
        size = os.fstat(file.fileno()).st_size
        ends = (region.gpa + region.length, region.address + region.length)
        if region.offset + region.length > size or max(ends) > 1 << 64:
            file.close()
            raise VhostUserError(f"the region at {region.gpa:#x} is not in its file")
        if region in self._regions:
            file.close()
            raise VhostUserError(f"there is a region at {region.gpa:#x} already")
        self._regions[region] = file

    def remove(self, region: MemoryRegion) -> None:
        """Remove a region: the one of its address in the guest and in the VMM, and its size.

        Raises:
            VhostUserError: there is none.
        """
        # Its offset need not be told: vhost-user.rst, VHOST_USER_REM_MEM_REG.
        key = (region.gpa, region.length, region.address)
        for each in self._regions:
            if (each.gpa, each.length, each.address) == key:
                self._regions.pop(each).close()
                return
        raise VhostUserError(f"there is no region at {region.gpa:#x}")

    def close(self) -> None:
        """Forget all regions, and close their files."""
        while self._regions:
            self._regions.popitem()[1].close()

    def read_guest(self, gpa: int, length: int) -> bytes:
        """Read at a guest-physical address.

        Raises:
            VhostUserError: that is not RAM.
        """
        return self._read(*self._find(gpa, length, guest=True), length)

    def write_guest(self, gpa: int, data: bytes) -> None:
        """Write at a guest-physical address.

        Raises:
            VhostUserError: that is not RAM, or cannot be written.
        """
        self._write(*self._find(gpa, len(data), guest=True), data)

    def read(self, address: int, length: int) -> bytes:
        """Read at an address of the VMM's.

        Raises:
            VhostUserError: there is no RAM.
        """
        return self._read(*self._find(address, length, guest=False), length)

    def write(self, address: int, data: bytes) -> None:
        """Write at an address of the VMM's.

        Raises:
            VhostUserError: there is no RAM, or it cannot be written.
        """
        self._write(*self._find(address, len(data), guest=False), data)

    def _find(self, address: int, length: int, *, guest: bool) -> tuple[OwnedFd, int]:
        """Find the file that has so many bytes, and the offset of the first."""
        for region, file in self._regions.items():
            start = region.gpa if guest else region.address
            if start <= address and address + length <= start + region.length:
                return file, region.offset + address - start
        raise VhostUserError(f"no RAM has {length} bytes at {address:#x}")

    def _read(self, file: OwnedFd, offset: int, length: int) -> bytes:
        try:
            data = os.pread(file.fileno(), length, offset)
        except OSError as exc:
            raise VhostUserError(f"RAM cannot be read: {exc.strerror}") from exc
        if len(data) != length:
            raise VhostUserError(f"the file of the RAM ends before {offset:#x}")
        return data

    def _write(self, file: OwnedFd, offset: int, data: bytes) -> None:
        try:
            written = os.pwrite(file.fileno(), data, offset)
        except OSError as exc:
            raise VhostUserError(f"RAM cannot be written: {exc.strerror}") from exc
        if written != len(data):
            raise VhostUserError(f"the file of the RAM ends before {offset:#x}")
