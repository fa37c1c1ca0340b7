"""The guest's RAM as the VMM has told it: regions, the files they are in, and their bytes.

Bytes are read by pread, and written through a mapping, since files of huge pages have no pwrite.  It is
the kernel that writes into the mapping (preadv): where a VMM has cut the file off meanwhile, that is an
error, and no SIGBUS.  The locks on the way also keep the order in which the guest sees what is written.
"""

import mmap
import os
import stat
from collections.abc import Iterator

from wlproxy.host.vhost_user.messages import MemoryRegion, VhostUserError
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd


class Ram(Closing):
    """Regions and their files."""

    def __init__(self) -> None:
        """There is none."""
        self._regions: dict[MemoryRegion, OwnedFd] = {}
        self._mapped: dict[MemoryRegion, mmap.mmap] = {}
        self._scratch: OwnedFd | None = None

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
        status = os.fstat(file.fileno())
        end = region.offset + region.length
        # Devices (an NVDIMM may be one) do not tell how large they are.
        inside = end <= status.st_size or not stat.S_ISREG(status.st_mode)
        ends = (end, region.gpa + region.length, region.address + region.length)
        if not inside or max(ends) > 1 << 64:
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
                self._forget(each)
                return
        raise VhostUserError(f"there is no region at {region.gpa:#x}")

    def close(self) -> None:
        """Forget all regions, and close their files."""
        for each in tuple(self._regions):
            self._forget(each)
        if self._scratch is not None:
            self._scratch.close()
        self._scratch = None

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

    def _forget(self, region: MemoryRegion) -> None:
        self._regions.pop(region).close()
        mapped = self._mapped.pop(region, None)
        if mapped is not None:
            mapped.close()

    def _find(
        self, address: int, length: int, *, guest: bool
    ) -> tuple[MemoryRegion, int]:
        """Find the region that has so many bytes, and the offset of the first in its file."""
        for region in self._regions:
            start = region.gpa if guest else region.address
            if start <= address and address + length <= start + region.length:
                return region, region.offset + address - start
        raise VhostUserError(f"no RAM has {length} bytes at {address:#x}")

    def _read(self, region: MemoryRegion, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._regions[region].fileno(), length, offset)
        except OSError as exc:
            raise VhostUserError(f"RAM cannot be read: {exc.strerror}") from exc
        if len(data) != length:
            raise VhostUserError(f"the file of the RAM ends before {offset:#x}")
        return data

    def _write(self, region: MemoryRegion, offset: int, data: bytes) -> None:
        try:
            scratch = self._scratch_with(data)
            mapped = self._map(region)
            end = offset + len(data)
            with memoryview(mapped) as whole, whole[offset:end] as part:
                written = os.preadv(scratch.fileno(), [part], 0)
        except (OSError, ValueError) as exc:
            raise VhostUserError(f"RAM cannot be written: {exc}") from exc
        if written != len(data):
            raise VhostUserError(f"the file of the RAM ends before {offset:#x}")

    def _scratch_with(self, data: bytes) -> OwnedFd:
        """Have bytes in a file, from which the kernel copies them."""
        if self._scratch is None:
            self._scratch = OwnedFd(os.memfd_create("wlproxy-tap", os.MFD_CLOEXEC))
        os.pwrite(self._scratch.fileno(), data, 0)
        return self._scratch

    def _map(self, region: MemoryRegion) -> mmap.mmap:
        """Map the region's file: all of it, since parts of huge pages cannot be."""
        if region not in self._mapped:
            fd = self._regions[region].fileno()
            self._mapped[region] = mmap.mmap(fd, 0, mmap.MAP_SHARED)
        return self._mapped[region]
