"""Limits end no app: unused buffers make room, and what finds no room is not shown."""

import errno
from collections.abc import Callable

import pytest

from tests.relay.dmabufs import XRGB, DmabufStage
from tests.relay.playbook import NOTHING, ONLY_SHM, ZERO_COPY, Playbook, Stage
from tests.relay.shell import PAGE
from tests.relay.things import Thing
from tests.relay.twins import values
from wlproxy.protocol.channel.frames import Located, LocateStatus
from wlproxy.relay.buffers import surfaces
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import CreateCopyBuffer, CreateUdmabuf
from wlproxy.relay.inputs import ClockSample
from wlproxy.relay.policy_tree import Limits, Policy

MANY = 40
"""Frames, where the limits are a few."""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Limit a client to a few locations."""
    monkeypatch.setattr(Playbook, "policy", Policy(limits=Limits(app_locations=6)))
    return 6


def pages(play: Stage, number: int) -> list[Thing]:
    """Buffers of a page each, in a pool that is gone."""
    pool = play.pool(play.shm, number * PAGE)
    made = [play.buffer(pool, index * PAGE, 32, 32, 128) for index in range(number)]
    play.app.request(pool, "destroy")
    return made


def show(play: Stage, surface: Thing, buffer: Thing, byte: int) -> None:
    play.paint(buffer, byte)
    play.show(surface, buffer)
    assert play.closed is None, play.app.error


def shows(play: Stage, buffer: Thing, surface: int = 0) -> bool:
    return play.host_pixels(surface) == play.pixels(buffer)


def count(play: Stage, interface: str) -> int:
    return sum(t.interface.name == interface for t in play.host.things.values())


# ---------------------------------------------------------------- what is not in use


@pytest.mark.parametrize("capabilities", [ZERO_COPY, ONLY_SHM, NOTHING])
def test_released_buffers_make_room_and_are_shown_again(
    few: int, capabilities: CompositorCapabilities
) -> None:
    play = Stage(capabilities)
    buffers = pages(play, MANY)

    for turn in range(2):
        for number, buffer in enumerate(buffers):
            show(play, play.surface, buffer, 100 * turn + number)
            assert shows(play, buffer)
            assert len(play.shell.pins) <= few

    assert play.mode != "none"
    for buffer in buffers:
        play.app.request(buffer, "destroy")
    play.app.request(play.surface, "destroy")
    play.nothing_left()


def test_copies_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Playbook, "policy", Policy(limits=Limits(app_copy_bytes=3 * PAGE))
    )
    play = Stage(NOTHING)

    for number, buffer in enumerate(pages(play, MANY)):
        show(play, play.surface, buffer, number)
        assert shows(play, buffer)

    assert len(play.shell.copies) <= 3


def test_what_the_compositor_never_releases_makes_room_as_well(few: int) -> None:
    play = Stage(ONLY_SHM)
    play.host.releases = False
    buffers = pages(play, MANY)

    for number, buffer in enumerate(buffers):
        show(play, play.surface, buffer, number)
        assert shows(play, buffer)
        assert len(play.shell.pins) <= few

    released = [line for line in play.said_by("app") if "release" in line]
    assert f"{buffers[0]}.release()" in released  # nothing reads it any more
    assert f"{buffers[-1]}.release()" not in released
    assert len(released) == len(set(released)) >= MANY - few


def test_imports_make_room(few: int) -> None:
    play = Stage()
    pair = play.buffers(2)
    for number, buffer in enumerate(pair * 3):
        show(play, play.surface, buffer, number)
    assert play.mode == "B"

    for number, buffer in enumerate(pages(play, MANY)):
        show(play, play.surface, buffer, number)
        assert shows(play, buffer)

    for number, buffer in enumerate(pair * 3):
        show(play, play.surface, buffer, 99 - number)
        assert shows(play, buffer)
    assert play.mode == "B"
    assert count(play, "wl_buffer") <= few


def test_the_guest_has_no_room_for_more(few: int) -> None:
    play = Stage(ONLY_SHM)
    one, two = pages(play, 2)
    show(play, play.surface, one, 1)
    show(play, play.surface, one, 2)
    play.app.request(play.surface, "attach", 0, 0, 0)
    play.app.request(play.surface, "commit")
    play.holds_locate = True
    play.show(play.surface, two)
    play.said()

    limit = LocateStatus.LIMIT_EXCEEDED
    play.answer_locate(Located(1, play.locates[0].location_id, limit, 0, False, ()))

    # What is idle goes, then the question is asked anew.
    said = play.said()
    assert said.index("agent: Release(#1)") < said.index(
        "agent: Locate(#3, memory 1, 4096+4096)"
    )
    play.answer_locate()
    assert shows(play, two)


def test_a_buffer_of_an_icon_makes_no_room(few: int) -> None:
    """Its protocol calls it an error to destroy one."""
    play = Stage(ONLY_SHM)
    icons = play.app.bind("xdg_toplevel_icon_manager_v1")
    icon = play.app.request(icons, "create_icon")
    first, *others = pages(play, MANY)
    show(play, play.surface, first, 1)
    play.app.request(icon, "add_buffer", first.id, 1)
    (added,) = [
        thing for thing in play.host.things.values() if "geometry" in thing.facts
    ]

    for number, buffer in enumerate(others):
        show(play, play.surface, buffer, number)

    assert len(play.shell.pins) <= few
    assert added.alive


# ---------------------------------------------------------------- nothing makes room


@pytest.mark.parametrize("capabilities", [ONLY_SHM, NOTHING])
def test_more_windows_than_there_is_room_for(
    few: int, capabilities: CompositorCapabilities
) -> None:
    play = Stage(capabilities)
    surfaces = [play.surface, *(play.new_surface() for _ in range(few + 3))]
    buffers = pages(play, len(surfaces))
    play.said()

    for number, (surface, buffer) in enumerate(zip(surfaces, buffers, strict=True)):
        show(play, surface, buffer, number)
        play.app.request(surface, "frame")
        play.app.request(surface, "commit")

    said = play.said()
    assert sum("attach" in line for line in said) == few
    assert sum("frame" in line for line in said) == len(surfaces)
    assert [f"app: {each}.release()" in said for each in buffers[few:]] == [True] * 4
    assert sum("is not shown" in text for text in play.warnings()) == 1  # for all four
    modes = [status.mode for status in play.relay.surfaces()]
    assert modes[few:] == ["none"] * 4
    assert "none" not in modes[:few]

    # One goes, and what comes next is shown.
    play.app.request(surfaces[0], "destroy")
    show(play, surfaces[-1], buffers[-1], 77)
    assert shows(play, buffers[-1], few + 2)


def test_an_icon_without_room_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Playbook, "policy", Policy(limits=Limits(app_locations=1)))
    play = Stage(ONLY_SHM)
    icons = play.app.bind("xdg_toplevel_icon_manager_v1")
    icon = play.app.request(icons, "create_icon")
    one, two = pages(play, 2)
    show(play, play.surface, one, 1)
    play.said()

    play.app.request(icon, "add_buffer", two.id, 1)

    assert play.closed is None
    assert not play.said_by("host")
    assert any("is not shown" in text for text in play.warnings())


def test_pages_in_too_many_runs_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Playbook, "policy", Policy(limits=Limits(app_runs=7)))
    play = Stage(ONLY_SHM)
    one, two = play.buffers(2)  # five pages each, no two of which are neighbours
    show(play, play.surface, one, 1)
    second = play.new_surface()

    show(play, second, two, 2)

    assert len(play.shell.pins) == 1
    assert "LIMIT_EXCEEDED" in play.relay.surfaces()[1].reason
    play.app.request(play.surface, "destroy")
    show(play, second, two, 3)
    assert shows(play, two)


# ---------------------------------------------------------------- not released


def test_a_buffer_for_each_frame_that_is_not_released(few: int) -> None:
    play = Stage(ONLY_SHM)
    play.host.releases = False
    last = None

    for number, buffer in enumerate(pages(play, MANY)):
        show(play, play.surface, buffer, number)
        if last is not None:
            play.app.request(last, "destroy")
        last = buffer
        assert shows(play, buffer)
        assert len(play.shell.pins) < few
        assert count(play, "wl_buffer") < few

    assert last is not None
    play.app.request(last, "destroy")
    play.host.releases = True
    play.app.request(play.surface, "destroy")
    play.nothing_left()


def frames(play: Stage, surface: Thing, number: int) -> None:
    """Show buffers that are destroyed as soon as there is another."""
    for index, buffer in enumerate(pages(play, number)):
        show(play, surface, buffer, index)
        play.app.request(buffer, "destroy")


def test_what_a_subsurface_shows_stays_until_its_parent_shows_something_new() -> None:
    play = Stage(ONLY_SHM)
    play.host.releases = False
    subcompositor = play.app.bind("wl_subcompositor")
    child = play.new_surface()
    role = play.app.request(subcompositor, "get_subsurface", child.id, play.surface.id)
    (first,) = pages(play, 1)
    show(play, child, first, 1)
    play.app.request(play.surface, "commit")
    play.app.request(first, "destroy")
    [shown] = play.shell.pins

    frames(play, child, MANY)

    assert shown in play.shell.pins  # the compositor still shows it
    assert len(play.shell.pins) < 8  # and none of those between
    play.app.request(play.surface, "commit")
    play.app.request(role, "set_desync")
    frames(play, child, MANY)
    assert shown not in play.shell.pins
    assert len(play.shell.pins) < 8
    play.app.request(role, "destroy")
    play.app.request(child, "destroy")
    play.app.request(play.surface, "destroy")
    play.flush()


def test_subsurfaces_in_each_other() -> None:
    play = Stage(ONLY_SHM)
    play.host.releases = False
    subcompositor = play.app.bind("wl_subcompositor")
    middle, inner = play.new_surface(), play.new_surface()
    play.app.request(subcompositor, "get_subsurface", middle.id, play.surface.id)
    role = play.app.request(subcompositor, "get_subsurface", inner.id, middle.id)
    play.app.request(role, "set_desync")  # of no use: `middle` is in step
    (first,) = pages(play, 1)
    show(play, inner, first, 1)
    play.app.request(middle, "commit")
    play.app.request(play.surface, "commit")
    play.app.request(first, "destroy")
    [shown] = play.shell.pins

    frames(play, inner, MANY)
    play.app.request(middle, "commit")
    frames(play, inner, MANY)
    assert shown in play.shell.pins

    play.app.request(play.surface, "commit")
    frames(play, play.surface, MANY)
    assert shown not in play.shell.pins
    assert len(play.shell.pins) < 12


def test_a_parent_that_is_gone_holds_nothing() -> None:
    play = Stage(ONLY_SHM)
    play.host.releases = False
    subcompositor = play.app.bind("wl_subcompositor")
    child = play.new_surface()
    play.app.request(subcompositor, "get_subsurface", child.id, play.surface.id)
    frames(play, child, 2)

    play.app.request(play.surface, "destroy")
    frames(play, child, MANY)

    assert len(play.shell.pins) < 8


@pytest.mark.parametrize(
    ("manager", "request_name"),
    [
        ("wp_fifo_manager_v1", "get_fifo"),
        ("wp_commit_timing_manager_v1", "get_timer"),
    ],
)
def test_commits_that_are_shown_late_wait_for_the_release(
    manager: str, request_name: str
) -> None:
    play = Stage(ONLY_SHM)
    play.host.releases = False
    play.run(play.relay.receive(ClockSample(1, 1, 2)))  # else there is no timer
    queue = play.plug(manager)
    play.app.request(queue, request_name, play.surface.id)

    frames(play, play.surface, MANY)

    assert len(play.shell.pins) == MANY
    play.host.releases = True
    play.host.release()
    play.flush()
    assert len(play.shell.pins) == 1


# ---------------------------------------------------------------- judged at the commit


SHORT = LocateStatus.OUT_OF_RANGE


def judged(play: Stage, status: LocateStatus = SHORT) -> None:
    """Answer the question that waits."""
    (locate,) = play.locates
    play.answer_locate(Located(1, locate.location_id, status, 0, False, ()))


def replaced(play: Stage, short: Thing, good: Thing) -> None:
    play.app.request(play.surface, "attach", short.id, 0, 0)
    play.show(play.surface, good)


def removed(play: Stage, short: Thing, _good: Thing) -> None:
    play.app.request(play.surface, "attach", short.id, 0, 0)
    play.show(play.surface, None)


def gone(play: Stage, short: Thing, _good: Thing) -> None:
    play.app.request(play.surface, "attach", short.id, 0, 0)
    play.app.request(play.surface, "destroy")


@pytest.mark.parametrize("before", [replaced, removed, gone])
def test_a_buffer_that_is_never_committed_is_not_judged(
    before: Callable[[Stage, Thing, Thing], None],
) -> None:
    play = Stage(ONLY_SHM)
    short, good = pages(play, 2)
    play.said()

    before(play, short, good)

    assert play.closed is None
    assert "memory 1, 0+4096" not in "".join(play.said())


def test_a_short_buffer_is_destroyed_before_the_commit() -> None:
    play = Stage(ONLY_SHM)
    play.holds_locate = True
    short, good = pages(play, 2)
    play.app.request(play.surface, "attach", short.id, 0, 0)

    play.app.request(short, "destroy")
    judged(play)
    play.app.request(play.surface, "commit")

    assert play.closed is None
    play.holds_locate = False
    show(play, play.surface, good, 1)
    assert shows(play, good)


def test_a_buffer_destroyed_before_the_commit_is_for_the_compositor_to_judge() -> None:
    play = Stage(ONLY_SHM)
    (one,) = pages(play, 1)
    play.app.request(play.surface, "attach", one.id, 0, 0)
    play.said()

    play.app.request(one, "destroy")

    requests = [line.partition(".")[2] for line in play.said_by("host")]
    attached = next(i for i, each in enumerate(requests) if each.startswith("attach("))
    assert requests[attached + 1] == "destroy()"


def test_the_pools_file_is_made_longer_before_the_commit() -> None:
    play = Stage(ONLY_SHM)
    pool = play.pool(play.shm, PAGE)
    play.app.request(pool, "resize", 2 * PAGE)
    buffer = play.buffer(pool, PAGE, 32, 32, 128)
    play.app.request(play.surface, "attach", buffer.id, 0, 0)

    play.shell.grow(1)
    play.app.request(play.surface, "commit")

    assert play.closed is None
    assert shows(play, buffer)


def test_a_short_buffer_that_is_committed_ends_its_app() -> None:
    play = Stage(ONLY_SHM)
    play.holds_locate = True
    (short,) = pages(play, 1)

    play.show(play.surface, short)
    judged(play)

    assert play.app.error == (
        short.id,
        2,
        "wlproxy: the pool's file ends before its buffer",
    )


# ---------------------------------------------------------------- made anew


def test_a_created_buffer_that_makes_room_is_not_said_to_have_failed(few: int) -> None:
    """`created` was the answer; the app may not get another."""
    play = DmabufStage()
    params, parts = play.create()
    buffer = play.known(play.app.created.pop(), parts, (64, 64), XRGB)
    for number, other in enumerate(pages(play, MANY)):
        show(play, play.surface, other, number)
    play.create_fails = {CreateUdmabuf, CreateCopyBuffer}
    play.said()

    play.show(play.surface, buffer)

    assert play.closed is None
    said = play.said_by("app")
    assert f"{buffer}.release()" in said
    assert not [line for line in said if "failed" in line]
    play.app.request(params, "destroy")


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM])
def test_what_the_guest_lacks_is_made_room_for(error: int) -> None:
    play = Stage(ONLY_SHM)
    one, two, three = pages(play, 3)
    show(play, play.surface, one, 1)
    show(play, play.surface, two, 2)
    play.holds_locate = True
    play.show(play.surface, three)

    located = play.locates[0].location_id
    failed = LocateStatus.FAILED
    play.answer_locate(Located(1, located, failed, error, False, ()))

    assert len(play.shell.pins) == 1  # that of `two`, which is shown
    play.answer_locate()
    assert shows(play, three)


def test_a_buffer_that_is_being_made_again_makes_no_room() -> None:
    """The one that waits for its import is the one that was idle."""
    play = DmabufStage()
    one, two = play.buffers(2)
    show(play, play.surface, one, 1)
    show(play, play.surface, two, 2)
    play.host.imports = "hold"
    play.holds_locate = True
    params = play.params(play.parts((16, 16), XRGB))
    play.app.request(params, "create", 16, 16, XRGB, 0)
    play.show(play.surface, one)  # from mode A to mode B
    pins = len(play.shell.pins)

    located, status = play.locates[0].location_id, LocateStatus.LIMIT_EXCEEDED
    play.answer_locate(Located(1, located, status, 0, False, ()))

    assert "failed()" in "".join(play.said_by("app"))  # nothing could make room
    assert len(play.shell.pins) == pins
    play.host.answer()
    play.flush()
    assert shows(play, one)
    assert play.mode == "B"


def test_so_many_wait_for_a_parent_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "MAX_BENEATH", 5)
    play = Stage(ONLY_SHM)
    play.host.releases = False
    subcompositor = play.app.bind("wl_subcompositor")
    children = [play.new_surface() for _ in range(20)]
    for child in children:
        play.app.request(subcompositor, "get_subsurface", child.id, play.surface.id)

    for child in children:
        frames(play, child, 1)
    play.app.request(play.surface, "commit")
    for child in children:
        frames(play, child, 1)

    assert (
        max(len(values(each["beneath"])) for each in play.relay.known("Surface")) == 5
    )
