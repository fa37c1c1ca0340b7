"""The frames of one client's windows, as its app makes and changes them.

Whatever would be seen beside a frame waits for a commit of the window's, which widens the frame:
a subsurface that is not in step with its parent is put in step before a commit of it that the
strips do not cover, and the app's own wish is met again after the window's commit.
"""

from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.errors import LimitExceededError
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError
from wlproxy.relay.buffers.surfaces import Subsurface, Surface
from wlproxy.relay.frame.boxes import Box
from wlproxy.relay.frame.layout import NONE, Insets, geometry, lay_out
from wlproxy.relay.frame.strips import Paint
from wlproxy.relay.frame.tree import Link, Node
from wlproxy.relay.frame.window import Window, insets_of, popup_insets_of
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.policy_tree import Popups
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject

MAX_SIZE: Final = 1 << 14
"""Pixels of a surface in each direction: GPUs have no larger ones.  It is also how far from
its parent a subsurface may be."""

MAX_COVER: Final = 1 << 15
"""Pixels of a window and its frame in each direction: renderers count with 16 bits."""

MAX_DEPTH: Final = 16
"""Subsurfaces in each other."""

OFFSET_SINCE: Final = 5
"""The version of `wl_surface` that `offset` came with."""

MAX_PARTS: Final = 256
"""Surfaces of a window: all are looked at when one changes."""


@dataclass(slots=True, eq=False)
class Frames:
    """What is known of a client's surfaces and windows, for their frames.

    Attributes:
        look: how frames look.
        nodes: each surface.
        windows: each toplevel, and each popup with a frame, by its surface.
        dragged: data devices, by their ids at the compositor, whose drag is at a frame.
    """

    _context: Context
    look: WindowFrame
    nodes: dict[Surface, Node] = field(default_factory=dict)
    windows: dict[Node, Window] = field(default_factory=dict)
    dragged: set[int] = field(default_factory=set)
    _paint: Paint = field(default_factory=Paint)
    _stamp: int = 0

    @property
    def insets(self) -> Insets:
        """How wide frames are."""
        return insets_of(self.look)

    @property
    def popup_insets(self) -> Insets:
        """How wide frames of popups are, if they have any."""
        popups = self._context.config.policy.windows.popups
        return popup_insets_of(self.look) if popups is Popups.FRAMED else NONE

    def repaint(self, look: WindowFrame | None) -> None:
        """Have all frames be of another colour, at once; what else is new is for clients to come."""
        new = self.look.repainted(look)
        if new == self.look:
            return
        old, self.look, self._paint = self._paint, new, Paint()
        for window in self.windows.values():
            window.repaint(self._context, new, self._paint)
        old.end(self._context)

    def window_of(self, surface: object) -> Window | None:
        """Find the window that a surface is, if it is one."""
        if not isinstance(surface, Surface) or not self.windows:
            return None
        node = self.nodes.get(surface)
        return None if node is None else self.windows.get(node)

    # ------------------------------------------------------------ surfaces

    def node(self, surface: Surface) -> Node:
        """Return what is known of a surface: nothing yet, of one that is destroyed."""
        return self.nodes.get(surface) or Node(surface)

    def create(self, surface: Surface) -> None:
        """Enter a surface."""
        self.nodes[surface] = Node(surface)

    def destroy(self, surface: Surface) -> None:
        """Note that a surface is gone; raises nothing if it is unknown."""
        node = self.nodes.pop(surface, None)
        if node is None:
            return
        self._cut(node)
        for link in node.links:
            link.child.link = None
        node.links = []
        self.end_window(node)

    def commit(self, surface: Surface) -> Window | None:
        """Do what is needed before a commit.

        Returns:
            What is to be told once the commit is sent (`committed`), if it is.

        Raises:
            WaylandError: the app shows more than can be framed, or the compositor lacks
                what a frame is made with.
        """
        node = self.node(surface)
        self._take_buffer(node)
        size = node.size()
        if size == node.newest and not node.changed:
            return None
        if max(size) > MAX_SIZE and node.root in self.windows:
            raise self._too_much(f"a surface of {size[0]}x{size[1]} pixels", MAX_SIZE)
        node.commit(size, self._tick())
        if node.link is None:
            return self._commit_root(node)
        node.change()
        if not node.waits:
            if self._covered(node):
                node.settle()
            else:
                self._hold(node)
        return None

    def committed(self, window: Window) -> None:
        """A window's commit was sent: subsurfaces need no longer be in step with it."""
        if window.node.surface.queued:
            return  # it may be shown late
        held, window.held = window.held, []
        for node in held:
            link = node.link
            if link is None or not link.held or node.root is not window.node:
                continue
            link.held = False
            if not link.wishes_sync:
                self._context.send(link.object, "set_desync")
                node.surface.sync = False
                self._settle_free(node)

    # ------------------------------------------------------------ subsurfaces

    def add_part(self, entry: ProtocolObject, child: Surface, parent: Surface) -> None:
        """Enter a subsurface: `entry` is its `wl_subsurface`, which was just made.

        Raises:
            WaylandError: there are too many, or they are too deep in each other.
        """
        part, whole = self.nodes.get(child), self.nodes.get(parent)
        if part is None or whole is None or part.link or whole.root is part:
            return  # the compositor will say what is wrong
        lowest = max(node.depth for node in part.below())
        if whole.depth + 1 + lowest > MAX_DEPTH:
            raise self._too_much("subsurfaces in each other", MAX_DEPTH)
        count = sum(1 for root in (part, whole.root) for _ in root.below())
        if count > MAX_PARTS:
            raise self._too_much("surfaces of a window", MAX_PARTS)
        if part.moves:
            self._stay(part)
        link = part.link = Link(entry, whole, part, self._tick())
        whole.links.append(link)
        whole.change()
        window = self.windows.get(whole)
        if window is not None and window.strips:
            lowest_strip = window.strips[0].surface.host_id
            self._context.send(entry, "place_below", (lowest_strip,))

    def link_of(self, role: object) -> Link | None:
        """Find what is known of a `wl_subsurface`, by its role."""
        if not isinstance(role, Subsurface):
            return None
        node = self.nodes.get(role.surface)
        return None if node is None else node.link

    def remove_part(self, link: Link) -> None:
        """Note that a `wl_subsurface` is destroyed: its surface is shown no more."""
        self._cut(link.child)

    def move(self, link: Link, x: int, y: int) -> tuple[int, int]:
        """Note where a subsurface is to be; say where it may be."""
        x = min(max(x, -MAX_SIZE), MAX_SIZE)
        y = min(max(y, -MAX_SIZE), MAX_SIZE)
        if (x, y) != link.newest:
            link.move(x, y, self._tick())
            link.parent.change()
        return x, y

    def set_sync(self, link: Link) -> None:
        """The app has a subsurface be in step."""
        link.wishes_sync, link.held = True, False

    def set_desync(self, link: Link) -> bool:
        """The app has a subsurface show what it commits at once; False if not yet."""
        known, link.wishes_sync = link.held or not link.wishes_sync, False
        if known:
            return False  # or it has been so, and the compositor need not hear it again
        if not self._covered(link.child):
            self._hold(link.child, tell=False)
            return False
        self._settle_free(link.child)
        return True

    # ------------------------------------------------------------ windows

    def add_window(
        self,
        surface: Surface,
        xdg_surface: ProtocolObject,
        toplevel: ProtocolObject | None,
        insets: Insets,
    ) -> Window | None:
        """Enter a toplevel, or a popup; None if there is something wrong with it.

        Args:
            surface: of it.
            xdg_surface: likewise.
            toplevel: the object; None: it is a popup.
            insets: how wide its frame is.
        """
        node = self.nodes.get(surface)
        if node is None:
            return None  # the compositor will say what is wrong
        self.end_window(node)
        window = self.windows[node] = Window(node, xdg_surface, toplevel, insets)
        node.changed = True
        return window

    def end_window(self, node: Node) -> None:
        """Note that a window is gone, if there was one: after its last request is sent."""
        window = self.windows.pop(node, None)
        if window is not None:
            window.end(self._context)

    def configure(self, window: Window, *, bare: bool) -> None:
        """Note what the compositor has a window be: `bare`, it fills the screen without its frame."""
        window.configure(self._context, self.look, self._paint, bare=bare)

    def claim(self, window: Window, box: Box) -> None:
        """Note the geometry that the app sets."""
        window.claimed = box
        window.node.changed = True

    # ------------------------------------------------------------ what follows

    def _tick(self) -> int:
        self._stamp += 1
        return self._stamp

    @staticmethod
    def _take_buffer(node: Node) -> None:
        """Note the size of what the next commit shows."""
        surface = node.surface
        if surface.postponed is not None and not surface.postponed[0].life.is_failed:
            buffer = surface.postponed[0]
            node.buffer = buffer.width, buffer.height
        elif surface.attached:
            pending = surface.pending
            if pending is not None:
                node.buffer = pending.width, pending.height
            else:
                node.buffer = (1, 1) if node.plain else None
        node.moves = False

    def _commit_root(self, node: Node) -> Window | None:
        node.settle()
        window = self.windows.get(node)
        if window is None:
            return None
        if not all(node.newest):
            window.unmap()
            return window
        reach = node.reach()
        inner = geometry(window.claimed, node.extents())
        if window.bare:
            # Where the frame will be seen first, if the app shows nothing new by then.
            inner = window.framed.within(inner)
        layout = lay_out(inner, window.framed, reach)
        if max(layout.cover.width, layout.cover.height) > MAX_COVER:
            raise self._too_much("pixels that a window reaches over", MAX_COVER)
        window.draw(self._context, self.look, self._paint, layout)
        return window

    def _covered(self, node: Node) -> bool:
        """Whether all that a subsurface may show is within what the frame surrounds."""
        window = self.windows.get(node.root)
        if window is None or window.layout is None:
            return True
        if window.node.surface.queued:
            return False  # the layout may be shown later, and nothing before that
        return window.layout.cover.contains(node.reach_in_root())

    def _hold(self, node: Node, *, tell: bool = True) -> None:
        """Put a subsurface in step with its parent, until the window is committed."""
        link = node.link
        assert link is not None  # it is no window
        link.held = node.surface.sync = True
        node.change()
        self.windows[node.root].held.append(node)
        if tell:
            self._context.send(link.object, "set_sync")

    @staticmethod
    def _settle_free(node: Node) -> None:
        """Note that a subsurface is in step no more: what waited is shown."""
        if not node.waits:
            node.change()
            node.settle()

    def _cut(self, node: Node) -> None:
        """Take a subsurface from its parent."""
        link, node.link = node.link, None
        if link is not None:
            link.parent.links.remove(link)
            link.parent.change()

    def _stay(self, node: Node) -> None:
        """Take back that a surface is moved by what was attached to it."""
        node.moves = False
        surface, context = node.surface, self._context
        if surface.postponed is not None:
            surface.postponed = (surface.postponed[0], 0, 0)
        if surface.object.version >= OFFSET_SINCE:
            context.send(surface.object, "offset", (0, 0))
        elif surface.attached and surface.pending is not None:
            host_id = surface.pending.object.host_id
            context.send(surface.object, "attach", (host_id, 0, 0))

    @staticmethod
    def _too_much(what: str, most: int) -> LimitExceededError:
        message = f"wlproxy: {what}: a framed window may have {most}"
        return LimitExceededError(DISPLAY_ID, DisplayError.NO_MEMORY, message)
