"""Dma-bufs of the guest's pages, for the clients of one session.

Which pages, and what for, is the core's to say; here is what makes them, and how many there
are.  Long lists are for a thread: the driver takes its time with each page.
"""

import errno
from typing import Final

from wlproxy.host.desktop.udmabuf import UdmabufDevice, UdmabufItem
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.report.metrics import Metrics
from wlproxy.relay.commands import CreateUdmabuf
from wlproxy.transport.fds import OwnedFd

SLOW_ITEMS: Final = 256
"""Longer lists are made in a thread: over 5 ms for thousands of items."""


class Udmabufs:
    """Makes dma-bufs, and counts them."""

    def __init__(
        self, ram: GuestRam, device: UdmabufDevice | None, metrics: Metrics
    ) -> None:
        """Nothing is made yet.

        Args:
            ram: the guest's.
            device: /dev/udmabuf, or None.
            metrics: counted into.
        """
        self.device = device
        self._ram = ram
        self._metrics = metrics

    def make(self, command: CreateUdmabuf) -> OwnedFd | HostError:
        """Make a dma-buf.  Blocks: if it is slow, for a thread."""
        if self.device is None:
            return HostError("no /dev/udmabuf", errno=errno.ENODEV)
        files = self._ram.files
        items = [
            UdmabufItem(files[item.file].fileno(), item.offset, item.length)
            for item in command.items
        ]
        try:
            return self.device.create(items)
        except HostError as exc:
            return exc

    def count(self, made: OwnedFd | HostError) -> None:
        """Count what `make` returned."""
        if isinstance(made, HostError):
            self._metrics.udmabufs_failed += 1
        else:
            self._metrics.udmabufs_created += 1

    def count_alive(self, change: int) -> None:
        """Count those that a client has: one more, or so many less."""
        self._metrics.udmabufs_alive += change


def is_slow(command: CreateUdmabuf) -> bool:
    """Whether `make` takes longer than others are to wait."""
    return len(command.items) > SLOW_ITEMS
