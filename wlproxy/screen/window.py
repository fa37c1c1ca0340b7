"""The window: a toplevel that shows one picture, sans-IO.

Damage is merged and shown with one commit for each frame of the compositor's, however often the guest
draws.  Pools and buffers are made when they are shown, and kept for when the same file comes
again: page flips are two files in turns.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic

from wlproxy.protocol.errors import CompositorError
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import Message
from wlproxy.relay.formats import MODIFIER_LINEAR, drm_format
from wlproxy.screen.commands import Layout, Rectangle
from wlproxy.screen.dmabuf_import import DmabufImport, ImportedPlane
from wlproxy.screen.formats import ALWAYS
from wlproxy.screen.frame_requests import show_frame
from wlproxy.screen.sizing import Sizing
from wlproxy.screen.wayland_connection import FdT, WaylandConnection

MAX_DAMAGE: Final = 64
"""Rectangles that are told to the compositor; of more, what is around them all."""
MAX_BUFFERS: Final = 4
"""Files that are kept for showing them again."""
SERVER_SIDE: Final = 2
"""`zxdg_toplevel_decoration_v1.mode`: the compositor draws the title bar."""
NORMAL, FLIPPED_180 = 0, 6
"""`wl_output.transform`, of buffers: the last row of a flipped one is shown uppermost."""

_NEEDED: Final = ("wl_compositor", "wl_shm", "xdg_wm_base")


@dataclass(slots=True)
class DmabufSource(Generic[FdT]):
    """A picture in a dma-buf, and what is to be known of it.

    Attributes:
        planes: where it is; whoever shows it closes the files.
        modifier: how pixels are arranged there.
        flipped: whether its first row is the lowest.
        can_map: whether it may be a `wl_shm` pool.
    """

    planes: tuple[ImportedPlane[FdT], ...]
    modifier: int
    flipped: bool
    can_map: Callable[[], bool]


@dataclass(slots=True)
class _Picture(Generic[FdT]):
    """Files, how a picture lies in them, and the buffer that it is once it was shown.

    Attributes:
        imported: whether that is by linux-dmabuf; it is in a pool else.
    """

    files: tuple[FdT, ...]
    layout: Layout
    key: object
    source: DmabufSource[FdT] | None = None
    buffer: int = 0
    imported: bool = False

    @property
    def transform(self) -> int:
        """How the compositor is to turn it."""
        return FLIPPED_180 if self.source and self.source.flipped else NORMAL

    def close(self) -> None:
        for file in self.files:
            file.close()


class Window(Generic[FdT]):
    """The window.

    Attributes:
        shm_formats: those that the compositor takes, known once it is `ready`.
        importable: DRM formats and modifiers of dma-bufs that it imports, known then, too.
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
        self.importable: set[tuple[int, int]] = set()
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
        self._toplevel = 0
        self._shown: _Picture[FdT] | None = None
        self._wanted: _Picture[FdT] | None = None
        self._asking: _Picture[FdT] | None = None
        self._kept: OrderedDict[object, _Picture[FdT]] = OrderedDict()
        self._damage: list[Rectangle] = []
        self._transform = NORMAL
        self._decided: tuple[str, Layout] | None = None
        wayland.sync(self._globals_known)

    @property
    def fullscreen(self) -> bool:
        """Whether it is as large as the output."""
        return self.sizing.fullscreen

    def set_fullscreen(self, *, on: bool) -> None:
        """Ask the compositor to have it as large as the output, or not any more."""
        if on:
            self._wayland.send(self._toplevel, "set_fullscreen", 0)
        else:
            self._wayland.send(self._toplevel, "unset_fullscreen")

    @property
    def stalled(self) -> bool:
        """Whether there is something to show, and the compositor wants no frame yet."""
        return self._frame_pending and bool(self._damage)

    @property
    def caught_up(self) -> bool:
        """Whether the compositor has shown all that there was to show."""
        return not (self._damage or self._frame_pending or self._asking)

    @property
    def shows_dmabuf(self) -> bool:
        """Whether a dma-buf is shown: QEMU then waits for an answer, and calls no faster."""
        return self._shown is not None and self._shown.source is not None

    def show(self, file: FdT, identity: object, layout: Layout) -> None:
        """Show a file, from now on, and close it when it is needed no more.

        Args:
            file: shared memory, as long as the layout says at least.
            identity: the same for the same file, as long as it is open.
            layout: how the picture lies in it.
        """
        self._show(_Picture((file,), layout, (identity, layout)))

    def show_dmabuf(
        self, source: DmabufSource[FdT], identity: object, layout: Layout
    ) -> None:
        """Show a dma-buf, from now on, as `show` does a file.

        Args:
            source: it.
            identity: the same for the same files, as long as they are open.
            layout: of the picture, in its first plane.
        """
        files = tuple(plane.file for plane in source.planes)
        rest = tuple((plane.offset, plane.stride) for plane in source.planes[1:])
        key = identity, layout, source.modifier, source.flipped, rest
        self._show(_Picture(files, layout, key, source))

    def _show(self, picture: _Picture[FdT]) -> None:
        last, layout = self._wanted, picture.layout
        if last is not None and not last.buffer and last is not self._asking:
            last.close()  # nobody saw it
        known = self._kept.get(picture.key)
        if self._asking is not None and self._asking.key == picture.key:
            known = self._asking
        self._wanted = known or picture
        if known is not None:
            picture.close()
        self.sizing.picture(layout.width, layout.height)
        self._damage = [Rectangle(0, 0, layout.width, layout.height)]
        self._flush()

    def take_decided(self) -> tuple[str, Layout] | None:
        """Take how the last dma-buf is shown, if that is known since the last time.

        Returns:
            "B", "A" in a pool, or "" for not at all; and which it was.
        """
        taken, self._decided = self._decided, None
        return taken

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
        for picture in (self._wanted, self._asking, *self._kept.values()):
            if picture is not None:
                picture.close()
        self._wanted = self._asking = None
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
        self._toplevel = toplevel
        wayland.send(toplevel, "set_title", self._title)
        wayland.send(toplevel, "set_app_id", self._app_id)
        self._extend(toplevel)
        self._import = DmabufImport(wayland)
        self.importable = self._import.formats
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
        shown = self._wanted
        if shown is None or not (self._damage or self._resized):
            return
        if not shown.buffer and not self._make_buffer(shown):
            return
        wayland, surface = self._wayland, self.surface
        crowded = len(self._kept) > MAX_BUFFERS
        if shown is not self._shown or self._resized or crowded:
            self._arrange(shown)
        callback = wayland.add("wl_callback", surface, self._on_frame)
        frame = show_frame(surface, shown.buffer, self._damage, callback)
        wayland.send_encoded(frame)
        self._frame_pending, self._resized, self._damage = True, False, []

    def _arrange(self, shown: _Picture[FdT]) -> None:
        """Say how another picture, or one of another size, is shown from the next frame on."""
        wayland = self._wayland
        if shown.transform != self._transform:
            self._transform = shown.transform
            wayland.send(self.surface, "set_buffer_transform", self._transform)
        if self._viewport:
            wayland.send(self._viewport, "set_destination", *self.sizing.shown())
        if shown is not self._shown:
            self._shown = shown
            if shown.source is not None:
                self._decided = ("B" if shown.imported else "A"), shown.layout
        self._kept.move_to_end(shown.key)
        while len(self._kept) > MAX_BUFFERS:
            _, oldest = self._kept.popitem(last=False)
            wayland.destroy(oldest.buffer)
            oldest.close()

    def _make_buffer(self, picture: _Picture[FdT]) -> bool:
        """Make a picture's buffer; tell whether it is there already."""
        source, layout = picture.source, picture.layout
        if self._asking is not None:
            return False  # one at a time, however fast others come
        if source is None:
            self._keep(picture, self.pool_buffer(picture.files[0], layout))
            return True
        if (drm_format(layout.shm_format), source.modifier) in self.importable:
            self._asking = picture
            self._import.request(
                source.planes, layout, source.modifier, self._on_imported
            )
            return False
        return self._pool_instead(picture, source)

    def _on_imported(self, buffer: int) -> None:
        """Take what the compositor answers about the picture that it was asked to import."""
        picture, self._asking = self._asking, None
        assert picture is not None
        assert picture.source is not None
        if buffer:
            picture.imported = True
            self._keep(picture, buffer)
        elif picture is self._wanted:
            self._pool_instead(picture, picture.source)
        else:
            picture.close()
        self._flush()

    def _pool_instead(self, picture: _Picture[FdT], source: DmabufSource[FdT]) -> bool:
        """Make a pool of a dma-buf that is not imported, or give it up."""
        layout = picture.layout
        linear = source.modifier == MODIFIER_LINEAR
        if linear and layout.shm_format in self.shm_formats and source.can_map():
            self._keep(picture, self.pool_buffer(picture.files[0], layout))
            return True
        picture.close()
        self._decided = "", layout
        self._wanted, self._damage = self._shown, []
        if self._shown is not None:
            still = self._shown.layout
            self.sizing.picture(still.width, still.height)
        return False

    def _keep(self, picture: _Picture[FdT], buffer: int) -> None:
        picture.buffer = buffer
        self._kept[picture.key] = picture


def _around(parts: list[Rectangle]) -> Rectangle:
    """Return the smallest rectangle that has all of these in it."""
    left, top = min(part.x for part in parts), min(part.y for part in parts)
    right = max(part.x + part.width for part in parts)
    bottom = max(part.y + part.height for part in parts)
    return Rectangle(left, top, right - left, bottom - top)
