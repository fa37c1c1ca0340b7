"""Whatever an app does, and whenever: all that it shows is within its frame.

Checked after each request that reaches the compositor, for compositors that differ in when they
show what waits for a parent's commit.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.choices import Choices, fresh
from tests.fuzz.relay import Conversation
from tests.relay.frame.stage import FrameStage
from tests.relay.things import Thing
from wlproxy.relay.look import Label, WindowFrame

SURFACES = 5
FAR = (-(1 << 31), -20000, -300, -40, -6, 0, 3, 60, 250, 20000, (1 << 31) - 1)
SIZES = (1, 4, 30, 100, 400)

steps = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.integers(0, SURFACES - 1),
        st.integers(0, SURFACES - 1),
        st.sampled_from(FAR),
        st.sampled_from(FAR),
        st.sampled_from(SIZES),
    ),
    max_size=40,
)
Step = tuple[int, int, int, int, int, int]


class Hostile:
    """An app that does what it can with a few surfaces, and makes no error.

    Attributes:
        root: the surface that is its window, or its popup.
    """

    def __init__(self, *, eager: bool, popup: bool) -> None:
        self.play = FrameStage(eager=eager)
        self.play.relay.go_alone()
        self.root, self.xdg_surface = self.play.window, self.play.xdg_surface
        if popup:
            self.play.shown(100, 100)
            self.become_popup()
        parts = [self.play.new_surface() for _ in range(SURFACES - 1)]
        self.surfaces = [self.root, *parts]
        self.views = [self.play.view(each) for each in self.surfaces]
        self.subsurfaces: dict[Thing, Thing] = {}
        self.parents: dict[Thing, Thing] = {}

    def become_popup(self) -> None:
        """Have a popup of the window be what is played with."""
        request, shell = self.play.app.request, self.play.shell_thing
        place = request(shell, "create_positioner")
        request(place, "set_size", 10, 10)
        request(place, "set_anchor_rect", 0, 0, 1, 1)
        self.root, parent = self.play.new_surface(), self.xdg_surface
        self.xdg_surface = request(shell, "get_xdg_surface", self.root.id)
        request(self.xdg_surface, "get_popup", parent.id, place.id)

    def show(self) -> None:
        """Show the window, or the popup."""
        self.play.paint_plain(self.root, self.views[0], 100, 100)
        self.play.app.request(self.root, "commit")

    def do(self, step: Step) -> None:
        kind, one, other, x, y, size = step
        play, surface = self.play, self.surfaces[one]
        request = play.app.request
        sub = self.subsurfaces.get(surface)
        match kind:
            case 0 | 1:
                play.paint_plain(surface, self.views[one], size, abs(y) % 400 + 1)
            case 2 | 3 | 4:
                request(surface, "commit")
            case 5:
                request(surface, "attach", 0, 0, 0)
            case 6:
                self.join(surface, self.surfaces[other])
            case 7 if sub is not None:
                request(sub, "set_position", x, y)
            case 8 if sub is not None:
                request(sub, "set_desync" if size < 100 else "set_sync")
            case 9 if sub is not None:
                request(sub, "destroy")
                del self.subsurfaces[surface], self.parents[surface]
            case 10 if sub is not None:
                siblings = [
                    each
                    for each, parent in self.parents.items()
                    if parent is self.parents[surface] and each is not surface
                ]
                sibling = siblings[0] if siblings else self.parents[surface]
                name = "place_above" if size < 100 else "place_below"
                request(sub, name, sibling.id)
            case 11:
                width, height = abs(x) % 500 + 1, abs(y) % 500 + 1
                place = max(min(x, 9999), -9999), max(min(y, 9999), -9999)
                request(self.xdg_surface, "set_window_geometry", *place, width, height)
            case _:
                pass  # it is no subsurface

    def join(self, child: Thing, parent: Thing) -> None:
        """Make one a part of the other, if no compositor would refuse that."""
        above = parent
        while above in self.parents:
            above = self.parents[above]
        if child in self.parents or child is self.root or above is child:
            return
        self.parents[child] = parent
        self.subsurfaces[child] = self.play.app.request(
            self.play.parts, "get_subsurface", child.id, parent.id
        )


@settings(max_examples=150, deadline=None)
@given(steps, st.booleans(), st.booleans())
def test_all_that_is_shown_is_within_the_frame(
    doings: list[Step],
    eager: bool,
    popup: bool,
) -> None:
    app = Hostile(eager=eager, popup=popup)
    for step in doings:
        app.do(step)
        if app.play.closed is not None:
            return
    app.show()


@settings(max_examples=150, deadline=None)
@given(steps, st.booleans(), st.booleans())
def test_the_same_with_subsurfaces_from_the_start(
    doings: list[Step],
    eager: bool,
    popup: bool,
) -> None:
    app = Hostile(eager=eager, popup=popup)
    one, two, three, four = app.surfaces[1:]
    for child, parent in (
        (one, app.root),
        (two, one),
        (three, two),
        (four, one),
    ):
        app.join(child, parent)
        app.play.app.request(app.subsurfaces[child], "set_desync")
    app.show()
    for step in doings:
        app.do(step)
        if app.play.closed is not None:
            return
    app.show()


@settings(max_examples=60, deadline=None)
@given(st.integers())
def test_whatever_comes_to_mind(seed: int) -> None:
    """All protocols, from both sides, as the fuzzer has it, with frames."""
    label = Label(40, 36, bytes(40 * 36 * 4))
    frame = WindowFrame(0x336699, 5, label)
    Conversation(Choices(fresh(random.Random(seed))), frame).run()


@pytest.mark.parametrize("eager", [False, True])
def test_the_screen_itself_is_looked_at(*, eager: bool) -> None:
    play = FrameStage(eager=eager)
    play.shown(100, 80)

    assert play.checked
    assert play.inner() == (0, 0, 100, 80)
    assert play.strips() == [
        (-5, -5, 50, 0),
        (50, -5, 105, 0),
        (-5, 80, 50, 85),
        (50, 80, 105, 85),
        (-5, 0, 0, 80),
        (100, 0, 105, 80),
    ]
