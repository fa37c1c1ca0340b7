"""Apps of this machine as apps of the guest: what they draw into is shown in mode A, uncopied.

Each file that an app draws into is at a guest-physical address of its own, and what stands for
/dev/udmabuf there passes the file itself on.  A buffer must be at the start of its pool.
"""

import os
from collections.abc import Sequence

from tests.peers.app import Ram
from tests.peers.loopback import Loopback, RamLocator
from wlproxy.host.desktop.udmabuf_device import (
    UdmabufDevice,
    UdmabufItem,
    UdmabufLimits,
)
from wlproxy.memory.guest_memory import RamRegion
from wlproxy.protocol.channel.frames import Extent
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.page_locator import PinnedRange

START = 1 << 40
SPAN = 1 << 32
FILES = 1 << 10


class NativeFiles(RamLocator):
    """Knows the files, by address."""

    def __init__(self, ram: Ram) -> None:
        super().__init__(ram)
        self._places: dict[tuple[int, int], int] = {}
        self.files: dict[int, OwnedFd] = {}

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino
        if key not in self._places:
            assert len(self.files) < FILES
            self._places[key] = START + len(self.files) * SPAN
            self.files[self._places[key]] = OwnedFd(os.dup(fd))
        found = super().locate(fd, offset, length, 0)
        base = self._places[key]
        moved = [Extent(base + each.gpa, each.length) for each in found.extents]
        return PinnedRange(tuple(moved), found.pin, pinned=found.pinned)

    def close(self) -> None:
        for each in self.files.values():
            each.close()


class PassingDevice(UdmabufDevice):
    """Stands for /dev/udmabuf: passes the files on."""

    def __init__(self, known: NativeFiles) -> None:
        self._known = known

    def limits(self) -> UdmabufLimits:
        return UdmabufLimits(1 << 16, 1 << 32)

    def create(self, items: Sequence[UdmabufItem | tuple[int, int, int]]) -> OwnedFd:
        fd, offset, _length = items[0]
        if offset < START:  # the probe's
            return OwnedFd(os.dup(fd))
        base = offset // SPAN * SPAN
        file = self._known.files[base].fileno()
        if offset == base:
            return OwnedFd(os.dup(file))
        made = OwnedFd(os.memfd_create("udmabuf", os.MFD_CLOEXEC))  # as it is now
        for _fd, start, length in items:
            os.write(made.fileno(), os.pread(file, length, start - base))
        return made

    def close(self) -> None:
        """Nothing is open."""


def serve_native_apps(loopback: Loopback) -> tuple[PassingDevice, NativeFiles]:
    """Have a loopback that is not started yet serve apps of this machine.

    Returns:
        The device to start its proxy with, and what is to be closed at the end.
    """
    files = loopback.locator = NativeFiles(loopback.ram)
    loopback.more_ram = [RamRegion(START, FILES * SPAN, 0, START)]
    return PassingDevice(files), files
