"""What a hostile app tries with its frame, one by one; each stage checks itself all along.

(`FrameStage.check_frame`, after each request that reaches the compositor.)
"""

import pytest

from tests.relay.frame.stage import RED, FrameStage, inside, union
from tests.relay.things import Thing
from wlproxy.relay.commands import CreateCopyBuffer, CreateUdmabuf
from wlproxy.relay.frame.frames import MAX_COVER, MAX_DEPTH, MAX_PARTS, MAX_SIZE
from wlproxy.relay.frame.layout import Side


@pytest.fixture(params=[False, True], ids=["lazy", "eager"])
def play(request: pytest.FixtureRequest) -> FrameStage:
    made = FrameStage(eager=request.param)
    made.shown(100, 80)
    made.said()
    return made


def sub_boxes(play: FrameStage) -> list[tuple[int, int, int, int]]:
    """Where the guest's subsurfaces are shown."""
    boxes = play.screen.boxes(play.on_screen)
    return [box for each, box in boxes if not each.ours and each is not play.on_screen]


def refused(play: FrameStage) -> str:
    """Why the app was ended; empty if it was not."""
    return play.app.error[2] if play.app.error is not None else ""


def asked(play: FrameStage) -> list[str]:
    return [line.split(".", 1)[1] for line in play.said_by("host")]


# ---------------------------------------------------------------- huge and negative


def test_a_subsurface_larger_than_the_window_is_surrounded(play: FrameStage) -> None:
    _, sub, _ = play.part(size=(700, 600))
    play.app.request(sub, "set_position", -200, -100)
    play.app.request(play.window, "commit")

    assert sub_boxes(play) == [(-200, -100, 500, 500)]
    # The window's geometry is what it shows, since the app says no other.
    assert play.inner() == (-200, -100, 500, 500)


def test_it_is_covered_where_the_app_says_what_its_window_is(play: FrameStage) -> None:
    play.app.request(play.xdg_surface, "set_window_geometry", 0, 0, 100, 80)
    _, sub, _ = play.part(size=(700, 600))
    play.app.request(sub, "set_position", -200, -100)
    play.app.request(play.window, "commit")

    assert play.inner() == (0, 0, 100, 80)
    assert union(play.strips()) == (-200, -100, 500, 500)


def test_no_place_is_too_far_away(play: FrameStage) -> None:
    _, sub, _ = play.part()
    play.app.request(sub, "set_position", -(1 << 31), (1 << 31) - 1)
    play.app.request(play.window, "commit")

    assert sub_boxes(play) == [
        (-MAX_SIZE, MAX_SIZE, 10 - MAX_SIZE, MAX_SIZE + 10),
    ]
    assert play.app.error is None


def test_no_surface_is_larger_than_can_be_framed(play: FrameStage) -> None:
    surface, _, view = play.part()
    play.app.request(view, "set_destination", MAX_SIZE + 1, 5)
    play.app.request(surface, "commit")

    assert play.app.error is not None
    assert f"a framed window may have {MAX_SIZE}" in play.app.error[2]


def test_what_is_in_no_window_may_be_as_large_as_it_likes(play: FrameStage) -> None:
    loose = play.new_surface()
    play.paint_plain(loose, play.view(loose), MAX_COVER + 1, 5)
    play.app.request(loose, "commit")
    assert not refused(play)

    play.app.request(play.parts, "get_subsurface", loose.id, play.window.id)
    play.app.request(play.window, "commit")
    assert f"a framed window may have {MAX_COVER}" in refused(play)


def test_nor_a_window_with_all_that_is_in_it(play: FrameStage) -> None:
    parent = play.window
    for _ in range(3):
        parent, sub, _ = play.part(parent)
        play.app.request(sub, "set_position", MAX_SIZE, 0)
    play.app.request(play.window, "commit")

    assert play.app.error is not None
    assert f"a framed window may have {MAX_COVER}" in play.app.error[2]


def test_subsurfaces_in_each_other_without_end(play: FrameStage) -> None:
    parent = play.window
    for _ in range(MAX_DEPTH):
        parent, _, _ = play.part(parent)
    assert not refused(play)
    play.part(parent)

    assert f"a framed window may have {MAX_DEPTH}" in refused(play)


def test_more_subsurfaces_than_anybody_has(play: FrameStage) -> None:
    play.relay.go_alone()
    for _ in range(MAX_PARTS - 1):
        surface = play.new_surface()
        play.app.request(play.parts, "get_subsurface", surface.id, play.window.id)
    assert not refused(play)
    surface = play.new_surface()
    play.app.request(play.parts, "get_subsurface", surface.id, play.window.id)

    assert f"a framed window may have {MAX_PARTS}" in refused(play)


def test_a_surface_that_is_in_itself(play: FrameStage) -> None:
    """A compositor refuses that, which takes a while to arrive."""
    one, _, _ = play.part()
    two, _, _ = play.part(one)
    play.screen.surfaces.clear()  # whose model has no such errors
    play.host.watchers.clear()
    for child, parent in ((play.window, two), (one, one), (two, play.window)):
        play.app.request(play.parts, "get_subsurface", child.id, parent.id)
    play.app.request(play.window, "commit")

    assert play.closed is None


# ---------------------------------------------------------------- geometry that lies


@pytest.mark.parametrize(
    ("claimed", "inner"),
    [
        ((0, 0, 9999, 9999), (0, 0, 100, 80)),
        ((-500, -500, 510, 510), (0, 0, 10, 10)),
        ((5000, 5000, 10, 10), (0, 0, 100, 80)),
        ((50, 40, 1, 1), (50, 40, 51, 41)),
        ((-(1 << 31), -(1 << 31), 1, 1), (0, 0, 100, 80)),
    ],
)
def test_geometry_that_lies(
    play: FrameStage,
    claimed: tuple[int, int, int, int],
    inner: tuple[int, int, int, int],
) -> None:
    """No frame is around something else, and none within what it is around."""
    play.app.request(play.xdg_surface, "set_window_geometry", *claimed)
    play.app.request(play.window, "commit")

    assert play.inner() == inner


def test_geometry_that_is_none_is_the_compositors_to_refuse(play: FrameStage) -> None:
    play.host.watchers.clear()
    play.app.request(play.xdg_surface, "set_window_geometry", 0, 0, 0, -1)

    assert asked(play) == ["set_window_geometry(0, 0, 0, -1)"]


# ---------------------------------------------------------------- out of step


def test_what_grows_out_of_step_waits_for_the_frame(play: FrameStage) -> None:
    surface, sub, view = play.part()
    play.app.request(sub, "set_desync")
    play.app.request(play.window, "commit")
    play.said()

    play.app.request(view, "set_destination", 60, 60)
    play.app.request(surface, "commit")
    assert sub_boxes(play) == [(0, 0, 60, 60)], "within the frame, it does not wait"
    play.said()

    play.app.request(view, "set_destination", 300, 60)
    play.app.request(surface, "commit")
    assert asked(play)[-2:] == ["set_sync()", "commit()"]
    assert sub_boxes(play) == [(0, 0, 60, 60)]

    play.app.request(play.window, "commit")
    assert sub_boxes(play) == [(0, 0, 300, 60)]
    assert asked(play)[-2:] == ["commit()", "set_desync()"]

    play.app.request(view, "set_destination", 290, 60)
    play.app.request(surface, "commit")
    assert sub_boxes(play) == [(0, 0, 290, 60)]


def test_what_waits_when_it_is_put_out_of_step(play: FrameStage) -> None:
    surface, sub, view = play.part()
    play.app.request(play.window, "commit")
    play.app.request(view, "set_destination", 300, 60)
    play.app.request(surface, "commit")
    play.said()

    play.app.request(sub, "set_desync")
    assert asked(play) == []
    play.app.request(sub, "set_desync")
    assert sub_boxes(play) == [(0, 0, 10, 10)]

    play.app.request(play.window, "commit")
    assert sub_boxes(play) == [(0, 0, 300, 60)]
    assert asked(play)[-1] == "set_desync()"


def test_what_is_in_something_that_is_put_out_of_step(play: FrameStage) -> None:
    middle, sub, _ = play.part()
    inner, inner_sub, view = play.part(middle)
    play.app.request(middle, "commit")
    play.app.request(play.window, "commit")
    play.app.request(inner_sub, "set_desync")
    play.app.request(view, "set_destination", 300, 300)
    play.app.request(inner, "commit")

    play.app.request(sub, "set_desync")

    assert sub_boxes(play) == [(0, 0, 10, 10), (0, 0, 10, 10)]
    play.app.request(play.window, "commit")
    assert sub_boxes(play)[-1] == (0, 0, 300, 300)


def chain(play: FrameStage, size: tuple[int, int]) -> list[tuple[Thing, Thing, Thing]]:
    """Subsurfaces in each other, three deep, all shown; the innermost is of this size."""
    middle = play.part()
    inner = play.part(middle[0])
    leaf = play.part(inner[0], size)
    for surface in (inner[0], middle[0], play.window):
        play.app.request(surface, "commit")
    return [middle, inner, leaf]


def test_what_shrinks_is_covered_until_that_is_surely_shown(play: FrameStage) -> None:
    """Its parent is not committed: some compositors show it as it was, some as it is."""
    play.app.request(play.xdg_surface, "set_window_geometry", 0, 0, 100, 80)
    middle, inner, leaf = chain(play, (300, 50))
    play.app.request(leaf[2], "set_destination", 9, 9)
    play.app.request(leaf[0], "commit")
    play.app.request(play.window, "commit")
    assert union(play.strips()) == (-5, -5, 300, 85)

    for surface in (inner[0], middle[0], play.window):
        play.app.request(surface, "commit")
    assert union(play.strips()) == (-5, -5, 105, 85)


def test_what_moves_back_is_covered_until_that_is_surely_shown(
    play: FrameStage,
) -> None:
    play.app.request(play.xdg_surface, "set_window_geometry", 0, 0, 100, 80)
    middle, inner, leaf = chain(play, (10, 10))
    play.app.request(leaf[1], "set_position", 290, 0)
    for surface in (inner[0], middle[0], play.window):
        play.app.request(surface, "commit")
    play.app.request(leaf[1], "set_position", 0, 0)
    play.app.request(play.window, "commit")
    assert union(play.strips()) == (-5, -5, 300, 85)

    for surface in (inner[0], middle[0], play.window):
        play.app.request(surface, "commit")
    assert union(play.strips()) == (-5, -5, 105, 85)


def test_what_moves_there_and_back_at_once(play: FrameStage) -> None:
    play.app.request(play.xdg_surface, "set_window_geometry", 0, 0, 100, 80)
    _, sub, _ = play.part()
    play.app.request(play.window, "commit")
    for x in (300, 0):
        play.app.request(sub, "set_position", x, 0)
    play.app.request(play.window, "commit")

    assert union(play.strips()) == (-5, -5, 105, 85)


def test_what_is_out_of_step_in_what_is_not_is_shown_with_that(
    play: FrameStage,
) -> None:
    play.app.request(play.xdg_surface, "set_window_geometry", 0, 0, 100, 80)
    middle, inner, leaf = chain(play, (300, 50))
    for part in (inner, leaf):
        play.app.request(part[1], "set_desync")
    play.app.request(leaf[2], "set_destination", 9, 9)
    for surface in (leaf[0], inner[0], middle[0], play.window):
        play.app.request(surface, "commit")

    assert union(play.strips()) == (-5, -5, 105, 85)


def test_the_app_that_changes_its_mind_is_in_step(play: FrameStage) -> None:
    surface, sub, view = play.part()
    play.app.request(sub, "set_desync")
    play.app.request(view, "set_destination", 300, 60)
    play.app.request(surface, "commit")
    play.app.request(sub, "set_sync")
    play.said()

    play.app.request(play.window, "commit")

    assert "set_desync()" not in asked(play)


def test_a_window_whose_commits_are_queued_lets_nothing_out_of_step(
    play: FrameStage,
) -> None:
    fifo = play.plug("wp_fifo_manager_v1")
    play.app.request(fifo, "get_fifo", play.window.id)
    surface, sub, view = play.part()
    play.app.request(sub, "set_desync")
    play.app.request(play.window, "commit")
    play.app.request(view, "set_destination", 300, 60)
    play.app.request(surface, "commit")
    play.said()

    play.app.request(play.window, "commit")

    assert "set_desync()" not in asked(play)


def test_what_is_queued_is_covered_however_late_it_is_shown(play: FrameStage) -> None:
    play.app.request(play.xdg_surface, "set_window_geometry", 0, 0, 100, 80)
    fifo = play.plug("wp_fifo_manager_v1")
    middle, sub, view = play.part(size=(300, 50))
    _, inner_sub, _ = play.part(middle)
    play.app.request(fifo, "get_fifo", middle.id)
    play.app.request(inner_sub, "set_position", 0, 290)
    for surface in (middle, play.window):
        play.app.request(surface, "commit")
    play.app.request(sub, "set_desync")
    play.app.request(inner_sub, "set_position", 0, 0)
    play.app.request(view, "set_destination", 9, 9)
    for surface in (middle, play.window):
        play.app.request(surface, "commit")

    assert union(play.strips()) == (-5, -5, 300, 300)


def test_nothing_is_out_of_step_with_a_window_that_is_queued(play: FrameStage) -> None:
    """Even within the frame: which frame is shown by then, nobody knows."""
    surface, sub, view = play.part()
    play.app.request(sub, "set_desync")
    play.app.request(play.window, "commit")
    fifo = play.plug("wp_fifo_manager_v1")
    play.app.request(fifo, "get_fifo", play.window.id)
    play.said()

    play.app.request(view, "set_destination", 20, 20)
    play.app.request(surface, "commit")

    assert "set_sync()" in asked(play)
    assert sub_boxes(play) == [(0, 0, 10, 10)]


def test_what_waits_and_is_then_gone(play: FrameStage) -> None:
    surface, sub, view = play.part()
    play.app.request(sub, "set_desync")
    play.app.request(view, "set_destination", 300, 60)
    play.app.request(surface, "commit")
    play.app.request(sub, "destroy")
    play.app.request(surface, "destroy")

    play.app.request(play.window, "commit")

    assert sub_boxes(play) == []
    assert play.inner() == (0, 0, 100, 80)


# ---------------------------------------------------------------- above the frame


def test_nothing_is_put_above_the_frame(play: FrameStage) -> None:
    made: list[tuple[Thing, Thing, Thing]] = []
    for _ in range(3):
        made.append(play.part())
        for _, sub, _ in made:
            for sibling, _, _ in made:
                if sibling is not made[-1][0]:
                    continue
                if sub is not made[-1][1]:
                    play.app.request(sub, "place_above", sibling.id)
        play.app.request(play.window, "commit")

    boxes = play.screen.boxes(play.on_screen)
    assert [each.ours for each, _ in boxes] == [False] * 4 + [True] * len(Side)


def test_strips_have_no_name_that_an_app_could_guess(play: FrameStage) -> None:
    _, sub, _ = play.part()
    taken = set(play.app.things)
    ours = [each.thing.id for each in play.screen.surfaces.values() if each.ours]
    for guess in (*ours, *range(0xFF000000, 0xFF000010)):
        if guess not in taken:
            break
    play.app.request(sub, "place_above", guess)

    assert play.app.error is not None
    assert "invalid object" in play.app.error[2]


def test_a_frame_within_the_window_is_within_ours(play: FrameStage) -> None:
    """A toplevel that imitates another VM's frame: the outermost one is ours."""
    for x, y, width, height in ((0, 0, 100, 5), (0, 75, 100, 5), (0, 5, 5, 70)):
        surface, sub, view = play.part(size=(width, height))
        play.app.request(sub, "set_position", x, y)
        play.app.request(view, "set_destination", width, height)
        play.app.request(surface, "commit")
    play.app.request(play.window, "commit")

    outer = union([play.inner(), *play.strips()])
    guests = [*sub_boxes(play), (0, 0, 100, 80)]
    assert all(inside(each, outer) for each in guests)
    for index in range(4):
        assert [abs(a - b) for a, b in zip(outer, union(guests), strict=True)][
            index
        ] == RED.width


# ---------------------------------------------------------------- storms, and lives


def test_a_storm_of_sizes(play: FrameStage) -> None:
    surface, sub, view = play.part()
    play.app.request(sub, "set_desync")
    for turn in range(40):
        size = 10 + 97 * turn % 400
        play.app.request(view, "set_destination", size, 400 - size // 2)
        play.app.request(surface, "commit")
        play.shown(401 - size, size)
        play.app.request(sub, "set_position", -size, turn)
    play.app.request(play.window, "commit")

    assert play.app.error is None
    boxes = play.screen.boxes(play.on_screen)
    assert sum(each.ours for each, _ in boxes) == len(Side)


def test_subsurfaces_of_what_is_no_window_yet(play: FrameStage) -> None:
    loose = play.new_surface()
    child, sub, view = play.part(loose)
    play.app.request(sub, "set_desync")
    play.app.request(view, "set_destination", 900, 900)
    play.app.request(child, "commit")
    join = play.app.request(play.parts, "get_subsurface", loose.id, play.window.id)
    play.paint_plain(loose, play.view(loose), 5, 5)
    play.app.request(loose, "commit")
    play.app.request(join, "set_desync")
    play.app.request(loose, "commit")
    play.app.request(child, "commit")
    play.app.request(play.window, "commit")

    assert sub_boxes(play)[-1] == (0, 0, 900, 900)


def test_a_surface_that_is_destroyed_before_its_role(play: FrameStage) -> None:
    middle, _, _ = play.part()
    inner, _, view = play.part(middle)
    play.app.request(play.window, "commit")
    play.app.request(middle, "destroy")
    play.app.request(view, "set_destination", 900, 900)
    play.app.request(inner, "commit")
    play.app.request(play.window, "commit")

    assert sub_boxes(play) == []
    play.host.watchers.clear()
    play.app.request(play.window, "destroy")
    assert asked(play)[-12:] == ["destroy()"] * 12


def test_requests_about_what_is_destroyed(play: FrameStage) -> None:
    """The compositor refuses them; until that is heard, nothing here breaks."""
    play.host.checks = False
    surface, sub, view = play.part()
    for each in (surface, sub):
        play.app.request(each, "destroy")
    for name, args in (("attach", (0, 1, 1)), ("commit", ()), ("offset", (1, 1))):
        play.app.request(surface, name, *args)
    play.app.request(view, "set_destination", 3, 3)
    play.app.request(sub, "set_position", 1, 1)
    play.app.request(sub, "set_desync")
    play.app.request(play.window, "commit")

    assert play.closed is None


# ---------------------------------------------------------------- sizes of buffers


def shown_buffer(play: FrameStage, surface: Thing, **asked_for: int) -> None:
    (buffer,) = play.buffers()
    play.app.request(surface, "attach", buffer.id, 0, 0)
    for name, value in asked_for.items():
        play.app.request(surface, f"set_buffer_{name}", value)
    play.app.request(surface, "commit")
    play.app.request(play.window, "commit")


def test_scales_transforms_and_viewports_count(play: FrameStage) -> None:
    surface = play.new_surface()
    play.app.request(play.parts, "get_subsurface", surface.id, play.window.id)
    shown_buffer(play, surface)
    assert sub_boxes(play) == [(0, 0, 64, 64)]
    shown_buffer(play, surface, scale=3, transform=1)
    assert sub_boxes(play) == [(0, 0, 22, 22)]
    view = play.view(surface)
    play.app.request(view, "set_source", 0, 0, 7 * 256, 9 * 256)
    shown_buffer(play, surface)
    assert sub_boxes(play) == [(0, 0, 7, 9)]
    play.app.request(view, "set_destination", 300, 200)
    shown_buffer(play, surface)
    assert sub_boxes(play) == [(0, 0, 300, 200)]
    play.app.request(view, "destroy")
    shown_buffer(play, surface, scale=1)
    assert sub_boxes(play) == [(0, 0, 64, 64)]


def test_a_buffer_that_cannot_be_shown_leaves_what_is_there(play: FrameStage) -> None:
    (buffer,) = play.buffers()
    play.app.request(play.window, "attach", buffer.id, 0, 0)
    view = play.window.facts["view"]
    assert isinstance(view, Thing)
    play.app.request(view, "set_destination", -1, -1)
    play.create_fails = {CreateUdmabuf, CreateCopyBuffer}
    play.app.request(play.window, "commit")

    assert play.app.error is None
    assert play.inner() == (0, 0, 1, 1)


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_attached_aside_does_not_move_a_subsurface(version: int) -> None:
    play = FrameStage()
    play.shown(100, 80)
    maker = play.app.bind("wl_compositor", version)
    surface = play.app.request(maker, "create_surface")
    one, two = play.buffers(2)
    if version == 4:
        play.show(surface, one)
        play.app.request(surface, "attach", one.id, 500, 500)
    else:
        play.app.request(surface, "attach", one.id, 0, 0)
        play.app.request(surface, "offset", 500, 500)
    play.said()
    play.app.request(play.parts, "get_subsurface", surface.id, play.window.id)
    assert asked(play)[-2].endswith(("offset(0, 0)", ", 0, 0)"))
    if version == 4:
        play.app.request(surface, "attach", two.id, 500, 500)
    else:
        play.app.request(surface, "offset", 500, 500)
    play.app.request(surface, "commit")
    play.app.request(play.window, "commit")

    assert "500" not in "".join(play.said_by("host"))
