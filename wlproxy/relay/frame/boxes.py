"""Rectangles, in pixels of surfaces."""

from typing import Final, NamedTuple


class Box(NamedTuple):
    """A rectangle: from `left` and `top` up to, and without, `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """From top to bottom."""
        return self.bottom - self.top

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return self.left >= self.right or self.top >= self.bottom

    def union(self, other: "Box") -> "Box":
        """What is around both; one that is empty does not count."""
        # All surfaces of a window come here when one of them changes: no call, no new box.
        left, top, right, bottom = self
        x, y, end, low = other
        if x >= end or y >= low:
            return self
        if left >= right or top >= bottom:
            return other
        if left <= x and top <= y and right >= end and bottom >= low:
            return self
        return self.hull(other)

    def hull(self, other: "Box") -> "Box":
        """What is around both, as they are: also of points, which are empty."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def intersection(self, other: "Box") -> "Box":
        """What is in both; it may be empty."""
        return Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def contains(self, other: "Box") -> bool:
        """Whether the other one is within this one, as what is empty always is."""
        return other.empty or self.intersection(other) == other

    def moved(self, x: int, y: int) -> "Box":
        """The same elsewhere."""
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)


NOTHING: Final = Box(0, 0, 0, 0)


def at(x: int, y: int, width: int, height: int) -> Box:
    """Make a box of a place and a size."""
    return Box(x, y, x + width, y + height)


def point(x: int, y: int) -> Box:
    """Make a box of a place alone."""
    return Box(x, y, x, y)
