"""The app of the benchmark: raw Wayland, with nothing in it that could be the limit.

It runs in the benchmark's own process.  A frame is one message to the kernel, and its pixels
are set by memset; what it takes for that, it takes through any peer.
"""

import ctypes
import mmap
import os
from typing import Final

from tests.clients.floods import window
from tests.clients.wire import DISPLAY, Connection, encode
from wlproxy.transport.closable import Closing

XRGB8888: Final = 1
PIXEL: Final = 4
PATIENCE: Final = 60.0
"""Seconds for an answer: of waypipe, too, with a flood before it."""


class Canvas:
    """A buffer, alone in its pool and file.

    Attributes:
        buffer: its wl_buffer.
    """

    def __init__(self, wire: Connection, shm: int, width: int, height: int) -> None:
        """Make it; its pages come with the first `fill`."""
        self._wire = wire
        self._stride = width * PIXEL
        self._size = self._stride * height
        fd = os.memfd_create("bench", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, self._size)
            self._map = mmap.mmap(fd, self._size)
            self._pool, self.buffer = wire.new(), wire.new()
            wire.send(shm, 0, "ui", self._pool, self._size, fds=[fd])
        finally:
            os.close(fd)
        shape = (self.buffer, 0, width, height, self._stride, XRGB8888)
        wire.send(self._pool, 0, "uiiiiu", *shape)
        self._pixels = (ctypes.c_char * self._size).from_buffer(self._map)
        self._address = ctypes.addressof(self._pixels)

    def fill(self, value: int) -> None:
        """Set every byte."""
        ctypes.memset(self._address, value & 0xFF, self._size)

    def fill_square(self, x: int, y: int, side: int, value: int) -> None:
        """Set every byte of a square."""
        for row in range(y, y + side):
            start = self._address + row * self._stride + x * PIXEL
            ctypes.memset(start, value & 0xFF, side * PIXEL)

    def destroy(self) -> None:
        """Destroy buffer and pool, and unmap the file."""
        self._wire.send_raw(encode(self.buffer, 0, "") + encode(self._pool, 1, ""))
        del self._pixels  # or else the mapping may not be closed
        self._map.close()


class App(Closing):
    """A client with a window, which the compositor has configured.

    Attributes:
        wire: its connection.
        shm: the wl_shm.
        surface: the window's wl_surface.
        region: a wl_region, empty.
    """

    def __init__(self, display: str) -> None:
        """Connect, and wait for the window.

        Raises:
            OSError: nobody listens there.
        """
        self.wire = wire = Connection(display)
        self.shm = wire.bind("wl_shm", 1)
        self._compositor = compositor = wire.bind("wl_compositor", 4)
        self.region = wire.new()
        wire.send(compositor, 1, "u", self.region)
        self.surface = window(wire)

    def close(self) -> None:
        """Leave."""
        self.wire.close()

    def frame(self, canvas: Canvas, damage: tuple[int, int, int, int]) -> None:
        """Show what is in a canvas, and wait until the next frame may be drawn.

        Attach, damage, frame and commit in one; then done and delete_id.
        """
        self.end_frame(self.begin_frame(canvas, damage))

    def begin_frame(self, canvas: Canvas, damage: tuple[int, int, int, int]) -> int:
        """Show what is in a canvas; return the callback, for `end_frame`."""
        callback = self.wire.new()
        self.wire.send_raw(
            self._attach(canvas, damage)
            + encode(self.surface, 3, "u", callback)
            + encode(self.surface, 6, "")
        )
        return callback

    def end_frame(self, callback: int) -> None:
        """Wait for a callback's delete_id, which follows its done."""
        self.wire.wait(lambda: not self.wire.in_use(callback), PATIENCE)

    def commit(self, canvas: Canvas, damage: tuple[int, int, int, int]) -> None:
        """Show what is in a canvas, and wait until the compositor has it: a sync."""
        self.wire.send_raw(self._attach(canvas, damage) + encode(self.surface, 6, ""))
        self.sync()

    def begin_commit(self, canvas: Canvas, damage: tuple[int, int, int, int]) -> int:
        """Show what is in a canvas, and sync; return the callback, for `end_frame`."""
        callback = self.wire.new()
        self.wire.send_raw(
            self._attach(canvas, damage)
            + encode(self.surface, 6, "")
            + encode(DISPLAY, 0, "u", callback)
        )
        return callback

    def sync(self) -> None:
        """Wait until the compositor has handled everything sent so far."""
        callback = self.wire.new()
        self.wire.send_raw(encode(DISPLAY, 0, "u", callback))
        self.end_frame(callback)

    def flood(self, message: bytes, count: int) -> None:
        """Send the same message so many times, and wait until all are handled."""
        at_once = 1000
        blob = message * at_once
        for _ in range(count // at_once):
            self.wire.send_raw(blob)
        self.wire.send_raw(message * (count % at_once))
        self.sync()

    def flood_syncs(self, count: int) -> None:
        """Ask for so many syncs before any is answered, and wait for all of them."""
        callbacks = [self.wire.new() for _ in range(count)]
        self.wire.send_raw(b"".join(encode(DISPLAY, 0, "u", n) for n in callbacks))
        self.wire.wait(lambda: not any(map(self.wire.in_use, callbacks)), PATIENCE)

    def make_regions(self, count: int) -> None:
        """Make so many objects that stay."""
        new = (self.wire.new() for _ in range(count))
        self.wire.send_raw(
            b"".join(encode(self._compositor, 1, "u", each) for each in new)
        )
        self.sync()

    def _attach(self, canvas: Canvas, damage: tuple[int, int, int, int]) -> bytes:
        attached = encode(self.surface, 1, "uii", canvas.buffer, 0, 0)
        return attached + encode(self.surface, 9, "iiii", *damage)
