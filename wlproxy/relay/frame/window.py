"""A window, or a popup, and its frame: what of it the compositor was told, and what it is told next."""

from dataclasses import dataclass, field
from typing import Final

from wlproxy.relay.frame.boxes import Box
from wlproxy.relay.frame.layout import NONE, Insets, Layout, Side
from wlproxy.relay.frame.strips import Paint, Strip, colour_source
from wlproxy.relay.frame.tree import FIXED, Node
from wlproxy.relay.look import POPUP_WIDTH, WindowFrame
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject


def popup_insets_of(look: WindowFrame) -> Insets:
    """Say how wide that of a popup is."""
    width = min(look.width, POPUP_WIDTH)
    return Insets(width, width, width, width)


MAX_SERIALS: Final = 63
"""How many of the last configurations are remembered, beside one: apps acknowledge the last."""


def insets_of(look: WindowFrame) -> Insets:
    """Say how wide a frame is on each side."""
    return Insets(look.width, look.top, look.width, look.width)


@dataclass(slots=True, eq=False)
class Window:
    """A toplevel, or a popup.

    Attributes:
        node: its surface.
        xdg_surface: the object in between.
        toplevel: the object; None if it is a popup, which has no label and cannot be pulled at.
        framed: how wide its frame is.
        claimed: the geometry that the app set last, if it did.
        layout: as of the last commit; None if it shows nothing.
        told: the geometry that the compositor was told last, since it was mapped.
        strips: its frame, made with the first layout: from the lowest to the highest.
        held: subsurfaces that were put in step until the next commit.
        unframes: the configuration that the next serial ends is such that it fills the
            screen without its frame.
        unframing: serials of configurations by which it fills the screen without its frame.
        bare: the app has acknowledged one of these, and none is in force that is not such.
        hidden: the strips show nothing.
    """

    node: Node
    xdg_surface: ProtocolObject
    toplevel: ProtocolObject | None
    framed: Insets
    claimed: Box | None = None
    layout: Layout | None = None
    told: Box | None = None
    strips: list[Strip] = field(default_factory=list)
    held: list[Node] = field(default_factory=list)
    unframes: bool = False
    unframing: list[int] = field(default_factory=list)
    bare: bool = False
    hidden: bool = False

    @property
    def insets(self) -> Insets:
        """How much wider it is than the app's own, as the compositor has it."""
        return NONE if self.bare else self.framed

    def unmap(self) -> None:
        """It shows nothing from its next commit on."""
        self.layout = self.told = self.claimed = None
        self.unframing, self.bare = [], False

    def draw(
        self, context: Context, look: WindowFrame, paint: Paint, layout: Layout
    ) -> None:
        """Have the next commit show a layout; without the strips, which are there, if it is bare.

        Raises:
            WaylandError: the compositor lacks what a frame is made with.
        """
        self.layout = layout
        if not self.strips:
            parent = self.node.surface.object
            for side in Side:
                colour = paint.coloured(context, look, side)
                self.strips.append(Strip.make(context, parent, side, colour))
            if look.label is not None and self.toplevel is not None:
                label = paint.labelled(context, look)
                self.strips.append(Strip.make(context, parent, None, label))
            for strip in self.strips:
                strip.surface.role = Part(self, strip)
        for strip in self.strips:
            box, source = self._place(strip, look, layout)
            if strip.box != box:
                strip.put(context, box, source)
        if self.hidden != self.bare:
            self._show_strips(context, look, paint, at_once=False)
        if self.told != layout.outer:
            self.told = outer = layout.outer
            place = (outer.left, outer.top, outer.width, outer.height)
            context.send(self.xdg_surface, "set_window_geometry", place)

    def configure(
        self, context: Context, look: WindowFrame, paint: Paint, *, bare: bool
    ) -> None:
        """Note what the compositor has the window be.

        If it is to have its frame again, that is shown at once, within what fills the screen:
        the app may never show anything new.

        Args:
            context: the client's.
            look: of the frame.
            paint: for it.
            bare: it fills the screen, without its frame.
        """
        self.unframes = bare
        if bare:
            return
        self.unframing = []
        if self.bare:
            self.bare, self.node.changed = False, True
        if self.hidden:
            self._show_strips(context, look, paint, at_once=True)

    def end_configuration(self, serial: int) -> None:
        """Note the serial that a configuration ends with."""
        if self.unframes:
            self.unframing = [*self.unframing[-MAX_SERIALS:], serial]

    def acknowledge(self, serial: int) -> None:
        """Note what the app has acknowledged: its next commit is for that."""
        if serial in self.unframing and not self.bare:
            self.bare = self.node.changed = True

    def repaint(self, context: Context, look: WindowFrame, paint: Paint) -> None:
        """Have the frame that is shown look otherwise, at once.

        Raises:
            WaylandError: as `draw`.
        """
        if not self.hidden:
            self._show_strips(context, look, paint, at_once=True)

    def _show_strips(
        self, context: Context, look: WindowFrame, paint: Paint, *, at_once: bool
    ) -> None:
        """Have the strips show what they are to show."""
        self.hidden = self.bare
        for strip in self.strips:
            buffer = None
            if not self.bare and strip.side is not None:
                buffer = paint.coloured(context, look, strip.side)
            elif not self.bare:
                buffer = paint.labelled(context, look)
            strip.show(context, buffer, at_once=at_once)

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
