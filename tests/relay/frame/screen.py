"""What a compositor shows of windows, worked out from what it is sent, and from nothing else.

It is the specification's model of surfaces, written a second time: nothing here is taken from
`wlproxy.relay.frame`.  Compositors differ in when they show what waits for a parent's commit, so
there are two of it: one shows what was committed by the time that the parent was, the other,
as weston 10 does, also what came after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.relay.compositor import Compositor
from tests.relay.things import Thing, integer
from wlproxy.protocol.wayland.message import ArgValue

Size = tuple[int, int]
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom."""

FIXED = 256


@dataclass(eq=False)
class Surface:
    """A `wl_surface`."""

    thing: Thing
    ours: bool
    buffer: Size | None = None
    scale: int = 1
    source: Size | None = None
    destination: Size | None = None
    stack: list["Surface"] = field(default_factory=list)
    """Itself and its subsurfaces, from below, as of the next commit."""
    places: dict["Surface", tuple[int, int]] = field(default_factory=dict)
    shown_size: tuple[int, int] = (0, 0)
    shown_stack: list["Surface"] = field(default_factory=list)
    shown_places: dict["Surface", tuple[int, int]] = field(default_factory=dict)
    cached: "Update | None" = None
    parent: "Surface | None" = None
    sync: bool = True

    def __post_init__(self) -> None:
        self.stack = [self]
        self.shown_stack = [self]

    @property
    def waits(self) -> bool:
        each: Surface = self
        while each.parent is not None:
            if each.sync:
                return True
            each = each.parent
        return False

    def size(self) -> tuple[int, int]:
        if self.buffer is None:
            return 0, 0
        if self.destination is not None:
            return self.destination
        if self.source is not None:
            return -(-self.source[0] // FIXED), -(-self.source[1] // FIXED)
        return -(-self.buffer[0] // self.scale), -(-self.buffer[1] // self.scale)


@dataclass
class Update:
    """What a commit is to show."""

    size: tuple[int, int]
    stack: list[Surface]
    places: dict[Surface, tuple[int, int]]
    latched: dict[Surface, "Update"]


class Screen:
    """All windows of one compositor."""

    def __init__(self, host: Compositor, *, eager: bool) -> None:
        self._host = host
        self._eager = eager
        self.surfaces: dict[int, Surface] = {}
        for thing in host.things.values():
            if thing.interface.name == "wl_surface":
                self.surfaces[thing.id] = Surface(thing, ours=False)
        self._subsurfaces: dict[Thing, Surface] = {}
        self._viewports: dict[Thing, Surface] = {}
        self._xdg: dict[Thing, Surface] = {}
        self.windows: dict[Surface, Rectangle | None] = {}
        """Toplevel to its geometry."""
        self.popups: dict[Surface, Rectangle | None] = {}
        """Likewise."""
        self._geometries: dict[Surface, Rectangle | None] = {}
        """The same, as of the next commit."""
        host.watchers.append(self._watch)

    # ------------------------------------------------------------ what is shown

    def mapped(self) -> list[Surface]:
        """The windows and popups that show something."""
        return [x for x in (*self.windows, *self.popups) if all(x.shown_size)]

    def geometry(self, window: Surface) -> Rectangle:
        """That of a window, or of a popup, which shows something."""
        found = self.windows.get(window) or self.popups.get(window)
        assert found is not None
        return found

    def boxes(self, window: Surface) -> list[tuple[Surface, Rectangle]]:
        """Everything of a window, from below."""
        found: list[tuple[Surface, Rectangle]] = []

        def look(surface: Surface, x: int, y: int) -> None:
            width, height = surface.shown_size
            if not width or not height:
                return
            for each in surface.shown_stack:
                if each is surface:
                    found.append((surface, (x, y, x + width, y + height)))
                else:
                    left, top = surface.shown_places.get(each, (0, 0))
                    look(each, x + left, y + top)

        look(window, 0, 0)
        return found

    # ------------------------------------------------------------ what is asked

    def _watch(
        self, thing: Thing, name: str, args: Sequence[ArgValue], created: Thing
    ) -> None:
        handler = getattr(self, f"_{thing.interface.name}_{name}", None)
        if handler is not None:
            handler(thing, args, created)

    def _wl_compositor_create_surface(
        self, thing: Thing, _args: object, created: Thing
    ) -> None:
        # The proxy's own `wl_compositor` is of the first version, those of apps of later ones.
        self.surfaces[created.id] = Surface(created, ours=thing.version == 1)

    def _wl_surface_attach(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        surface, buffer = self.surfaces[thing.id], integer(args[0])
        assert surface.parent is None or not any(args[1:]), "a subsurface is moved"
        surface.buffer = None
        if buffer:
            known = self._host.things[buffer].facts.get("geometry")
            surface.buffer = known[1:3] if isinstance(known, tuple) else (1, 1)

    def _wl_surface_set_buffer_scale(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        self.surfaces[thing.id].scale = integer(args[0])

    def _wl_surface_commit(self, thing: Thing, _args: object, _created: Thing) -> None:
        surface = self.surfaces[thing.id]
        latched = {}
        for each in surface.stack:
            if each is not surface and each.cached is not None:
                latched[each] = each.cached
                if not self._eager:
                    each.cached = None
        if surface.cached is not None:  # not shown, but what waited in it still waits
            latched = {**surface.cached.latched, **latched}
        update = Update(surface.size(), surface.stack[:], dict(surface.places), latched)
        if surface.waits:
            surface.cached = update
        else:
            self._show(surface, update)

    def _show(self, surface: Surface, update: Update) -> None:
        for known in (self.windows, self.popups):
            if surface in known:
                if not all(update.size):
                    self._geometries[surface] = None
                known[surface] = self._geometries.get(surface)
        gone = {each for each in update.stack if each.parent is not surface}
        surface.cached = None
        surface.shown_size = update.size
        surface.shown_stack = [
            each for each in update.stack if each is surface or each not in gone
        ]
        surface.shown_places = update.places
        for each, waiting in update.latched.items():
            if each.parent is surface and not self._eager:
                self._show(each, waiting)
        if self._eager:
            self._show_below(surface)

    def _show_below(self, surface: Surface) -> None:
        surface.shown_places = dict(surface.places)
        for each in surface.shown_stack:
            if each is not surface and each.waits:
                if each.cached is not None:
                    self._show(each, each.cached)
                else:
                    self._show_below(each)

    def _wl_surface_destroy(self, thing: Thing, _args: object, _created: Thing) -> None:
        surface = self.surfaces.pop(thing.id)
        self._unlink(surface)
        for each in self.surfaces.values():
            if each.parent is surface:
                each.parent = None

    def _wl_subcompositor_get_subsurface(
        self, _thing: Thing, args: Sequence[ArgValue], created: Thing
    ) -> None:
        child, parent = (self.surfaces[integer(each)] for each in args[1:])
        child.parent, child.sync = parent, True
        parent.stack.append(child)
        parent.places[child] = (0, 0)
        self._subsurfaces[created] = child

    def _wl_subsurface_destroy(
        self, thing: Thing, _args: object, _created: Thing
    ) -> None:
        self._unlink(self._subsurfaces.pop(thing))

    def _unlink(self, surface: Surface) -> None:
        parent, surface.parent = surface.parent, None
        if parent is not None:
            parent.stack.remove(surface)
            del parent.places[surface]
            if surface in parent.shown_stack:
                parent.shown_stack.remove(surface)
            if surface.cached is not None:
                self._show(surface, surface.cached)

    def _wl_subsurface_set_position(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        child = self._subsurfaces[thing]
        assert child.parent is not None
        child.parent.places[child] = integer(args[0]), integer(args[1])

    def _wl_subsurface_place_above(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        self._restack(thing, args, 1)

    def _wl_subsurface_place_below(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        self._restack(thing, args, 0)

    def _restack(self, thing: Thing, args: Sequence[ArgValue], above: int) -> None:
        child, sibling = self._subsurfaces[thing], self.surfaces[integer(args[0])]
        assert child.parent is not None
        stack = child.parent.stack
        stack.remove(child)
        stack.insert(stack.index(sibling) + above, child)

    def _wl_subsurface_set_sync(
        self, thing: Thing, _args: object, _created: Thing
    ) -> None:
        self._subsurfaces[thing].sync = True

    def _wl_subsurface_set_desync(
        self, thing: Thing, _args: object, _created: Thing
    ) -> None:
        child = self._subsurfaces[thing]
        child.sync = False
        if not child.waits:
            self._show_free(child)

    def _show_free(self, surface: Surface) -> None:
        if surface.cached is not None:
            self._show(surface, surface.cached)
        elif self._eager:
            self._show_below(surface)
        for each in surface.shown_stack:
            if each is not surface and not each.sync:
                self._show_free(each)

    def _wp_viewporter_get_viewport(
        self, _thing: Thing, args: Sequence[ArgValue], created: Thing
    ) -> None:
        self._viewports[created] = self.surfaces[integer(args[1])]

    def _wp_viewport_set_destination(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        size = integer(args[0]), integer(args[1])
        self._viewports[thing].destination = None if size == (-1, -1) else size

    def _wp_viewport_set_source(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        size = integer(args[2]), integer(args[3])
        self._viewports[thing].source = None if size[0] < 0 else size

    def _wp_viewport_destroy(
        self, thing: Thing, _args: Sequence[ArgValue], _created: Thing
    ) -> None:
        surface = self._viewports.pop(thing)
        surface.source = surface.destination = None

    def _xdg_wm_base_get_xdg_surface(
        self, _thing: Thing, args: Sequence[ArgValue], created: Thing
    ) -> None:
        self._xdg[created] = self.surfaces[integer(args[1])]

    def _xdg_surface_get_toplevel(
        self, thing: Thing, _args: object, created: Thing
    ) -> None:
        self._xdg[created] = self._xdg[thing]
        self.windows[self._xdg[thing]] = None

    def _xdg_surface_set_window_geometry(
        self, thing: Thing, args: Sequence[ArgValue], _created: Thing
    ) -> None:
        x, y, width, height = map(integer, args)
        assert min(width, height) > 0
        self._geometries[self._xdg[thing]] = x, y, x + width, y + height

    def _xdg_toplevel_destroy(
        self, thing: Thing, _args: object, _created: Thing
    ) -> None:
        window = self._xdg.pop(thing)
        del self.windows[window]
        window.shown_size = (0, 0)

    def _xdg_surface_get_popup(
        self, thing: Thing, _args: object, created: Thing
    ) -> None:
        self._xdg[created] = self._xdg[thing]
        self.popups[self._xdg[thing]] = None

    def _xdg_popup_destroy(self, thing: Thing, _args: object, _created: Thing) -> None:
        popup = self._xdg.pop(thing)
        del self.popups[popup]
        popup.shown_size = (0, 0)
