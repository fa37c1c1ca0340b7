"""What QEMU shows, brought to the window: which way it comes, and what that has cost so far."""

import logging
from dataclasses import dataclass
from typing import Final

import trio

from wlproxy.relay.formats import SHM_ARGB8888
from wlproxy.screen.canvas import Canvas
from wlproxy.screen.commands import (
    Command,
    Cursor,
    CursorVisible,
    Damage,
    Layout,
    Refused,
    ShowBytes,
    ShowDmabuf,
    ShowMap,
    UpdateBytes,
)
from wlproxy.screen.qemu_dmabufs import dmabuf_source
from wlproxy.screen.qemu_files import QemuFile
from wlproxy.screen.seat import Seat
from wlproxy.screen.window import Window
from wlproxy.transport.fds import OwnedFd

MODES: Final = {
    "A": "in place (mode A): the compositor reads QEMU's memory, and nothing is copied here",
    "B": "in place (mode B): the compositor imports QEMU's dma-buf, and nothing is copied here",
    "C": "copied (mode C): QEMU sends bytes of this device; virtio-vga would do without",
}
MAX_REMARKS: Final = 32
"""Different things that are said about QEMU."""


@dataclass(slots=True)
class Counts:
    """What has been done so far.

    Attributes:
        mode: how the picture comes to the compositor: "A" in place, "B" the same as a dma-buf
            that it imports, "C" copied, "" not yet.
        pictures: how often QEMU began a new one.
        updates: how often it said that a part has changed.
        copied: bytes that we have copied.
        width: of the picture, in pixels.
        height: the same.
        listened: how often QEMU was asked to call us.
    """

    mode: str = ""
    pictures: int = 0
    updates: int = 0
    copied: int = 0
    width: int = 0
    height: int = 0
    listened: int = 0


class Picture:
    """What a window shows.

    Attributes:
        counts: what has been done so far.
    """

    def __init__(
        self,
        window: Window[OwnedFd],
        log: logging.LoggerAdapter[logging.Logger],
        ready: trio.Event,
    ) -> None:
        """There is none yet.

        Args:
            window: shows it.
            log: written to.
            ready: is set once there is one.
        """
        self.counts = Counts()
        self._window, self._log, self._ready = window, log, ready
        self._canvas: Canvas | None = None
        self._cursor: Cursor | None = None
        self._cursor_visible = True
        self._said: set[str] = set()

    @property
    def reason(self) -> str:
        """Why it comes the way it does."""
        return MODES.get(self.counts.mode, "")

    def close(self) -> None:
        """Let go of the memory."""
        if self._canvas is not None:
            self._canvas.close()

    def do(self, command: Command) -> None:
        """Do what a call of QEMU's has come to.

        Raises:
            HostError: no memory or no fd is left.
        """
        window, counts = self._window, self.counts
        match command:
            case Damage(part):  # first, as most of them are
                counts.updates += 1
                window.damage(part)
            case ShowMap(file, layout):
                assert isinstance(file, QemuFile)
                self._begin("A", layout)
                window.show(file, file.identity, layout)
            case ShowDmabuf(layout=layout):  # the compositor says later in which mode
                window.show_dmabuf(*dmabuf_source(command), layout)
                self._ready.set()
            case ShowBytes(layout, pixels):
                self._begin("C", layout)
                self._draw(layout, pixels)
            case UpdateBytes(part, stride, pixels):
                assert self._canvas is not None
                self._canvas.update(part, stride, pixels)
                counts.updates += 1
                counts.copied += len(pixels)
                window.damage(part)
            case Cursor():
                self._cursor = command
            case CursorVisible(visible):
                self._cursor_visible = visible
            case Refused(why):
                self.remark(why)

    def _begin(self, mode: str, layout: Layout) -> None:
        """Count another picture, and say so if it comes another way than the last."""
        if mode != self.counts.mode:
            text = MODES[mode]
            self._log.info("screen %d x %d, %s", layout.width, layout.height, text)
        self.counts.mode = mode
        self.counts.width, self.counts.height = layout.width, layout.height
        self.counts.pictures += 1
        self._ready.set()

    def begin_dmabuf(self, mode: str, layout: Layout) -> None:
        """Take it that the compositor shows a dma-buf in this mode; "" if it does not."""
        if mode:
            self._begin(mode, layout)
        else:
            self.remark("a dma-buf: the compositor neither imports nor maps it")

    def _draw(self, layout: Layout, pixels: bytes) -> None:
        """Show what came as bytes: in memory of ours, which is kept while its size fits."""
        if self._canvas is None or self._canvas.layout != layout:
            if self._canvas is not None:
                self._canvas.close()
            self._canvas = Canvas(layout)
        self._canvas.draw(pixels)
        self.counts.copied += layout.end
        self._window.show(self._canvas.share(), self._canvas.serial, layout)

    def show_cursor(self, seat: Seat[OwnedFd]) -> None:
        """Show the guest's last cursor: of those before it, nobody would have seen much."""
        seat.set_cursor_visible(visible=self._cursor_visible)
        cursor, self._cursor = self._cursor, None
        if cursor is None:
            return
        layout = Layout(cursor.width, cursor.height, cursor.width * 4, SHM_ARGB8888)
        with Canvas(layout) as canvas:
            canvas.draw(cursor.pixels)
            file = canvas.share()
        seat.set_cursor(file, layout, (cursor.hot_x, cursor.hot_y))

    def remark(self, why: str) -> None:
        """Say what QEMU was refused, once."""
        if why not in self._said and len(self._said) < MAX_REMARKS:
            self._said.add(why)
            self._log.warning("QEMU was refused %s", why)
