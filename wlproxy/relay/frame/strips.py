"""The strips of a frame, as objects that the compositor knows and the guest does not."""

import struct
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

SWATCH: Final = 16
"""Pixels on each side of a buffer of one colour, where there are no single pixels: what is
scaled is from its middle, so that no renderer mixes in what is beyond its edge."""

MIDDLE: Final = (SWATCH // 2 * FIXED, SWATCH // 2 * FIXED, FIXED, FIXED)


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
        colour: of one colour.
        swatch: it is one of several pixels.
        label: the picture of the label.
    """

    colour: ProtocolObject | None = None
    swatch: bool = False
    label: ProtocolObject | None = None

    def coloured(self, context: Context, look: WindowFrame) -> ProtocolObject:
        """Return a buffer of the frame's colour.

        Raises:
            WaylandError: as `needed`.
        """
        if self.colour is not None:
            return self.colour
        manager = context.own_global("wp_single_pixel_buffer_manager_v1", 1)
        if manager is None:
            pixels = struct.pack("<I", look.colour) * SWATCH * SWATCH
            self.swatch = True
            self.colour = _make_buffer(context, SWATCH, SWATCH, pixels)
            return self.colour
        red, green, blue = look.colour.to_bytes(3, "big")
        made = context.objects.add_own(INTERFACES["wl_buffer"], 1, IGNORED)
        channels = [each * 0x01010101 for each in (red, green, blue, 0xFF)]
        context.send(manager, "create_u32_rgba_buffer", (made.host_id, *channels))
        self.colour = made
        return made

    def labelled(self, context: Context, look: WindowFrame) -> ProtocolObject:
        """Return a buffer of the label, which there is.

        Raises:
            WaylandError: as `needed`.
        """
        if self.label is None:
            label = look.label
            assert label is not None
            self.label = _make_buffer(context, label.width, label.height, label.pixels)
        return self.label


def _make_buffer(
    context: Context, width: int, height: int, pixels: bytes
) -> ProtocolObject:
    """Make a buffer of a file of our own."""
    shm = needed(context, "wl_shm")
    handle = next(context.shared.handles)
    context.command(CreateFile(context.client_id, handle, pixels))
    pool = context.objects.add_own(INTERFACES["wl_shm_pool"], 1, IGNORED)
    context.send(shm, "create_pool", (pool.host_id, None, len(pixels)), (handle,))
    made = context.objects.add_own(INTERFACES["wl_buffer"], 1, IGNORED)
    geometry = (0, width, height, 4 * width, XRGB8888)
    context.send(pool, "create_buffer", (made.host_id, *geometry))
    context.send(pool, "destroy")
    context.command(CloseHandle(context.client_id, handle))
    return made


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
        self, context: Context, box: Box, source: tuple[int, int, int, int] | None
    ) -> None:
        """Have it be somewhere from the window's next commit on.

        Args:
            context: the client's.
            box: where, not empty.
            source: what of its buffer is shown, in 256ths of pixels; None: all.
        """
        old, self.box = self.box, box
        if (old.left, old.top) != (box.left, box.top):
            context.send(self.subsurface, "set_position", (box.left, box.top))
        if (old.width, old.height) != (box.width, box.height):
            if source is not None:
                context.send(self.viewport, "set_source", source)
            size = (box.width, box.height)
            context.send(self.viewport, "set_destination", size)
            context.send(self.surface, "damage", (0, 0, *size))
            context.send(self.surface, "commit")

    def destroy(self, context: Context) -> None:
        """End it."""
        for each in (self.viewport, self.subsurface, self.surface):
            context.send(each, "destroy")
