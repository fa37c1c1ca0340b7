"""The window: a toplevel that shows one picture, sans-IO.

Damage is merged and shown with one commit for each frame of the compositor's, however often the guest
draws.  Pools and buffers are made when they are shown, and kept for when the same file comes
again: page flips are two files in turns.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic

from wlproxy.protocol.errors import CompositorError
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import Message
from wlproxy.screen.commands import Layout, Rectangle
from wlproxy.screen.formats import ALWAYS
from wlproxy.screen.sizing import Sizing
from wlproxy.screen.wayland_connection import FdT, WaylandConnection

MAX_DAMAGE: Final = 64
"""Rectangles that are told to the compositor; of more, what is around them all."""
MAX_BUFFERS: Final = 4
"""Files that are kept for showing them again."""
SERVER_SIDE: Final = 2
"""`zxdg_toplevel_decoration_v1.mode`: the compositor draws the title bar."""

_NEEDED: Final = ("wl_compositor", "wl_shm", "xdg_wm_base")


@dataclass(slots=True)
class _Picture(Generic[FdT]):
    """A file, how a picture lies in it, and the buffer that it is once it was shown."""

    file: FdT
    layout: Layout
    buffer: int = 0


class Window(Generic[FdT]):
    """The window.

    Attributes:
        shm_formats: those that the compositor takes, known once it is `ready`.
        ready: whether it can show something.
        closed: whether the user has closed it.
        frames: how many the compositor has shown.
        sizing: how large it is.
    """

    def __init__(
        self, wayland: WaylandConnection[FdT], title: bytes, app_id: bytes
    ) -> None:
        """Make it as soon as the compositor has said what it has.

        Args:
            wayland: a fresh connection.
            title: what people see.
            app_id: what rules of the compositor are written for.
        """
        self.shm_formats = set(ALWAYS)
        self.ready = False
        self.closed = False
        self.frames = 0
        self.sizing = Sizing()
        self.surface = 0
        self._wayland = wayland
        self._title, self._app_id = title, app_id
        self._xdg = self._viewport = self._shm = 0
        self._configured = False
        self._frame_pending = False
        self._resized = False
        self._shown: _Picture[FdT] | None = None
        self._next: _Picture[FdT] | None = None
        self._kept: OrderedDict[object, _Picture[FdT]] = OrderedDict()
        self._damage: list[Rectangle] = []
        wayland.sync(self._globals_known)

    @property
    def stalled(self) -> bool:
        """Whether there is something to show, and the compositor wants no frame yet."""
        return self._frame_pending and bool(self._damage)

    def show(self, file: FdT, identity: object, layout: Layout) -> None:
        """Show a file, from now on, and close it when it is needed no more.

        Args:
            file: shared memory, as long as the layout says at least.
            identity: the same for the same file, as long as it is open.
            layout: how the picture lies in it.
        """
        if self._next is not None:
            self._next.file.close()
            self._next = None
        known = self._kept.get((identity, layout))
        if known is not None:
            file.close()
            self._kept.move_to_end((identity, layout))
            self._shown = known
        else:
            self._next = _Picture(file, layout)
            self._next_key = identity, layout
        self.sizing.picture(layout.width, layout.height)
        self._damage = [Rectangle(0, 0, layout.width, layout.height)]
        self._flush()

    def damage(self, part: Rectangle) -> None:
        """Say that a part of the picture has changed."""
        if len(self._damage) < MAX_DAMAGE:
            self._damage.append(part)
        else:
            self._damage = [_around([*self._damage, part])]
        self._flush()

    def pool_buffer(self, file: FdT, layout: Layout) -> int:
        """Make a buffer of a file, for whatever surface."""
        wayland = self._wayland
        size = layout.end
        pool = wayland.create(self._shm, "create_pool", None, size, fds=(file,))
        shape = layout.offset, layout.width, layout.height, layout.stride
        buffer = wayland.create(pool, "create_buffer", *shape, layout.shm_format)
        wayland.destroy(pool)
        return buffer

    def optional(self, interface: str, most: int) -> int:
        """Bind a global that need not be there; 0 if it is not."""
        if interface in self._wayland.globals and interface in INTERFACES:
            return self._wayland.bind(interface, most)
        return 0

    def close(self) -> None:
        """Close the files that it has."""
        if self._next is not None:
            self._next.file.close()
        for kept in self._kept.values():
            kept.file.close()
        self._next = None
        self._kept.clear()

    def _globals_known(self) -> None:
        wayland = self._wayland
        lacking = [each for each in _NEEDED if each not in wayland.globals]
        if lacking:
            raise CompositorError(f"the compositor has no {', '.join(lacking)}")
        compositor = wayland.bind("wl_compositor", 4)
        if wayland.version(compositor) < 4:
            raise CompositorError("the compositor's wl_compositor is older than 4")
        self._shm = wayland.bind("wl_shm", 1, self._on_shm)
        base = wayland.bind("xdg_wm_base", 1)
        wayland.handle(base, lambda _name, ping: self._pong(base, ping))
        self.surface = wayland.create(compositor, "create_surface")
        self._xdg = wayland.create(
            base, "get_xdg_surface", self.surface, handler=self._on_xdg_surface
        )
        toplevel = wayland.create(self._xdg, "get_toplevel", handler=self._on_toplevel)
        wayland.send(toplevel, "set_title", self._title)
        wayland.send(toplevel, "set_app_id", self._app_id)
        self._extend(toplevel)
        wayland.send(self.surface, "commit")
        wayland.sync(self._formats_known)

    def _extend(self, toplevel: int) -> None:
        """Use what a compositor may have beyond the bare window."""
        wayland = self._wayland
        if viewporter := self.optional("wp_viewporter", 1):
            self._viewport = wayland.create(viewporter, "get_viewport", self.surface)
            self.sizing.scales = True
            if scales := self.optional("wp_fractional_scale_manager_v1", 1):
                wayland.create(
                    scales,
                    "get_fractional_scale",
                    self.surface,
                    handler=self._on_scale,
                )
        if decorations := self.optional("zxdg_decoration_manager_v1", 1):
            decoration = wayland.create(
                decorations, "get_toplevel_decoration", toplevel
            )
            wayland.send(decoration, "set_mode", SERVER_SIDE)

    def _formats_known(self) -> None:
        self.ready = True

    def _pong(self, base: int, ping: Message[FdT]) -> None:
        self._wayland.send(base, "pong", ping.integer(0))

    def _on_shm(self, _name: str, event: Message[FdT]) -> None:
        self.shm_formats.add(event.integer(0))

    def _on_scale(self, _name: str, event: Message[FdT]) -> None:
        self.sizing.scale = max(event.integer(0), 1) / 120
        self._resized = True
        self._flush()

    def _on_toplevel(self, name: str, event: Message[FdT]) -> None:
        if name == "configure":
            size = event.integer(0), event.integer(1)
            self.sizing.configure(*size, event.array(2))
        elif name == "close":
            self.closed = True

    def _on_xdg_surface(self, _name: str, event: Message[FdT]) -> None:
        self._wayland.send(self._xdg, "ack_configure", event.integer(0))
        self._configured = self._resized = True
        self._flush()

    def _on_frame(self, _name: str, _event: Message[FdT]) -> None:
        self._frame_pending = False
        self.frames += 1
        self._flush()

    def _flush(self) -> None:
        """Show what has changed, unless it has to wait for the compositor."""
        if not self._configured or self._frame_pending:
            return
        if self._next is not None:
            self._shown, self._next = self._next, None
            self._shown.buffer = self.pool_buffer(self._shown.file, self._shown.layout)
            self._kept[self._next_key] = self._shown
        shown = self._shown
        if shown is None or not (self._damage or self._resized):
            return
        wayland, surface = self._wayland, self.surface
        wayland.send(surface, "attach", shown.buffer, 0, 0)
        for part in self._damage:
            corner = part.x, part.y
            wayland.send(surface, "damage_buffer", *corner, part.width, part.height)
        if self._viewport:
            wayland.send(self._viewport, "set_destination", *self.sizing.shown())
        wayland.create(surface, "frame", handler=self._on_frame)
        wayland.send(surface, "commit")
        self._frame_pending, self._resized, self._damage = True, False, []
        while len(self._kept) > MAX_BUFFERS:
            _, oldest = self._kept.popitem(last=False)
            wayland.destroy(oldest.buffer)
            oldest.file.close()


def _around(parts: list[Rectangle]) -> Rectangle:
    """Return the smallest rectangle that has all of these in it."""
    left, top = min(part.x for part in parts), min(part.y for part in parts)
    right = max(part.x + part.width for part in parts)
    bottom = max(part.y + part.height for part in parts)
    return Rectangle(left, top, right - left, bottom - top)
