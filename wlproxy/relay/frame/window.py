"""A window and its frame: what of it the compositor was told, and what it is told next."""

from dataclasses import dataclass, field

from wlproxy.relay.frame.boxes import Box
from wlproxy.relay.frame.layout import Insets, Layout, Side
from wlproxy.relay.frame.strips import Paint, Strip, colour_source
from wlproxy.relay.frame.tree import FIXED, Node
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject


def insets_of(look: WindowFrame) -> Insets:
    """Say how wide a frame is on each side."""
    return Insets(look.width, look.top, look.width, look.width)


@dataclass(slots=True, eq=False)
class Window:
    """A toplevel.

    Attributes:
        node: its surface.
        xdg_surface: the object in between.
        toplevel: the object.
        claimed: the geometry that the app set last, if it did.
        layout: as of the last commit; None if it shows nothing.
        told: the geometry that the compositor was told last, since it was mapped.
        strips: its frame, made with the first layout: from the lowest to the highest.
        held: subsurfaces that were put in step until the next commit.
    """

    node: Node
    xdg_surface: ProtocolObject
    toplevel: ProtocolObject
    claimed: Box | None = None
    layout: Layout | None = None
    told: Box | None = None
    strips: list[Strip] = field(default_factory=list)
    held: list[Node] = field(default_factory=list)

    def unmap(self) -> None:
        """It shows nothing from its next commit on."""
        self.layout = self.told = self.claimed = None

    def draw(
        self, context: Context, look: WindowFrame, paint: Paint, layout: Layout
    ) -> None:
        """Have the next commit show a layout.

        Raises:
            WaylandError: the compositor lacks what a frame is made with.
        """
        self.layout = layout
        if not self.strips:
            parent = self.node.surface.object
            for side in Side:
                colour = paint.coloured(context, look, side)
                self.strips.append(Strip.make(context, parent, side, colour))
            if look.label is not None:
                label = paint.labelled(context, look)
                self.strips.append(Strip.make(context, parent, None, label))
            for strip in self.strips:
                strip.surface.role = Part(self, strip)
        for strip in self.strips:
            box, source = self._place(strip, look, layout)
            if strip.box != box:
                strip.put(context, box, source)
        if self.told != layout.outer:
            self.told = outer = layout.outer
            place = (outer.left, outer.top, outer.width, outer.height)
            context.send(self.xdg_surface, "set_window_geometry", place)

    def repaint(self, context: Context, look: WindowFrame, paint: Paint) -> None:
        """Have the frame that is shown look otherwise, at once.

        Raises:
            WaylandError: as `draw`.
        """
        for strip in self.strips:
            if strip.side is not None:
                strip.repaint(context, paint.coloured(context, look, strip.side))
            else:
                strip.repaint(context, paint.labelled(context, look))

    def end(self, context: Context) -> None:
        """Let go of the frame: nothing is shown any more."""
        self.unmap()
        strips, self.strips = self.strips, []
        for strip in strips:
            strip.destroy(context)

    @staticmethod
    def _place(
        strip: Strip, look: WindowFrame, layout: Layout
    ) -> tuple[Box, tuple[int, int, int, int]]:
        if strip.side is not None:
            return layout.strip(strip.side), colour_source(strip.side)
        assert look.label is not None
        box = layout.label(look.label.width // 2, look.label.shown_height)
        return box, (0, 0, 2 * box.width * FIXED, 2 * box.height * FIXED)


@dataclass(frozen=True, slots=True)
class Part:
    """The role of a strip's surface: whose frame it is a part of."""

    window: Window
    strip: Strip
