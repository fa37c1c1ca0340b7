"""Dma-bufs for tests of Wayland: the file that is the RAM stands for each of them.

No driver is involved, on neither side: what is proved here is who says what to whom.
"""

import mmap
import os
import struct
from collections.abc import Sequence
from typing import Any

from pywayland.protocol.linux_dmabuf_v1 import ZwpLinuxDmabufV1

from tests.peers.app import App
from wlproxy.host.desktop.udmabuf_device import (
    UdmabufDevice,
    UdmabufItem,
    UdmabufLimits,
)
from wlproxy.transport.fds import OwnedFd

DEVICE = 0xE280
XRGB, NV12 = 0x34325258, 0x3231564E


class CopyingDevice(UdmabufDevice):
    """Stands for /dev/udmabuf: what it makes has the contents that the pages had then."""

    def __init__(self) -> None:
        self.made = 0

    def limits(self) -> UdmabufLimits:
        return UdmabufLimits(1 << 16, 1 << 30)

    def create(self, items: Sequence[UdmabufItem | tuple[int, int, int]]) -> OwnedFd:
        made = OwnedFd(os.memfd_create("udmabuf", os.MFD_CLOEXEC))
        for fd, offset, length in items:
            os.write(made.fileno(), os.pread(fd, length, offset))
        self.made += 1
        return made

    def close(self) -> None:
        """Nothing is open."""


class Feedback:
    """What a feedback object said."""

    def __init__(self, app: App, proxy: Any) -> None:
        self.proxy = app.keep(proxy)
        self.done = 0
        self.table: list[tuple[int, int]] = []
        self.main_device = self.target = 0
        self.formats: list[int] = []
        self.flags = -1
        handlers = {
            "done": lambda _: self._done(),
            "format_table": self._format_table,
            "main_device": self._main_device,
            "tranche_target_device": self._target,
            "tranche_formats": self._formats,
            "tranche_flags": self._flags,
        }
        for event, handler in handlers.items():
            proxy.dispatcher[event] = handler

    def _done(self) -> None:
        self.done += 1

    def _format_table(self, _: object, fd: int, size: int) -> None:
        with mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ) as table:
            self.table = [
                (drm_format, modifier)
                for drm_format, _pad, modifier in struct.iter_unpack("=IIQ", table[:])
            ]
        os.close(fd)

    def _main_device(self, _: object, device: Any) -> None:
        (self.main_device,) = struct.unpack("=Q", bytes(device))

    def _target(self, _: object, device: Any) -> None:
        (self.target,) = struct.unpack("=Q", bytes(device))

    def _formats(self, _: object, indices: Any) -> None:
        packed = bytes(indices)
        self.formats = list(struct.unpack(f"={len(packed) // 2}H", packed))

    def _flags(self, _: object, flags: int) -> None:
        self.flags = flags


class DmabufCanvas:
    """Planes in the RAM, and the buffer that is made of them."""

    def __init__(
        self,
        app: App,
        size: tuple[int, int],
        drm_format: int = XRGB,
        stride: int = 0,
        modifier: int = 0,
    ) -> None:
        self.app = app
        self.width, self.height = size
        self.drm_format = drm_format
        self.stride = stride or size[0] * (4 if drm_format == XRGB else 1)
        rows = [size[1]] if drm_format == XRGB else [size[1], -(-size[1] // 2)]
        self.length = self.stride * sum(rows)
        start = app.ram.take(self.length)
        self.offsets = [start + self.stride * sum(rows[:n]) for n in range(len(rows))]
        self.answers: list[Any] = []
        self.buffer: Any = None
        self.released = 0
        self.params = app.keep(app.bind(ZwpLinuxDmabufV1).create_params())
        self.params.dispatcher["created"] = self._created
        self.params.dispatcher["failed"] = self._failed
        for index, offset in enumerate(self.offsets):
            halves = modifier >> 32, modifier & 0xFFFFFFFF
            self.params.add(app.ram.fd, index, offset, self.stride, *halves)

    @property
    def dead(self) -> bool:
        return "failed" in self.answers

    async def create(self) -> "DmabufCanvas":
        """Ask for the buffer, and wait for an answer."""
        self.params.create(self.width, self.height, self.drm_format, 0)
        await self.app.until(lambda: self.answers)
        return self

    def create_immed(self) -> "DmabufCanvas":
        """Have the buffer at once."""
        size = (self.width, self.height)
        self._take(self.params.create_immed(*size, self.drm_format, 0))
        return self

    def draw(self, seed: int) -> bytes:
        """Fill all planes."""
        block = bytes((seed * 31 + i * 7 + (i >> 8) * 13) & 0xFF for i in range(4099))
        pixels = (block * (self.length // len(block) + 1))[: self.length]
        self.app.ram.write(self.offsets[0], pixels)
        return pixels

    async def show(self, surface: Any) -> None:
        """Attach, commit, and wait until the compositor has seen it."""
        surface.attach(self.buffer, 0, 0)
        surface.damage_buffer(0, 0, self.width, self.height)
        surface.commit()
        await self.app.roundtrip()

    def _created(self, _: object, buffer: Any) -> None:
        buffer._display = self.app.display
        self.answers.append("created")
        self._take(buffer)

    def _failed(self, _: object) -> None:
        self.answers.append("failed")

    def _take(self, buffer: Any) -> None:
        self.buffer = self.app.keep(buffer)
        buffer.dispatcher["release"] = self._release

    def _release(self, _: object) -> None:
        self.released += 1
