"""The strips of a frame, as objects that the compositor knows and the guest does not."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError
from wlproxy.relay.commands import CloseHandle, CreateFile
from wlproxy.relay.frame.boxes import NOTHING, Box
from wlproxy.relay.frame.layout import Side
from wlproxy.relay.frame.tree import FIXED
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import IGNORED, ProtocolObject

XRGB8888: Final = 1
"""As in `wl_shm`."""

LONG: Final = 256
SHORT: Final = 16
"""Pixels of a buffer of one colour, along a strip and across."""

ALONG: Final = (LONG // 4 * FIXED, LONG // 2 * FIXED)
ACROSS: Final = (SHORT // 4 * FIXED, SHORT // 2 * FIXED)
"""Where what a strip shows of it begins, and how much that is: the middle, so that no renderer
mixes in what is beyond its edge.

A single pixel (wp_single_pixel_buffer_v1) would do where the GPU draws.  pixman counts with 16
bits: of a pixel that is scaled up to the width of a window, it leaves out some of the left end,
more the wider and farther to the right the window is (seen with wlroots 0.15)."""


def needed(context: Context, interface: str) -> ProtocolObject:
    """Bind what a frame is made with.

    Raises:
        WaylandError: the compositor does not have it; a window is not shown without a frame.
    """
    found = context.own_global(interface, 1)
    if found is None:
        raise WaylandError(
            DISPLAY_ID,
            DisplayError.IMPLEMENTATION,
            f"wlproxy: windows are to be framed, and the compositor has no {interface}",
        )
    return found


@dataclass(slots=True, eq=False)
class Paint:
    """The buffers that strips show, one for all of a client's windows.

    Attributes:
        wide: of one colour, for strips at the top and at the bottom.
        tall: the same, for those at the sides.
        label: the picture of the label.
    """

    wide: ProtocolObject | None = None
    tall: ProtocolObject | None = None
    label: ProtocolObject | None = None

    def coloured(
        self, context: Context, look: WindowFrame, side: Side
    ) -> ProtocolObject:
        """Return a buffer of the frame's colour.

        Raises:
            WaylandError: as `needed`.
        """
        if self.wide is None or self.tall is None:
            pixels = struct.pack("<I", look.colour) * LONG * SHORT
            sizes = (LONG, SHORT), (SHORT, LONG)
            self.wide, self.tall = _make_buffers(context, pixels, sizes)
        return self.wide if side.is_wide else self.tall

    def end(self, context: Context) -> None:
        """Let go of the buffers; the compositor keeps what it shows."""
        for buffer in (self.wide, self.tall, self.label):
            if buffer is not None:
                context.send(buffer, "destroy")
        self.wide = self.tall = self.label = None

    def labelled(self, context: Context, look: WindowFrame) -> ProtocolObject:
        """Return a buffer of the label, which there is.

        Raises:
            WaylandError: as `needed`.
        """
        if self.label is None:
            label = look.label
            assert label is not None
            size = label.width, label.height
            (self.label,) = _make_buffers(context, label.pixels, [size])
        return self.label


def _make_buffers(
    context: Context, pixels: bytes, sizes: Iterable[tuple[int, int]]
) -> list[ProtocolObject]:
    """Make buffers of one file of our own: of the same bytes, in several shapes."""
    shm = needed(context, "wl_shm")
    handle = next(context.shared.handles)
    context.command(CreateFile(context.client_id, handle, pixels))
    pool = context.objects.add_own(INTERFACES["wl_shm_pool"], 1, IGNORED)
    context.send(shm, "create_pool", (pool.host_id, None, len(pixels)), (handle,))
    made = []
    for width, height in sizes:
        buffer = context.objects.add_own(INTERFACES["wl_buffer"], 1, IGNORED)
        geometry = (0, width, height, 4 * width, XRGB8888)
        context.send(pool, "create_buffer", (buffer.host_id, *geometry))
        made.append(buffer)
    context.send(pool, "destroy")
    context.command(CloseHandle(context.client_id, handle))
    return made


def colour_source(side: Side) -> tuple[int, int, int, int]:
    """Say what a strip shows of a buffer of one colour, in 256ths of pixels."""
    (x, width), (y, height) = (ALONG, ACROSS) if side.is_wide else (ACROSS, ALONG)
    return x, y, width, height


@dataclass(slots=True, eq=False)
class Strip:
    """A part of a frame.

    Attributes:
        side: where it is; None: it is the label.
        surface: its `wl_surface`.
        subsurface: its `wl_subsurface`.
        viewport: its `wp_viewport`.
        box: where it was last put, as seen from the window's surface.
    """

    side: Side | None
    surface: ProtocolObject
    subsurface: ProtocolObject
    viewport: ProtocolObject
    box: Box = NOTHING

    @classmethod
    def make(
        cls,
        context: Context,
        parent: ProtocolObject,
        side: Side | None,
        buffer: ProtocolObject,
    ) -> "Strip":
        """Make one above all that the parent has; it is shown once it is put somewhere.

        Raises:
            WaylandError: as `needed`.
        """
        compositor = needed(context, "wl_compositor")
        subcompositor = needed(context, "wl_subcompositor")
        viewporter = needed(context, "wp_viewporter")
        add = context.objects.add_own
        surface = add(INTERFACES["wl_surface"], compositor.version, IGNORED)
        context.send(compositor, "create_surface", (surface.host_id,))
        subsurface = add(INTERFACES["wl_subsurface"], subcompositor.version, IGNORED)
        ids = (subsurface.host_id, surface.host_id, parent.host_id)
        context.send(subcompositor, "get_subsurface", ids)
        viewport = add(INTERFACES["wp_viewport"], viewporter.version, IGNORED)
        context.send(viewporter, "get_viewport", (viewport.host_id, surface.host_id))
        context.send(surface, "attach", (buffer.host_id, 0, 0))
        return cls(side, surface, subsurface, viewport)

    def put(
        self, context: Context, box: Box, source: tuple[int, int, int, int]
    ) -> None:
        """Have it be somewhere from the window's next commit on.

        Args:
            context: the client's.
            box: where, not empty.
            source: what of its buffer is shown, in 256ths of pixels.
        """
        old, self.box = self.box, box
        if (old.left, old.top) != (box.left, box.top):
            context.send(self.subsurface, "set_position", (box.left, box.top))
        if (old.width, old.height) != (box.width, box.height):
            context.send(self.viewport, "set_source", source)
            size = (box.width, box.height)
            context.send(self.viewport, "set_destination", size)
            context.send(self.surface, "damage", (0, 0, *size))
            context.send(self.surface, "commit")

    def show(
        self, context: Context, buffer: ProtocolObject | None, *, at_once: bool
    ) -> None:
        """Have it show another buffer, or nothing.

        Args:
            context: the client's.
            buffer: the other one; None: nothing.
            at_once: or else with the window's next commit.
        """
        host_id = buffer.host_id if buffer is not None else 0
        context.send(self.surface, "attach", (host_id, 0, 0))
        context.send(self.surface, "damage", (0, 0, self.box.width, self.box.height))
        if at_once:
            context.send(self.subsurface, "set_desync")
        context.send(self.surface, "commit")
        if at_once:
            context.send(self.subsurface, "set_sync")

    def destroy(self, context: Context) -> None:
        """End it."""
        for each in (self.viewport, self.subsurface, self.surface):
            context.send(each, "destroy")
