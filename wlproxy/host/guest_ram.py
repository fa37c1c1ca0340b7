"""The guest's RAM: found in QEMU's process, checked, read.

Finds the memfds that QEMU backs the guest's RAM with, and the map from guest-physical
addresses to them.  That the map is right is not believed here but proved by the session
(`verify`).  The only place that reads guest memory.
"""

import mmap
import socket
from dataclasses import dataclass
from pathlib import Path

from wlproxy.host.fds import OwnedFd
from wlproxy.memory.guest import GuestMemory


def peer_pid(channel: socket.socket) -> int:
    """Ask who listens at the other end of a channel: QEMU, if it made the socket itself.

    Raises:
        GuestRamUnreadableError: the kernel does not say.
    """
    raise NotImplementedError


def open_guest_ram(pid: int, qmp: Path | None = None) -> "GuestRam":
    """Find, open and check the RAM of the guest that QEMU process `pid` runs.

    Args:
        pid: QEMU's process, from `peer_pid` or `--qemu-pid`.
        qmp: QEMU's monitor socket, which knows the map of any machine.

    Raises:
        GuestRamError: or a subclass, with the remedy.
        QmpError: the monitor was named but does not answer.
    """
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class GuestRam:
    """RAM files of a guest and the map of them.

    Attributes:
        pid: QEMU's process.
        files: the memfds, open for reading and writing as udmabuf wants them;
            `RamItem.region` and `RamRegion.file` are indexes into this.
        memory: the map.
        layout: where the map is from, for people.
    """

    pid: int
    files: tuple[OwnedFd, ...]
    memory: GuestMemory
    layout: str

    def read(self, gpa: int, length: int) -> bytes:
        """Read guest memory.

        Raises:
            ExtentError: the range is not in RAM.
            GuestRamError: the file could not be read.
        """
        raise NotImplementedError

    def verify(self, gpa: int, token: bytes) -> None:
        """Check that `token` is at `gpa`.

        Raises:
            ExtentError: `gpa` is not in RAM.
            GuestRamWrongMapError: something else is there.
        """
        raise NotImplementedError

    def map(self, file: int) -> mmap.mmap:
        """Map a whole RAM file, shared and read-only.  The caller closes it.

        Raises:
            GuestRamError: it cannot be mapped.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the files.  Again: nothing happens."""
        raise NotImplementedError
