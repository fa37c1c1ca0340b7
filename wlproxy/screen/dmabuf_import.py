"""Buffers of dma-bufs, by linux-dmabuf: what a compositor imports, and having it import one.

Nothing is copied, and nothing has to be waited for: what the guest's CPU writes is in memory that caches keep
coherent, and what QEMU's GPU draws has its fences with it, in the dma-buf.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic

from wlproxy.protocol.wayland.message import Message, as_integer
from wlproxy.relay.formats import drm_format
from wlproxy.screen.commands import Layout
from wlproxy.screen.wayland_connection import FdT, WaylandConnection

DMABUF: Final = "zwp_linux_dmabuf_v1"
_VERSION: Final = 3
"""The one that tells formats with their modifiers as events, not in a file to be mapped."""


@dataclass(frozen=True, slots=True)
class ImportedPlane(Generic[FdT]):
    """Where a plane is: as `commands.Plane`, with a file that can be sent."""

    file: FdT
    offset: int
    stride: int


class DmabufImport(Generic[FdT]):
    """The compositor's linux-dmabuf.

    Attributes:
        formats: DRM formats and modifiers that it imports; none where it has no linux-dmabuf.
    """

    def __init__(self, wayland: WaylandConnection[FdT]) -> None:
        """Bind it, if the compositor has it; formats are known a round trip later."""
        self.formats: set[tuple[int, int]] = set()
        self._wayland = wayland
        self._dmabuf = 0
        found = wayland.globals.get(DMABUF)
        if found is not None and found.version >= _VERSION:
            self._dmabuf = wayland.bind(DMABUF, _VERSION, self._on_event)

    def request(
        self,
        planes: tuple[ImportedPlane[FdT], ...],
        layout: Layout,
        modifier: int,
        answered: Callable[[int], None],
    ) -> None:
        """Ask for a buffer, in one of the `formats`.

        Args:
            planes: all of them.
            layout: of the picture.
            modifier: how pixels are arranged.
            answered: told the buffer, or 0 if the compositor does not import it.
        """
        wayland = self._wayland

        def on_answer(name: str, event: Message[FdT]) -> None:
            wayland.destroy(params)
            answered(as_integer(event.args[0]) if name == "created" else 0)

        # Not create_immed: if that fails, compositors may end the connection.
        params = wayland.create(self._dmabuf, "create_params", handler=on_answer)
        halves = modifier >> 32, modifier & 0xFFFFFFFF
        for index, plane in enumerate(planes):
            place = index, plane.offset, plane.stride
            wayland.send(params, "add", None, *place, *halves, fds=(plane.file,))
        shape = layout.width, layout.height, drm_format(layout.shm_format)
        wayland.send(params, "create", *shape, 0)

    def _on_event(self, name: str, event: Message[FdT]) -> None:
        if name == "modifier":
            modifier = event.integer(1) << 32 | event.integer(2)
            self.formats.add((event.integer(0), modifier))
