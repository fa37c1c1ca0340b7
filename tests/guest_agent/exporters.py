"""Real dma-bufs from this kernel's exporters, and fences on them: for tests in the lab."""

import fcntl
import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PAGE = mmap.PAGESIZE
F_ADD_SEALS = 1033
F_SEAL_SHRINK = 2

_CREATE_DUMB = 0xC02064B2, struct.Struct("=IIIIIIQ")
"""height, width, bpp, flags, handle (out), pitch (out), size (out)."""
_HANDLE_TO_FD = 0xC00C642D, struct.Struct("=IIi")
"""handle, flags, fd (out)."""
_FENCE_ATTACH = 0xC0106441, struct.Struct("=IIII")
"""handle, flags, fence (out), padding."""
_FENCE_SIGNAL = 0x40086442, struct.Struct("=II")
"""fence, flags."""
_UDMABUF_CREATE = 0x40187542, struct.Struct("=IIQQ")
"""memfd, flags, offset, size."""
_HEAP_ALLOC = 0xC0184800, struct.Struct("=QIIQ")
"""length, fd (out), flags of the fd, flags of the heap."""
_FENCE_WRITE = 1


class MissingExporterError(Exception):
    """This kernel does not have it; the message says what."""


def _call(fd: int, request: tuple[int, struct.Struct], *fields: int) -> tuple[int, ...]:
    number, layout = request
    argument = bytearray(layout.pack(*fields))
    fcntl.ioctl(fd, number, argument)
    return layout.unpack(argument)


class DrmCard:
    """A primary node, and the dumb buffers that it makes."""

    def __init__(self, driver: str) -> None:
        # vgem has no hardware that udev would load it for.
        with suppress(FileNotFoundError):
            subprocess.run(["modprobe", "-q", driver], check=False)
        for path in sorted(Path("/sys/class/drm").glob("card?")):
            drivers = [path, *(path / "device").glob("virtio*/driver")]
            if any(driver in str(each.resolve()) for each in drivers):
                self.fd = os.open(f"/dev/dri/{path.name}", os.O_RDWR | os.O_CLOEXEC)
                return
        raise MissingExporterError(f"no DRM device of {driver}")

    def close(self) -> None:
        os.close(self.fd)

    def create(self, pages: int) -> tuple[int, int]:
        """Make a buffer; return its handle and a dma-buf of it."""
        *_, handle, _, size = _call(self.fd, _CREATE_DUMB, pages, 1024, 32, 0, 0, 0, 0)
        assert size == pages * PAGE
        flags = os.O_RDWR | os.O_CLOEXEC
        _, _, dmabuf = _call(self.fd, _HANDLE_TO_FD, handle, flags, -1)
        return handle, dmabuf

    def begin_write(self, handle: int) -> int:
        """Attach a fence, as a GPU does that begins to draw (vgem only)."""
        return _call(self.fd, _FENCE_ATTACH, handle, _FENCE_WRITE, 0, 0)[2]

    def end_write(self, fence: int) -> None:
        """Signal it: what was to be drawn is."""
        _call(self.fd, _FENCE_SIGNAL, fence, 0)


def make_udmabuf(memfd: int, offset: int, size: int) -> int:
    """Make a dma-buf of a memfd's pages."""
    fcntl.fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)
    try:
        device = os.open("/dev/udmabuf", os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise MissingExporterError(str(exc)) from exc
    try:
        number, layout = _UDMABUF_CREATE
        request = bytearray(layout.pack(memfd, 1, offset, size))
        return int(fcntl.ioctl(device, number, request))
    finally:
        os.close(device)


@contextmanager
def dmabuf_of(kind: str, pages: int) -> Iterator[int]:
    """Make a dma-buf by the exporter of that name."""
    if kind == "udmabuf":
        memfd = os.memfd_create("pages", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memfd, pages * PAGE)
        try:
            fd = make_udmabuf(memfd, 0, pages * PAGE)
        finally:
            os.close(memfd)
    elif kind == "dma-heap":
        fd = _from_heap(pages)
    else:
        card = DrmCard(kind)
        try:
            _, fd = card.create(pages)
        finally:
            card.close()
    try:
        yield fd
    finally:
        os.close(fd)


def _from_heap(pages: int) -> int:
    try:
        heap = os.open("/dev/dma_heap/system", os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise MissingExporterError(str(exc)) from exc
    try:
        flags = os.O_RDWR | os.O_CLOEXEC
        return _call(heap, _HEAP_ALLOC, pages * PAGE, 0, flags, 0)[1]
    finally:
        os.close(heap)
