"""Where the strips of a frame are, and what sizes and places are within one.

Geometry alone: no Wayland object is known here.
"""

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Final, NamedTuple

from wlproxy.relay.frame.boxes import Box

MOST: Final = (1 << 31) - 1
"""The largest INT of a message."""

CORNER: Final = 16
"""How far from a corner a press still is at the corner, in pixels of surfaces."""

RIM: Final = 4
"""How much of an upper side that has a label is for resizing, likewise."""


class Side(Enum):
    """Which strip.

    None is wider or higher than the window itself: where one fills the screen, Mutter centers it by its widest
    and its highest surface (`maybe_configure_black_background` in 48).
    """

    TOP_LEFT = "left half of the top"
    TOP_RIGHT = "right half of the top"
    BOTTOM_LEFT = "left half of the bottom"
    BOTTOM_RIGHT = "right half of the bottom"
    LEFT = "left"
    RIGHT = "right"

    @property
    def is_wide(self) -> bool:
        """Whether it is at the top or at the bottom."""
        return self not in (Side.LEFT, Side.RIGHT)


class Edge(IntFlag):
    """What is pulled at: `xdg_toplevel.resize_edge`; NONE: the whole window."""

    NONE = 0
    TOP = 1
    BOTTOM = 2
    LEFT = 4
    RIGHT = 8


class Insets(NamedTuple):
    """How wide a frame is, on each side."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def across(self) -> int:
        """How much wider a framed window is."""
        return self.left + self.right

    @property
    def down(self) -> int:
        """How much higher a framed window is."""
        return self.top + self.bottom

    def around(self, box: Box) -> Box:
        """Grow a box by the frame."""
        return Box(
            box.left - self.left,
            box.top - self.top,
            box.right + self.right,
            box.bottom + self.bottom,
        )

    def within(self, box: Box) -> Box:
        """Shrink a box by the frame; return it as it is if nothing would be left."""
        inner = Box(
            box.left + self.left,
            box.top + self.top,
            box.right - self.right,
            box.bottom - self.bottom,
        )
        return box if inner.empty else inner

    def shrink(self, width: int, height: int) -> tuple[int, int]:
        """Say what is left of a size; 0 says that nobody cares, and stays."""
        return _less(width, self.across), _less(height, self.down)

    def grow(self, width: int, height: int) -> tuple[int, int]:
        """Say how large a framed window of this size is; as `shrink`."""
        return _more(width, self.across), _more(height, self.down)


NONE: Final = Insets(0, 0, 0, 0)
"""There is no frame for now."""


def _less(length: int, by: int) -> int:
    return max(length - by, 1) if length > 0 else length


def _more(length: int, by: int) -> int:
    return min(length + by, MOST) if length > 0 else length


@dataclass(frozen=True, slots=True)
class Layout:
    """A window and its frame, in coordinates of its surface.

    Attributes:
        inner: the window's geometry as the app has it.
        outer: the same as the compositor has it: with the frame.
        cover: all that the strips and what they surround take up.
    """

    inner: Box
    outer: Box
    cover: Box

    def strip(self, side: Side) -> Box:
        """Say where a strip is."""
        inner, cover = self.inner, self.cover
        middle = inner.left + inner.width // 2
        match side:
            case Side.TOP_LEFT:
                return Box(cover.left, cover.top, middle, inner.top)
            case Side.TOP_RIGHT:
                return Box(middle, cover.top, cover.right, inner.top)
            case Side.BOTTOM_LEFT:
                return Box(cover.left, inner.bottom, middle, cover.bottom)
            case Side.BOTTOM_RIGHT:
                return Box(middle, inner.bottom, cover.right, cover.bottom)
            case Side.LEFT:
                return Box(cover.left, inner.top, inner.left, inner.bottom)
            case Side.RIGHT:
                return Box(inner.right, inner.top, cover.right, inner.bottom)

    def label(self, width: int, height: int) -> Box:
        """Say where a label of this size is: as much of it as the window is wide."""
        left = self.inner.left
        right = min(left + width, self.inner.right)
        top = self.outer.top + (self.inner.top - self.outer.top - height) // 2
        return Box(left, top, right, top + height)

    def edge_at(self, x: int, y: int, *, labelled: bool) -> Edge:
        """Say what somebody pulls at who presses there.

        Args:
            x: in coordinates of the surface.
            y: likewise.
            labelled: the upper side has a label: by that, the window is moved.
        """
        box, edge = self.outer, Edge.NONE
        if y >= self.inner.bottom:
            edge |= Edge.BOTTOM
        elif x < self.inner.left:
            edge |= Edge.LEFT
        elif x >= self.inner.right:
            edge |= Edge.RIGHT
        elif labelled and y < box.top + RIM:
            edge |= Edge.TOP
        across, down = min(CORNER, box.width // 2), min(CORNER, box.height // 2)
        far_left, far_right = x < box.left + across, x >= box.right - across
        far_up, far_down = y < box.top + down, y >= box.bottom - down
        if far_up and (far_left or far_right) and not edge & Edge.BOTTOM:
            edge |= Edge.TOP
        if far_down and edge & (Edge.LEFT | Edge.RIGHT) and not edge & Edge.TOP:
            edge |= Edge.BOTTOM
        if edge & (Edge.TOP | Edge.BOTTOM) and not edge & (Edge.LEFT | Edge.RIGHT):
            if far_left:
                edge |= Edge.LEFT
            elif far_right:
                edge |= Edge.RIGHT
        return edge


def lay_out(inner: Box, insets: Insets, reach: Box) -> Layout:
    """Lay a frame out.

    Args:
        inner: the window's geometry, not empty.
        insets: how wide the frame is at least.
        reach: all that the app may show: the strips cover what is not within `inner`.
    """
    outer = insets.around(inner)
    return Layout(inner, outer, outer.union(reach))


def geometry(claimed: Box | None, extents: Box) -> Box:
    """Say what a window's geometry is, as compositors do.

    Args:
        claimed: what the app says, if it does.
        extents: its surface and all subsurfaces.
    """
    if claimed is None:
        return extents
    cut = claimed.intersection(extents)
    return extents if cut.empty else cut
