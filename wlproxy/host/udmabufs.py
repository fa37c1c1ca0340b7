"""Makes dma-bufs of the guest's pages, for the clients of one session.

The core decides which pages, and what for.  `client.buffers` knows whose a dma-buf is, and how
long it is kept; `desktop.udmabuf_device` asks the driver, and says what a refusal means.  Long
lists are for a thread, because the driver takes its time with each page.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from wlproxy.host.desktop.udmabuf_device import UdmabufDevice, UdmabufItem
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.relay.commands import CreateUdmabuf
from wlproxy.transport.fds import OwnedFd

SLOW_ITEMS: Final = 256
"""Longer lists are made in a thread: over 5 ms for thousands of items."""


class Udmabufs:
    """Makes dma-bufs.

    Attributes:
        device: /dev/udmabuf, or None.
    """

    def __init__(self, ram: GuestRam, device: UdmabufDevice | None) -> None:
        """Make them of pages of `ram`, if there is a `device`."""
        self.device = device
        self._files = ram.files

    @contextmanager
    def holding(self, command: CreateUdmabuf) -> Iterator[None]:
        """Keep the files open that a command names, while a thread works on it.

        What nobody waits for any more may be in RAM that was unplugged meanwhile.
        """
        named = {item.file for item in command.items} & self._files.keys()
        held = [self._files[each].hold() for each in named]
        try:
            yield
        finally:
            for each in held:
                each.release()

    def make(self, command: CreateUdmabuf) -> OwnedFd | HostError:
        """Make a dma-buf.  Blocks: if it is slow, for a thread."""
        if self.device is None:
            return HostError("no /dev/udmabuf", errno=errno.ENODEV)
        try:
            items = [
                UdmabufItem(self._files[item.file].fileno(), item.offset, item.length)
                for item in command.items
            ]
        except KeyError:
            return HostError("the RAM was unplugged", errno=errno.ENXIO)
        try:
            return self.device.create(items)
        except HostError as exc:
            return exc


def is_slow(command: CreateUdmabuf) -> bool:
    """Whether `make` takes longer than others are to wait."""
    return len(command.items) > SLOW_ITEMS
