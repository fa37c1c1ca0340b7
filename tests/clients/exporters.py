"""Dma-bufs as apps get them: DRM dumb buffers, dma-heaps, udmabuf; and fences on them.

Plain ioctls of the kernel's uapi headers, no library: it runs in the guest as well.
"""

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
F_ADD_SEALS = 1033
F_SEAL_SHRINK = 2
FENCE_WRITE = 1

Ioctl = tuple[int, struct.Struct]

CREATE_DUMB: Ioctl = 0xC02064B2, struct.Struct("=IIIIIIQ")
"""height, width, bits per pixel, flags, handle (out), pitch (out), size (out)."""
MAP_DUMB: Ioctl = 0xC01064B3, struct.Struct("=IIQ")
"""handle, padding, offset (out)."""
DESTROY_DUMB: Ioctl = 0xC00464B4, struct.Struct("=I")
"""handle."""
HANDLE_TO_FD: Ioctl = 0xC00C642D, struct.Struct("=IIi")
"""handle, flags, fd (out)."""
FENCE_ATTACH: Ioctl = 0xC0106441, struct.Struct("=IIII")
"""vgem: handle, flags, fence (out), padding."""
FENCE_SIGNAL: Ioctl = 0x40086442, struct.Struct("=II")
"""vgem: fence, flags."""
UDMABUF_CREATE: Ioctl = 0x40187542, struct.Struct("=IIQQ")
"""memfd, flags, offset, size; returns the fd."""
HEAP_ALLOC: Ioctl = 0xC0184800, struct.Struct("=QIIQ")
"""length, fd (out), flags of the fd, flags of the heap."""

NEW_FD = os.O_RDWR | os.O_CLOEXEC


def call(fd: int, request: Ioctl, *fields: int) -> tuple[int, ...]:
    """Make an ioctl; returns its structure as the kernel left it."""
    number, layout = request
    argument = bytearray(layout.pack(*fields))
    fcntl.ioctl(fd, number, argument)
    return layout.unpack(argument)


class DrmCard:
    """A primary node, and the dumb buffers that it makes."""

    def __init__(self, driver: str) -> None:
        self.fd = os.open(_card_of(driver), NEW_FD)

    def create(self, width: int, height: int, bits: int) -> tuple[int, int, int]:
        """Make a dumb buffer; returns its handle, pitch and size."""
        made = call(self.fd, CREATE_DUMB, height, width, bits, 0, 0, 0, 0)
        *_, handle, pitch, size = made
        return handle, pitch, size

    def export(self, handle: int) -> int:
        """Make a dma-buf of a buffer."""
        return call(self.fd, HANDLE_TO_FD, handle, NEW_FD, -1)[2]

    def map(self, handle: int, size: int) -> mmap.mmap:
        """Map a buffer for drawing."""
        _, _, offset = call(self.fd, MAP_DUMB, handle, 0, 0)
        return mmap.mmap(self.fd, size, offset=offset)

    def destroy(self, handle: int) -> None:
        """Let go of a buffer."""
        call(self.fd, DESTROY_DUMB, handle)

    def begin_write(self, handle: int) -> int:
        """Attach a fence, as a GPU does that begins to draw (vgem only)."""
        return call(self.fd, FENCE_ATTACH, handle, FENCE_WRITE, 0, 0)[2]

    def end_write(self, fence: int) -> None:
        """Signal it: what was to be drawn is."""
        call(self.fd, FENCE_SIGNAL, fence, 0)


def _card_of(driver: str) -> str:
    """Find the primary node of a driver.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in sorted(Path("/sys/class/drm").glob("card?")):
        drivers = [path, *(path / "device").glob("virtio*/driver")]
        if any(driver in str(each.resolve()) for each in drivers):
            return f"/dev/dri/{path.name}"
    raise FileNotFoundError(f"no DRM device of {driver}")


@dataclass(slots=True)
class Allocation:
    """Memory that can be drawn into, and the dma-buf of it.

    Attributes:
        fd: the dma-buf.
        pitch: bytes per row, as the exporter wants it.
        size: bytes.
        memory: our mapping.
        card: what made it, if it is a dumb buffer.
        handle: what the card calls it.
    """

    fd: int
    pitch: int
    size: int
    memory: mmap.mmap
    card: DrmCard | None = None
    handle: int = 0

    def free(self) -> None:
        """Let go of all of it."""
        self.memory.close()
        os.close(self.fd)
        if self.card is not None:
            self.card.destroy(self.handle)


class Exporters:
    """Whatever this kernel has, by name: a DRM driver's, "dma-heap" or "udmabuf"."""

    def __init__(self) -> None:
        self._cards: dict[str, DrmCard] = {}

    def close(self) -> None:
        """Close the cards; their buffers live on in what was exported."""
        for card in self._cards.values():
            os.close(card.fd)
        self._cards.clear()

    def allocate(self, exporter: str, width: int, height: int, bits: int) -> Allocation:
        """Allocate memory for rows of pixels.

        Raises:
            OSError: there is no such exporter, or it cannot.
        """
        if exporter in ("udmabuf", "dma-heap"):
            pitch = (width * bits + 7) // 8
            size = -(-pitch * height // PAGE) * PAGE
            fd = _udmabuf(size) if exporter == "udmabuf" else _from_heap(size)
            return Allocation(fd, pitch, size, mmap.mmap(fd, size))
        card = self._cards.get(exporter)
        if card is None:
            card = self._cards[exporter] = DrmCard(exporter)
        handle, pitch, size = card.create(width, height, bits)
        fd, memory = card.export(handle), card.map(handle, size)
        return Allocation(fd, pitch, size, memory, card, handle)


def make_udmabuf(memfd: int, offset: int, size: int) -> int:
    """Make a dma-buf of a range of a memfd; forbids it to shrink."""
    fcntl.fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)
    device = os.open("/dev/udmabuf", NEW_FD)
    try:
        number, layout = UDMABUF_CREATE
        request = bytearray(layout.pack(memfd, 1, offset, size))
        return int(fcntl.ioctl(device, number, request))
    finally:
        os.close(device)


def _udmabuf(size: int) -> int:
    memfd = os.memfd_create("pages", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memfd, size)
        return make_udmabuf(memfd, 0, size)
    finally:
        os.close(memfd)


def _from_heap(size: int) -> int:
    heap = os.open("/dev/dma_heap/system", NEW_FD)
    try:
        return call(heap, HEAP_ALLOC, size, 0, NEW_FD, 0)[1]
    finally:
        os.close(heap)
