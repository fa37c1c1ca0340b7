"""Surfaces and their subsurfaces: how large they are, where, and what the compositor may show.

Two boxes are told of each window.  Its *extents* are what it shows as soon as the compositor has
handled what it was sent.  Its *reach* is around all that it may show before the window's next
commit: of states that wait for a parent's commit, nobody here relies on knowing when exactly a
compositor shows them.  A state stops counting when it is sure that a newer one has replaced it:
it was committed, and then the parent was, and so on up to the window or to a surface that waits
for nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.frame.boxes import NOTHING, Box, point
from wlproxy.relay.wire.objects import ProtocolObject

FIXED: Final = 256
"""What a FIXED of 1 is."""

Size = tuple[int, int]


@dataclass(slots=True, eq=False)
class Node:
    """A `wl_surface`, as far as its size matters.

    Attributes:
        surface: the surface.
        link: to its parent, if it is a subsurface.
        links: to its subsurfaces.
        plain: it was given a buffer that is none of the proxy's: one pixel.
        buffer: what it was last given; None if that was nothing.
        scale: of the buffer.
        turned: whether a transform swaps the buffer's width and height.
        source: of the viewport, in 256ths of pixels; None if it has none.
        destination: likewise, in pixels.
        moves: `attach` or `offset` moves it with its next commit.
        newest: its size, as it was last committed.
        current: its size, as far as its commits are shown.
        most: its largest width and height of all sizes that may be shown.
        stamp: when it was last committed.
        changed: something in it, or below, is not settled.
        box: its extents, as seen from itself; None: they are to be worked out.
        span: its reach, likewise.
    """

    surface: Surface
    link: "Link | None" = None
    links: list["Link"] = field(default_factory=list)
    plain: bool = False
    buffer: Size | None = None
    scale: int = 1
    turned: bool = False
    source: Size | None = None
    destination: Size | None = None
    moves: bool = False
    newest: Size = (0, 0)
    current: Size = (0, 0)
    most: Size = (0, 0)
    stamp: int = 0
    changed: bool = False
    box: Box | None = None
    span: Box | None = None

    @property
    def root(self) -> "Node":
        """The surface that it is a part of, in the end."""
        node = self
        while node.link is not None:
            node = node.link.parent
        return node

    @property
    def waits(self) -> bool:
        """Whether what it commits is shown with a commit of a parent's only."""
        link = self.link
        while link is not None:
            if link.waits:
                return True
            link = link.parent.link
        return False

    @property
    def depth(self) -> int:
        """How many surfaces it is in."""
        depth, link = 0, self.link
        while link is not None:
            depth, link = depth + 1, link.parent.link
        return depth

    def reach_in_root(self) -> Box:
        """The same as `reach`, as seen from the root."""
        box, link = self.reach(), self.link
        while link is not None:
            box = spread(box, link.reach)
            link = link.parent.link
        return box

    def size(self) -> Size:
        """How large its next commit makes it."""
        if self.buffer is None:
            return 0, 0
        if self.destination is not None:
            return self.destination
        if self.source is not None:
            width, height = self.source
            return -(-width // FIXED), -(-height // FIXED)
        width, height = self.buffer
        if self.turned:
            width, height = height, width
        return -(-width // self.scale), -(-height // self.scale)

    def change(self) -> None:
        """Note that something in it is not settled: that is so of all that it is in."""
        node: Node = self
        while True:
            node.changed, node.box, node.span = True, None, None
            if node.link is None:
                return
            node = node.link.parent

    def commit(self, size: Size, stamp: int) -> None:
        """Note a commit: it may be shown from now on, and what was before may be, too."""
        self.newest, self.stamp = size, stamp
        self.most = max(self.most[0], size[0]), max(self.most[1], size[1])
        self.span = None

    def settle(self, *, waited: bool = False) -> None:
        """Note that what was last committed is shown, and with it what waited for that.

        Args:
            waited: it waited itself: then its subsurfaces did.
        """
        self.current = self.newest
        self.box = self.span = None
        # What is queued (`wp_fifo_v1`, `wp_commit_timer_v1`) is shown later: who knows when.
        late = self.surface.queued and self.link is not None
        if not late:
            self.most = self.newest
        settled = True
        for link in self.links:
            child = link.child
            if not link.settled:
                if link.stamp < self.stamp:
                    link.settle(late=late)
                else:
                    settled = False
            if child.changed:
                if (waited or link.waits) and child.stamp < self.stamp:
                    child.settle(waited=True)
                settled = settled and not child.changed
        self.changed = not settled

    def extents(self) -> Box:
        """What it shows, as seen from itself."""
        if self.box is None:
            width, height = self.current
            self.box = Box(0, 0, width, height)
            if width and height:
                for link in self.links:
                    if link.shown:
                        self.box = self.box.union(link.child.extents().moved(*link.at))
        return self.box

    def reach(self) -> Box:
        """What it may show before a commit of the root's, as seen from itself."""
        if self.span is None:
            self.span = Box(0, 0, *self.most)
            for link in self.links:
                self.span = self.span.union(spread(link.child.reach(), link.reach))
        return self.span

    def below(self) -> Iterator["Node"]:
        """It, and all that is in it; what is in something comes after that."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += [link.child for link in node.links]


@dataclass(slots=True, eq=False)
class Link:
    """A `wl_subsurface`.

    Attributes:
        object: the object.
        parent: what it is in.
        child: what it is.
        stamp: when it was made, or last moved.
        wishes_sync: as the app said last.
        held: it is in step with its parent against the app's wish, since it would be
            seen beside the frame.
        shown: the parent was committed since it was made.
        newest: where it was last moved to.
        at: where it is shown.
        reach: around all places where it may be shown.
    """

    object: ProtocolObject
    parent: Node
    child: Node
    stamp: int
    wishes_sync: bool = True
    held: bool = False
    shown: bool = False
    newest: tuple[int, int] = (0, 0)
    at: tuple[int, int] = (0, 0)
    reach: Box = NOTHING

    @property
    def waits(self) -> bool:
        """Whether it is in step with its parent, as the compositor has it."""
        return self.wishes_sync or self.held

    @property
    def settled(self) -> bool:
        """Whether it is shown where it was last moved to, and nowhere else."""
        return self.shown and self.reach == point(*self.newest)

    def settle(self, *, late: bool = False) -> None:
        """Note that it is shown where it was last moved to, or may be later."""
        self.shown, self.at = True, self.newest
        if not late:
            self.reach = point(*self.newest)

    def move(self, x: int, y: int, stamp: int) -> None:
        """Note where it is from a commit of the parent's on."""
        self.newest, self.stamp = (x, y), stamp
        self.reach = self.reach.hull(point(x, y))


def spread(box: Box, places: Box) -> Box:
    """Say what is around a box at all places where it may be; nothing, if it is empty."""
    if box.empty:
        return NOTHING
    return Box(
        box.left + places.left,
        box.top + places.top,
        box.right + places.right,
        box.bottom + places.bottom,
    )
