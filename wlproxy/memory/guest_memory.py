"""Maps guest-physical addresses to bytes of the files that back the guest's RAM.

This is arithmetic over a map that the host shell found: no file is opened here.  The layouts
below are QEMU's, one for each machine type, taken from its sources.  They are only a first
guess, which the session proves with `ProveRam` before any pixel depends on it.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from wlproxy.protocol.channel.extents import PackedPairs, pairs
from wlproxy.protocol.channel.frames import Extent
from wlproxy.protocol.errors import LocalProtocolError, RemoteProtocolError

GIB: Final = 1 << 30
HOST_PAGE_SIZE: Final = 4096
"""Granularity of udmabuf items on x86; a host with larger pages passes its own."""
MAX_ADDRESS: Final = 1 << 64
FILE_BITS: Final = 8
"""Bits of a packed length that name its file: 256 files, and 64 PiB of RAM in one."""


class ExtentError(RemoteProtocolError):
    """The guest named memory that it does not have, or not as the protocol wants it."""


@dataclass(frozen=True, slots=True)
class RamItem:
    """A run of bytes in a file that backs guest RAM.

    Attributes:
        file: index of the file among those that back the guest's RAM.
        offset: first byte in that file.
        length: bytes.
    """

    file: int
    offset: int
    length: int


class RamItems(PackedPairs[RamItem]):
    """Runs of bytes in RAM files: `words` has the offset of each, then length and file."""

    __slots__ = ()

    def add(self, file: int, offset: int, length: int) -> None:
        """Append a run: see `RamItem`."""
        self.words.extend((offset, length << FILE_BITS | file))

    @property
    def files(self) -> set[int]:
        """The files that the runs are in."""
        return {word & (1 << FILE_BITS) - 1 for word in self.words[1::2]}

    @staticmethod
    def _item(first: int, second: int, /) -> RamItem:
        return RamItem(second & (1 << FILE_BITS) - 1, first, second >> FILE_BITS)

    @staticmethod
    def _numbers(item: RamItem) -> tuple[int, int]:
        return item.offset, item.length << FILE_BITS | item.file


@dataclass(frozen=True, slots=True)
class RamRegion:
    """A slot of guest RAM: where the guest sees it, and where it is in a file.

    Attributes:
        gpa: guest-physical address of its first byte.
        length: bytes.
        file: index of its file among those that back the guest's RAM.
        offset: first byte in that file.
    """

    gpa: int
    length: int
    file: int
    offset: int


class GuestMemory:
    """The map from guest-physical addresses to bytes of RAM files.

    Attributes:
        regions: by ascending guest-physical address.
    """

    __slots__ = ("_page_size", "_starts", "_what", "regions")

    def __init__(
        self,
        regions: Iterable[RamRegion],
        page_size: int = HOST_PAGE_SIZE,
        what: str = "RAM",
    ) -> None:
        """Check the map and keep it.

        Args:
            regions: in any order.
            page_size: a power of two; every extent must be aligned to it.
            what: an address has to be, in words.

        Raises:
            LocalProtocolError: regions overlap, are empty, unaligned, or end beyond
                the last address.
        """
        self._page_size = page_size
        self._what = what
        self.replace(regions)

    def replace(self, regions: Iterable[RamRegion]) -> None:
        """Have another map from now on; what was translated is as it was.

        Args:
            regions: in any order; a file has the index that it had.

        Raises:
            LocalProtocolError: as when the map was made; then it stays the one there was.
        """
        found = tuple(sorted(regions, key=attrgetter("gpa")))
        end = 0
        for region in found:
            _check_region(region, end, self._page_size)
            end = region.gpa + region.length
        self.regions = found
        self._starts = [region.gpa for region in found]

    @property
    def size(self) -> int:
        """Bytes of RAM in all regions."""
        return sum(region.length for region in self.regions)

    def translate(self, extents: Iterable[Extent]) -> RamItems:
        """Find the file bytes behind extents, in their order.

        Items that continue each other are merged; an extent that crosses from one
        region into an adjoining one is split where their files part.

        Raises:
            ExtentError: an extent is empty, unaligned, or partly outside RAM.
        """
        mask = self._page_size - 1
        items = RamItems()
        file, start, end = -1, 0, 0  # the item that is still growing
        low = high = ahead = within = 0  # the region that was looked up last
        for address, length in pairs(extents):
            if length <= 0 or (address | length) & mask:
                raise ExtentError(
                    f"{_words(address, length)} is empty or not whole pages"
                )
            gpa, left = address, length
            while left:
                if not low <= gpa < high:
                    region = self._region_at(gpa)
                    if region is None:
                        raise ExtentError(
                            f"{_words(address, length)} is not {self._what} at {gpa:#x}"
                        )
                    low, high = region.gpa, region.gpa + region.length
                    ahead, within = region.offset - region.gpa, region.file
                taken = min(left, high - gpa)
                offset = gpa + ahead
                if file == within and end == offset:
                    end += taken
                else:
                    if end:
                        items.add(file, start, end - start)
                    file, start, end = within, offset, offset + taken
                gpa += taken
                left -= taken
        if end:
            items.add(file, start, end - start)
        return items

    def _region_at(self, gpa: int) -> RamRegion | None:
        index = bisect_right(self._starts, gpa) - 1
        if index >= 0:
            region = self.regions[index]
            if gpa - region.gpa < region.length:
                return region
        return None


def q35_layout(ram_bytes: int) -> tuple[RamRegion, ...]:
    """RAM of QEMU's `q35`, one file (hw/i386/pc_q35.c, pc_q35_init).

    From 2.75 GiB of RAM on, 2 GiB of it are low and the rest starts at 4 GiB.
    `max-ram-below-4g` would change that.
    """
    return _pc_layout(ram_bytes, split_from=0xB0000000, low=0x80000000)


def i440fx_layout(ram_bytes: int) -> tuple[RamRegion, ...]:
    """RAM of QEMU's `pc`, one file (hw/i386/pc_piix.c, pc_init1).

    From 3.5 GiB of RAM on, 3 GiB of it are low and the rest starts at 4 GiB.
    Machine types of QEMU 1.7 and before, and `max-ram-below-4g`, differ.
    """
    return _pc_layout(ram_bytes, split_from=0xE0000000, low=0xC0000000)


def microvm_layout(ram_bytes: int) -> tuple[RamRegion, ...]:
    """RAM of QEMU's `microvm`, one file (hw/i386/microvm.c, microvm_memory_init).

    Over 3 GiB of RAM, 3 GiB of it are low and the rest starts at 4 GiB.
    """
    return _pc_layout(ram_bytes, split_from=0xC0000000, low=0xC0000000)


def arm_virt_layout(ram_bytes: int) -> tuple[RamRegion, ...]:
    """RAM of QEMU's Arm `virt`, one file (hw/arm/virt.c, VIRT_MEM in base_memmap).

    In one piece from 1 GiB.
    """
    return (RamRegion(gpa=GIB, length=ram_bytes, file=0, offset=0),)


def _pc_layout(ram_bytes: int, split_from: int, low: int) -> tuple[RamRegion, ...]:
    if ram_bytes < split_from or ram_bytes == low:
        return (RamRegion(gpa=0, length=ram_bytes, file=0, offset=0),)
    return (
        RamRegion(gpa=0, length=low, file=0, offset=0),
        RamRegion(gpa=4 * GIB, length=ram_bytes - low, file=0, offset=low),
    )


def _check_region(region: RamRegion, end: int, page_size: int) -> None:
    if region.gpa < end or region.length <= 0 or region.file < 0 or region.offset < 0:
        raise LocalProtocolError(f"{region} is empty, negative or overlaps another")
    if (region.gpa | region.length | region.offset) & (page_size - 1):
        raise LocalProtocolError(f"{region} is not whole pages of {page_size}")
    if region.file >> FILE_BITS or region.length >> 64 - FILE_BITS:
        raise LocalProtocolError(f"{region} is in too many files, or too long")
    if region.gpa + region.length > MAX_ADDRESS:
        raise LocalProtocolError(f"{region} ends beyond 64 bits")


def _words(gpa: int, length: int) -> str:
    return f"extent of {length:#x} bytes at {gpa:#x}"
