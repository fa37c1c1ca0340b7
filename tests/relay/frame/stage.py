"""A stage whose windows are framed, and what must always be so on its screen."""

from collections.abc import Sequence

from tests.relay.frame.screen import Rectangle, Screen, Surface
from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.protocol.wayland.message import ArgValue
from wlproxy.relay.frame.layout import Side
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.policy_tree import Policy
from wlproxy.relay.wire.context import RelayConfig

DEFAULTS = Policy()
WIDTH, POPUP_WIDTH = 5, 2
RED = WindowFrame(0xFF0000, WIDTH)


def union(boxes: list[Rectangle]) -> Rectangle:
    """What is around some boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def area(box: Rectangle) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def inside(inner: Rectangle, outer: Rectangle) -> bool:
    return union([inner, outer]) == outer


def overlap(one: Rectangle, other: Rectangle) -> bool:
    return max(one[0], other[0]) < min(one[2], other[2]) and max(
        one[1], other[1]
    ) < min(one[3], other[3])


class FrameStage(Stage):
    """A framed app with a toplevel, checked after each request that reaches the compositor."""

    def __init__(
        self,
        look: WindowFrame = RED,
        *,
        eager: bool = False,
        policy: Policy = DEFAULTS,
    ) -> None:
        super().__init__(config=RelayConfig("work", policy=policy, frame=look))
        self.look = look
        self.may_be_bare = False
        self.screen = Screen(self.host, eager=eager)
        self.host.watchers.append(self._check)
        self.shell_thing = self.app.bind("xdg_wm_base")
        self.parts = self.app.bind("wl_subcompositor")
        self.views = self.app.bind("wp_viewporter")
        self.pixels_maker = self.app.bind("wp_single_pixel_buffer_manager_v1")
        self.pixel = self.app.request(
            self.pixels_maker, "create_u32_rgba_buffer", 0, 0, 0, 0xFFFFFFFF
        )
        self.surface = self.new_surface()
        self.window = self.surface
        self.checked = 0
        self.become_window()
        self.said()

    def become_window(self) -> None:
        """Give the surface its role."""
        self.xdg_surface = self.app.request(
            self.shell_thing, "get_xdg_surface", self.window.id
        )
        self.toplevel = self.app.request(self.xdg_surface, "get_toplevel")

    def view(self, surface: Thing) -> Thing:
        """Make a viewport."""
        return self.app.request(self.views, "get_viewport", surface.id)

    def paint_plain(self, surface: Thing, view: Thing, width: int, height: int) -> None:
        """Show one colour in a size, with the next commit."""
        self.app.request(surface, "attach", self.pixel.id, 0, 0)
        self.app.request(view, "set_destination", width, height)

    def shown(self, width: int, height: int) -> None:
        """Show the window in a size."""
        if "view" not in self.window.facts:
            self.window.facts["view"] = self.view(self.window)
        view = self.window.facts["view"]
        assert isinstance(view, Thing)
        self.paint_plain(self.window, view, width, height)
        self.app.request(self.window, "commit")

    def part(
        self, parent: Thing | None = None, size: tuple[int, int] = (10, 10)
    ) -> tuple[Thing, Thing, Thing]:
        """Make a subsurface; return surface, subsurface and viewport."""
        surface = self.new_surface()
        parent = parent or self.window
        made = self.app.request(self.parts, "get_subsurface", surface.id, parent.id)
        view = self.view(surface)
        self.paint_plain(surface, view, *size)
        self.app.request(surface, "commit")
        return surface, made, view

    @property
    def on_screen(self) -> Surface:
        """The window, as the compositor has it."""
        (window,) = self.screen.windows
        return window

    def strips(self, window: Surface | None = None) -> list[Rectangle]:
        """Where strips are shown."""
        boxes = self.screen.boxes(window or self.on_screen)
        return [box for each, box in boxes if each.ours]

    def geometry(self) -> Rectangle:
        """The window's, with its frame."""
        return self.screen.geometry(self.on_screen)

    def inner(self, window: Surface | None = None) -> Rectangle:
        """That of a window or a popup, without."""
        window = window or self.on_screen
        left, top, right, bottom = self.screen.geometry(window)
        width, upper = self.look.width, self.look.top
        if window in self.screen.popups:
            width = upper = min(width, POPUP_WIDTH)
        return left + width, top + upper, right - width, bottom - width

    def _check(
        self, _thing: Thing, _name: str, _args: Sequence[ArgValue], _created: Thing
    ) -> None:
        for window in self.screen.mapped():
            self.check_frame(window)

    def check_frame(self, window: Surface) -> None:
        """Check that all of the guest is within the frame, and the frame above all of it."""
        self.checked += 1
        boxes = self.screen.boxes(window)
        guests = [box for each, box in boxes if not each.ours]
        strips = [box for each, box in boxes if each.ours][: len(Side)]
        if self.may_be_bare:
            # Strips come one by one, and before the geometry that they are around.
            assert len(strips) < len(Side) or inside(union(guests), union(strips))
            return
        assert len(strips) == len(Side), "there is a window without a frame"
        first = min(index for index, (each, _) in enumerate(boxes) if each.ours)
        assert all(each.ours for each, _ in boxes[first:]), "something is above"
        outer, inner = self.screen.geometry(window), self.inner(window)
        cover = union(strips)
        assert inside(union(guests), cover), f"{guests} are not within {cover}"
        assert inside(outer, cover)
        assert sum(map(area, strips)) + area(inner) == area(cover)
        assert not any(overlap(strip, inner) for strip in strips)
        assert not any(overlap(a, b) for a in strips for b in strips if a is not b)
