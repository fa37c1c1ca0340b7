"""Pages of a VM whose RAM is files: udmabuf makes dma-bufs of them, for the clients of a session.

The core decides which pages, and what for.  `client.buffers` knows whose a dma-buf is, and how
long it is kept; `desktop.udmabuf_device` asks the driver, and says what a refusal means; `ram`
knows the files.  Long lists are for a thread, because the driver takes its time with each page.
"""

import errno
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from wlproxy.host.desktop.udmabuf_device import UdmabufDevice, UdmabufItem
from wlproxy.host.errors import HostError
from wlproxy.host.pages import PageSource, PageUser, Views, Vmm
from wlproxy.host.qemu.discovery import name_vmm
from wlproxy.host.qemu.following import follow_ram
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.report.vm_log import VmLog
from wlproxy.memory.guest_memory import GuestMemory, RamItem
from wlproxy.protocol.channel.frames import Feature, HelloAck
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.transport.fds import OwnedFd

SLOW_ITEMS: Final = 256
"""Longer lists are made in a thread: over 5 ms for thousands of items."""


class RamPages(PageSource):
    """Makes dma-bufs of pages of RAM files."""

    features = Feature.NONE

    def __init__(
        self,
        ram: GuestRam,
        device: Callable[[], UdmabufDevice | None],
        tap: Path | None = None,
    ) -> None:
        """Make them of pages of `ram`.

        Args:
            ram: whose pages; it is owned from now on.
            device: /dev/udmabuf as it is when one is to be made; None: there is none.
            tap: where it is told that the RAM has changed; None: it stays as it is.
        """
        self._ram = ram
        self._files = ram.files
        self._device = device
        self._tap = tap

    @property
    def memory(self) -> GuestMemory:
        """See `PageSource`."""
        return self._ram.memory

    @property
    def vmm(self) -> Vmm:
        """See `PageSource`."""
        return name_vmm(self._ram.pid)

    def __str__(self) -> str:
        return f"{self.memory.size >> 20} MiB, map {self._ram.layout}"

    def abilities(self, desktop: CompositorCapabilities) -> CompositorCapabilities:
        """See `PageSource`: the probe has tried just this."""
        return desktop

    def expect(self, agent: HelloAck) -> None:
        """See `PageSource`: any agent will do."""

    async def verify(self, address: int, token: bytes) -> None:
        """See `PageSource`: 32 bytes of a file, which take no time."""
        await trio.lowlevel.checkpoint()
        self._ram.verify(address, token)

    async def try_out(self, compositor: Path) -> None:
        """See `PageSource`: the probe has, before there was a guest."""
        await trio.lowlevel.checkpoint()

    def is_slow(self, items: Sequence[RamItem]) -> bool:
        """See `PageSource`."""
        return len(items) > SLOW_ITEMS

    @contextmanager
    def holding(self, items: Sequence[RamItem]) -> Iterator[None]:
        """See `PageSource`.

        What nobody waits for any more may be in RAM that was unplugged meanwhile.
        """
        named = {item.file for item in items} & self._files.keys()
        held = [self._files[each].hold() for each in named]
        try:
            yield
        finally:
            for each in held:
                each.release()

    def make(self, items: Sequence[RamItem]) -> OwnedFd | HostError:
        """See `PageSource`."""
        device = self._device()
        if device is None:
            return HostError("no /dev/udmabuf", errno=errno.ENODEV)
        try:
            runs = [
                UdmabufItem(self._files[item.file].fileno(), item.offset, item.length)
                for item in items
            ]
        except KeyError:
            return HostError("the RAM was unplugged", errno=errno.ENXIO)
        try:
            return device.create(runs)
        except HostError as exc:
            return exc

    def views(self) -> "RamViews":
        """See `PageSource`."""
        return RamViews(self._ram.map)

    async def follow(self, log: VmLog, user: Callable[[], PageUser | None]) -> None:
        """See `PageSource`."""
        if self._tap is not None:
            await follow_ram(self._tap, self._ram, log, user)

    def close(self) -> None:
        """See `PageSource`."""
        self._ram.close()


class RamViews(Views):
    """RAM files as bytes: each is mapped when something in it is first needed."""

    __slots__ = ("_files", "_map_file")

    slow = False
    """And a file may be another one later."""

    def __init__(self, map_file: Callable[[int], mmap.mmap]) -> None:
        """Nothing is mapped yet.

        Args:
            map_file: maps a RAM file by its index; `GuestRam.map`.
        """
        self._map_file = map_file
        self._files: dict[int, memoryview] = {}

    def view(
        self, items: Sequence[RamItem]
    ) -> tuple[Sequence[RamItem], Mapping[int, memoryview]]:
        """See `Views`.

        Raises:
            GuestRamError: the RAM cannot be mapped.
        """
        return items, {file: self._file(file) for file in {i.file for i in items}}

    def close(self) -> None:
        """See `Views`."""
        self._files.clear()

    def _file(self, index: int) -> memoryview:
        if index not in self._files:
            self._files[index] = memoryview(self._map_file(index))
        return self._files[index]
