"""Surfaces: what mode C copies, and what is told about it all."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.playbook import NOTHING, ONLY_SHM, ZERO_COPY, Stage, geometry
from tests.relay.things import SERVER, Thing
from wlproxy.relay.buffers.surfaces import MAX_RECTANGLES
from wlproxy.relay.capabilities import Preference
from wlproxy.relay.commands import CreateUdmabuf, Trace, TraceLevel
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import Copied
from wlproxy.relay.wire.context import RelayConfig

SIZE = 16
"""Pixels of the small buffers here, each way."""

HUGE = 0x7FFFFFFF
NV12 = 0x3231564E


def small(play: Stage, number: int, fmt: int = 0) -> list[Thing]:
    """Buffers of 16x16 pixels, 4 bytes each, with 12 bytes between the rows."""
    stride = SIZE * 4 + 12
    pool = play.pool(play.shm, 8192 * number)
    made = [
        play.buffer(pool, 8192 * index + 20, SIZE, SIZE, stride, fmt)
        for index in range(number)
    ]
    play.app.request(pool, "destroy")
    return made


def copied_by(play: Stage) -> int:
    copied, play.shell.copied = play.shell.copied, 0
    return copied


# ---------------------------------------------------------------- what is copied


def test_only_the_damage_is_copied() -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1)
    play.show(play.surface, one)
    assert copied_by(play) == 76 * SIZE

    play.show(play.surface, one, 2, 3, 4, 5)
    assert copied_by(play) == 4 * 4 * 5

    play.show(play.surface, one, 0, 3, SIZE, 2)  # whole rows: in one run
    assert copied_by(play) == 76 * 2


@pytest.mark.parametrize(
    "outside",
    [(-5, 0, 5, 5), (SIZE, 0, 1, 1), (0, -9, 3, 3), (0, 0, 0, 5), (0, 0, 5, -1)],
)
def test_damage_outside_is_nothing(outside: tuple[int, int, int, int]) -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1)
    play.show(play.surface, one)
    copied_by(play)

    play.show(play.surface, one, *outside)

    assert copied_by(play) == 0


def test_a_commit_without_damage_copies_nothing_twice() -> None:
    play = Stage(NOTHING)
    one, two = small(play, 2)
    play.show(play.surface, one)
    play.show(play.surface, two)
    copied_by(play)

    play.app.request(play.surface, "commit")
    assert copied_by(play) == 0
    # `one` lacks what `two` brought, whether or not it is declared again.
    play.app.request(play.surface, "attach", one.id, 0, 0)
    play.app.request(play.surface, "commit")
    assert copied_by(play) == 76 * SIZE
    play.app.request(play.surface, "attach", one.id, 0, 0)
    play.app.request(play.surface, "commit")
    assert copied_by(play) == 0


def test_a_first_buffer_without_damage_is_copied() -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1)
    play.paint(one, 7)

    play.app.request(play.surface, "attach", one.id, 0, 0)
    play.app.request(play.surface, "commit")

    assert play.host_pixels() == play.pixels(one)


def test_damage_declared_often_is_copied_once() -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1)
    play.show(play.surface, one)
    copied_by(play)

    for _ in range(5):
        play.app.request(play.surface, "damage_buffer", 2, 2, 4, 4)
        play.app.request(play.surface, "damage_buffer", 3, 3, 2, 2)
    play.app.request(play.surface, "damage_buffer", 1, 1, 6, 6)
    play.app.request(play.surface, "commit")

    assert copied_by(play) == 6 * 4 * 6


def test_what_was_copied_is_counted_for_its_surface() -> None:
    play = Stage(NOTHING)
    one, two = small(play, 2)
    other = play.new_surface()
    play.show(play.surface, one)
    play.show(other, two)
    play.show(other, two, 0, 0, 2, 2)

    counts = {status.surface: status.bytes_copied for status in play.relay.surfaces()}

    assert counts == {play.surface.id: 76 * SIZE, other.id: 76 * SIZE + 16}
    play.relay.receive(Copied(1, Handle(4711), 5))  # of a buffer that is gone
    play.relay.receive(Copied(2, Handle(2), 5))  # of a client that is gone
    assert counts == {s.surface: s.bytes_copied for s in play.relay.surfaces()}


def test_many_rectangles_become_one() -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1)
    play.show(play.surface, one)
    copied_by(play)

    for index in range(1000):
        play.app.request(play.surface, "damage_buffer", index % 16, index // 16, 1, 1)
    play.app.request(play.surface, "commit")

    assert 76 * SIZE <= copied_by(play) <= 76 * SIZE + 4 * MAX_RECTANGLES


@pytest.mark.parametrize("how", ["scale", "transform", "viewport"])
def test_surface_damage_of_a_transformed_surface_is_everything(how: str) -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1)
    play.show(play.surface, one)
    copied_by(play)

    play.app.request(play.surface, "damage", 0, 0, 1, 1)  # before: applies all the same
    if how == "scale":
        play.app.request(play.surface, "set_buffer_scale", 2)
    elif how == "transform":
        play.app.request(play.surface, "set_buffer_transform", 1)
    else:
        viewporter = play.app.bind("wp_viewporter")
        play.app.request(viewporter, "get_viewport", play.surface.id)
    play.app.request(play.surface, "commit")
    assert copied_by(play) == 76 * SIZE

    play.app.request(play.surface, "commit")
    assert copied_by(play) == 0
    play.show(play.surface, one, 0, 0, 1, 1)  # in buffer pixels
    assert copied_by(play) == 4
    play.app.request(play.surface, "damage", 0, 0, 1, 1)
    play.app.request(play.surface, "commit")
    assert copied_by(play) == 76 * SIZE


def test_a_scale_of_one_transforms_nothing() -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1)
    play.show(play.surface, one)
    copied_by(play)

    play.app.request(play.surface, "set_buffer_scale", 1)
    play.app.request(play.surface, "set_buffer_transform", 0)
    play.app.request(play.surface, "damage", 0, 0, 2, 2)
    play.app.request(play.surface, "commit")

    assert copied_by(play) == 16


def test_a_viewport_of_what_is_no_surface_is_an_error() -> None:
    play = Stage()
    viewporter = play.app.bind("wp_viewporter")

    play.app.request(viewporter, "get_viewport", play.shm.id)

    assert play.app.error is not None


def test_planes_are_copied_whole() -> None:
    play = Stage(NOTHING)
    (one,) = small(play, 1, NV12)
    play.show(play.surface, one)
    assert copied_by(play) == 3 * 76 * SIZE

    play.show(play.surface, one, 1, 1, 1, 1)

    assert copied_by(play) == 3 * 76 * SIZE


def test_more_buffers_than_are_remembered() -> None:
    play = Stage(NOTHING)
    buffers = small(play, 8)

    for number, buffer in enumerate(buffers * 3):
        play.paint(buffer, number)
        play.show(play.surface, buffer)
        assert play.host_pixels() == play.pixels(buffer)


rectangles = st.tuples(
    *[st.one_of(st.integers(-2, SIZE), st.just(HUGE))] * 2,
    *[st.one_of(st.integers(0, SIZE + 2), st.just(HUGE))] * 2,
)


@dataclass(frozen=True)
class Step:
    """One frame of a window."""

    window: int
    buffer: int
    action: str
    damage: list[tuple[int, int, int, int]]
    request: str


steps = st.builds(
    Step,
    st.sampled_from([0, 0, 0, 1]),
    st.integers(0, 2),
    st.sampled_from(["attach", "attach", "attach", "stay", "hide", "renew", "scale"]),
    st.lists(rectangles, max_size=3),
    st.sampled_from(["damage", "damage_buffer"]),
)


class Windows:
    """Two windows that draw in turn into the same buffers, each declaring all of it."""

    def __init__(self, number: int) -> None:
        self.play = Stage(NOTHING)
        self.stride = SIZE * 4 + 12
        self.buffers = small(self.play, number)
        self.surfaces = [self.play.surface, self.play.new_surface()]
        self.canvas = [bytearray(self.stride * SIZE) for _ in self.surfaces]
        self.current: list[Thing | None] = [None, None]
        self.drawn_by: dict[Thing, int] = {}

    def step(self, step: Step, byte: int) -> None:
        play, me, surface = self.play, step.window, self.surfaces[step.window]
        if step.action == "scale":
            play.app.request(surface, "set_buffer_scale", 2)
        buffer = self._attach(step)
        for rectangle in step.damage:
            _draw(self.canvas[me], self.stride, rectangle, byte)
            play.app.request(surface, step.request, *rectangle)
        if buffer is not None:
            memory, offset = buffer.facts["memory"], geometry(buffer)[0]
            assert isinstance(memory, int)
            play.shell.write(memory, offset, bytes(self.canvas[me]))
            self.drawn_by[buffer] = me
        play.app.request(surface, "commit")
        self.current[me] = buffer
        if buffer is not None:
            assert play.host_pixels(me) == self.canvas[me]

    def _attach(self, step: Step) -> Thing | None:
        me = step.window
        index = step.buffer % len(self.buffers)
        old = self.current[me]
        if step.action == "renew" and self.buffers[index] not in self.current:
            self.play.app.request(self.buffers[index], "destroy")
            (self.buffers[index],) = small(self.play, 1)
        if step.action == "stay" and (old is None or self.drawn_by[old] == me):
            return old
        buffer = None if step.action == "hide" else self.buffers[index]
        number = buffer.id if buffer is not None else 0
        self.play.app.request(self.surfaces[me], "attach", number, 0, 0)
        return buffer


@settings(max_examples=60)
@given(frames=st.lists(steps, min_size=2, max_size=15), number=st.integers(1, 3))
def test_a_copy_shows_what_the_app_drew(frames: list[Step], number: int) -> None:
    """An app that declares all it draws sees all of it, whatever buffer it takes."""
    windows = Windows(number)
    for byte, step in enumerate(frames, 1):
        windows.step(step, byte)
    assert windows.play.app.error is None


def _draw(
    canvas: bytearray, stride: int, rectangle: tuple[int, int, int, int], byte: int
) -> None:
    x, y, width, height = rectangle
    for row in range(max(y, 0), min(y + height, SIZE)):
        left, right = max(x, 0) * 4, min(x + width, SIZE) * 4
        if left < right:
            canvas[row * stride + left : row * stride + right] = bytes([byte]) * (
                right - left
            )


# ---------------------------------------------------------------- what is told


def test_the_status_of_a_window() -> None:
    play = Stage(ONLY_SHM)
    shell = play.app.bind("xdg_wm_base")
    xdg_surface = play.app.request(shell, "get_xdg_surface", play.surface.id)
    toplevel = play.app.request(xdg_surface, "get_toplevel")
    play.app.request(toplevel, "set_title", b"Files")
    play.app.request(toplevel, "set_app_id", b"org.files")
    (one,) = small(play, 1)
    play.show(play.surface, one)
    play.show(play.surface, one)

    (status,) = play.relay.surfaces()

    assert (status.title, status.app_id) == ("Files", "org.files")
    assert (status.width, status.height, status.shm_format) == (SIZE, SIZE, 0)
    assert (status.frames, status.bytes_copied) == (2, 0)
    assert status.surface == play.surface.id
    play.app.request(play.surface, "destroy")
    assert play.relay.surfaces() == []


def popups(play: Stage, strides: list[int]) -> list[Trace]:
    """Show a surface each, one after the other; what is logged of it."""
    before = len(play.traces)
    for stride in strides:
        (buffer,) = play.buffers(1, stride=stride)
        surface = play.new_surface()
        play.show(surface, buffer)
        play.app.request(surface, "destroy")
        play.app.request(buffer, "destroy")
    return play.traces[before:]


def test_a_mode_and_its_reason_are_logged_once_for_all_surfaces() -> None:
    """They are the same where only the numbers in it differ."""
    play = Stage()

    assert len(popups(play, [256])) == 1
    told = popups(play, [260 + 4 * index for index in range(20)])

    assert [(trace.level, "stride 260" in trace.message) for trace in told] == [
        (TraceLevel.INFO, True)
    ]


def test_modes_are_not_logged_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wlproxy.relay.buffers.surfaces.MAX_TOLD", 1)
    play = Stage()

    assert len(popups(play, [256, 260])) == 1


def test_copying_is_warned_of_once_for_each_reason() -> None:
    play = Stage(replace(ZERO_COPY, udmabuf_list_limit=4))

    told = popups(play, [256, 256, 512, 1024])

    assert [trace.level for trace in told] == [TraceLevel.WARNING]
    assert "5 extents, udmabuf list_limit is 4: raise it" in told[0].message
    play.create_fails = {CreateUdmabuf}
    for buffer in small(play, 2):
        play.show(play.surface, buffer)
    assert [warning for warning in play.warnings() if "mode C" in warning] == [
        told[0].message,
        "surface 5 16x16: copied, mode C (not mapped: no memory (errno 12))",
    ]


def test_copying_is_warned_of_once_for_all_apps() -> None:
    play = Stage(NOTHING)
    assert [trace.level for trace in popups(play, [256])] == [TraceLevel.WARNING]

    # As another app, to which nothing was logged yet.
    play.relay.edit(lambda objects: objects["Surfaces"][0].update(told=[]))

    assert [trace.level for trace in popups(play, [256])] == [TraceLevel.INFO]


def test_copying_that_was_asked_for_is_not_warned_of() -> None:
    play = Stage(NOTHING, RelayConfig(preference=Preference.COPY))

    told = popups(play, [256, 512])

    assert [trace.level for trace in told] == [TraceLevel.INFO]
    assert "copied, mode C (asked for)" in told[0].message


def test_cursors_keep_to_mode_a() -> None:
    play = Stage()
    seat = play.app.bind("wl_seat")
    pointer = play.app.request(seat, "get_pointer")
    play.app.request(pointer, "set_cursor", 1, play.surface.id, 0, 0)
    play.app.request(pointer, "set_cursor", 1, 0, 0, 0)
    one, two = play.buffers(2)

    for buffer in (one, two, one, two):
        play.show(play.surface, buffer)

    assert play.mode == "A"


def test_the_cursors_of_pens_do_so_too() -> None:
    play = Stage()
    tablets = play.plug("zwp_tablet_manager_v2")
    play.app.request(tablets, "get_tablet_seat", play.app.bind("wl_seat").id)
    play.host.event(play.host_thing("zwp_tablet_seat_v2"), "tool_added")
    play.flush()
    (pen,) = (t for t in play.app.things.values() if t.id >= SERVER)
    play.app.request(pen, "set_cursor", 1, play.surface.id, 0, 0)
    one, two = play.buffers(2)

    for buffer in (one, two, one, two):
        play.show(play.surface, buffer)

    assert play.mode == "A"


def test_a_pending_buffer_is_replaced() -> None:
    play = Stage(ONLY_SHM)
    one, two = play.buffers(2)
    play.app.request(play.surface, "attach", one.id, 0, 0)
    play.app.request(play.surface, "attach", two.id, 0, 0)
    play.app.request(play.surface, "attach", two.id, 0, 0)
    play.app.request(one, "destroy")

    play.app.request(play.surface, "commit")

    assert play.host_pixels() == play.pixels(two)
    assert "agent: Locate(#2" not in "".join(play.said())  # nobody saw the other
