"""A guest whose clock differs from the host's: times are right on both sides.

The agent's clock is ahead of the process's, as a guest's is; what the app reads as its
own is that clock too.
"""

import time

import pytest
import trio
from pywayland.protocol.commit_timing_v1 import WpCommitTimingManagerV1
from pywayland.protocol.input_timestamps_unstable_v1 import (
    ZwpInputTimestampsManagerV1,
)
from pywayland.protocol.presentation_time import WpPresentation
from pywayland.protocol.relative_pointer_unstable_v1 import (
    ZwpRelativePointerManagerV1,
)
from pywayland.protocol.wayland import WlSeat

import wlproxy.host.session
import wlproxy_guest.session
from tests.peers.app import App
from tests.peers.compositor import Compositor
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback

SECOND = 10**9
AHEAD = 86400 * SECOND + 123_456_789
TIMER = WpCommitTimingManagerV1.name


class GuestClock:
    """What the guest's CLOCK_MONOTONIC says, and how far it is ahead."""

    def __init__(self) -> None:
        self.ahead = AHEAD
        self.told = True

    def now(self) -> int:
        return time.monotonic_ns() + self.ahead

    def tell(self) -> int:
        return self.now() if self.told else 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> GuestClock:
    guest = GuestClock()
    monkeypatch.setattr(wlproxy_guest.session, "monotonic_ns", guest.tell)
    return guest


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host looks at the guest's clock all the time."""
    monkeypatch.setattr(wlproxy.host.session, "PING_INTERVAL", 0.01)


@pytest.fixture
async def timed(clock: GuestClock, bare: Loopback) -> Loopback:
    """Everything runs; the compositor has whatever tells times."""
    await bare.start_compositor()
    for kind in (
        WpCommitTimingManagerV1,
        ZwpInputTimestampsManagerV1,
        ZwpRelativePointerManagerV1,
    ):
        bare.compositor.add_global(kind, 1)
    await bare.start_agent()
    await bare.start_host()
    return bare


def resource(compositor: Compositor, interface: str) -> Resource:
    return compositor.apps[-1].find(interface)


def timespec(nanoseconds: int) -> tuple[int, int, int]:
    seconds, rest = divmod(nanoseconds, SECOND)
    return seconds >> 32, seconds & 0xFFFFFFFF, rest


def nanoseconds(high: int, low: int, rest: int) -> int:
    return (high << 32 | low) * SECOND + rest


def is_ahead(
    loopback: Loopback, seen: int, sent: int, by: int = AHEAD, unit: int = 1
) -> bool:
    """Whether a time in some unit is what was sent, and so much later."""
    error: int = loopback.status()["clock"]["error_ns"]
    return abs(seen * unit - sent * unit - by) <= error + unit


async def test_the_offset_is_known_before_the_first_app(timed: Loopback) -> None:
    clock = timed.status()["clock"]

    assert 0 < clock["error_ns"] < SECOND
    assert abs(clock["offset_ns"] - AHEAD) <= clock["error_ns"]


async def test_input_times_are_the_guests(timed: Loopback) -> None:
    app, compositor = await timed.app(), timed.compositor
    seat = app.bind(WlSeat)
    pointer = app.keep(seat.get_pointer())
    touch = app.keep(seat.get_touch())
    stamps = app.keep(
        app.bind(ZwpInputTimestampsManagerV1).get_pointer_timestamps(pointer)
    )
    relative = app.keep(
        app.bind(ZwpRelativePointerManagerV1).get_relative_pointer(pointer)
    )
    moved, lifted = app.record(pointer, "motion"), app.record(touch, "up")
    stamped, turned = (
        app.record(stamps, "timestamp"),
        app.record(relative, "relative_motion"),
    )
    await app.roundtrip()

    milliseconds = 123_456
    resource(compositor, "wl_pointer").send("motion", milliseconds, 1.5, 2.5)
    resource(compositor, "wl_touch").send("up", 5, milliseconds, 3)
    resource(compositor, "zwp_input_timestamps_v1").send("timestamp", 0, 5, 6)
    resource(compositor, "zwp_relative_pointer_v1").send(
        "relative_motion", 1, 2, 0.5, 0.5, 0.5, 0.5
    )
    await app.until(lambda: moved and lifted and stamped and turned)

    assert moved[0][1:] == (1.5, 2.5)
    assert lifted[0][0::2] == (5, 3)
    for seen in (moved[0][0], lifted[0][1]):
        assert is_ahead(timed, seen, milliseconds, unit=1_000_000)
    assert is_ahead(timed, nanoseconds(*stamped[0]), nanoseconds(0, 5, 6))
    high, low = turned[0][:2]
    assert is_ahead(timed, high << 32 | low, 1 << 32 | 2, unit=1000)


async def test_frames_are_shown_by_the_guests_clock(timed: Loopback) -> None:
    app = await timed.app()
    surface, canvas = app.surface(), app.canvas((8, 8))
    feedback = app.keep(app.bind(WpPresentation).feedback(surface))
    presented = app.record(feedback, "presented")
    callback = app.keep(surface.frame())
    done = app.record(callback, "done")

    await app.show(surface, canvas)
    await app.until(lambda: presented and done)

    shown = ((1 << 33) + 5) * SECOND + 7  # what the compositor says
    assert is_ahead(timed, nanoseconds(*presented[0][:3]), shown)
    assert presented[0][3:] == (16_666_666, 0, 42, 1)
    assert is_ahead(timed, done[0][0], 1234, unit=1_000_000)


async def test_a_frame_is_held_back_by_the_hosts_clock(
    timed: Loopback, clock: GuestClock
) -> None:
    app = await timed.app()
    surface = app.surface()
    timer = app.keep(app.bind(WpCommitTimingManagerV1).get_timer(surface))

    soon = clock.now() + SECOND // 10
    timer.set_timestamp(*timespec(soon))
    await app.roundtrip()

    [asked] = timed.compositor.called("wp_commit_timer_v1.set_timestamp")
    assert is_ahead(timed, soon, nanoseconds(*asked.args))


async def test_a_guest_that_was_suspended(
    quick: None, timed: Loopback, clock: GuestClock
) -> None:
    app = await timed.app()
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    moved = app.record(pointer, "motion")
    await app.roundtrip()

    clock.ahead -= 3600 * SECOND  # an hour that the guest has not counted
    later = clock.ahead
    await timed.until(
        lambda: abs(timed.status()["clock"]["offset_ns"] - later) < SECOND
    )
    resource(timed.compositor, "wl_pointer").send("motion", 1 << 31, 1.5, 2.5)
    await app.until(lambda: moved)

    assert is_ahead(timed, moved[0][0], 1 << 31, later, unit=1_000_000)


async def test_an_agent_that_does_not_tell_its_clock(
    quick: None, clock: GuestClock, bare: Loopback
) -> None:
    """Times pass as they are, and no frame can be timed until the clock is known."""
    clock.told = False
    await bare.start_compositor()
    bare.compositor.add_global(WpCommitTimingManagerV1, 1)
    await bare.start_agent()
    await bare.start_host()
    app = await bare.app()
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    moved = app.record(pointer, "motion")
    await app.roundtrip()
    resource(bare.compositor, "wl_pointer").send("motion", 1234, 1.5, 2.5)
    await app.until(lambda: moved)

    assert moved == [(1234, 1.5, 2.5)]
    assert bare.status()["clock"] is None
    assert TIMER not in app.interfaces

    clock.told = True
    await app.until(lambda: TIMER in app.interfaces)
    app.bind(WpCommitTimingManagerV1)
    await app.roundtrip()


async def test_one_clock_on_both_sides_is_exact(loopback: Loopback) -> None:
    """As in a container, or where the host is the guest: nothing is changed."""
    loopback.compositor.add_global(ZwpInputTimestampsManagerV1, 1)
    app: App = await loopback.app()
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    stamps = app.keep(
        app.bind(ZwpInputTimestampsManagerV1).get_pointer_timestamps(pointer)
    )
    stamped = app.record(stamps, "timestamp")
    await app.roundtrip()
    with trio.fail_after(30):
        resource(loopback.compositor, "zwp_input_timestamps_v1").send(
            "timestamp", 1, 2, 3
        )
        await app.until(lambda: stamped)

    assert stamped == [(1, 2, 3)]
    assert loopback.status()["clock"]["offset_ns"] == 0
