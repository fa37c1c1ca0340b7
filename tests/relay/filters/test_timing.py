"""Presentation times: the host's clock on one side, the guest's on the other."""

import struct

import pytest

from tests.relay.compositor import GLOBALS
from tests.relay.playbook import Playbook, Stage
from tests.relay.things import Thing
from tests.relay.twins import forget_guest
from wlproxy.protocol.wayland.message import NewId
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.inputs import ClockSample
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.clock import GOOD_ERROR
from wlproxy.relay.wire.context import RelayConfig

TIMER = "wp_commit_timing_manager_v1"
SECOND = 10**9
DAY = 86400 * SECOND
BOOTTIME = 7


def know_clock(play: Playbook, offset: int = DAY, error: int = 0, at: int = 1) -> None:
    """Have the guest's clock measured."""
    sample = ClockSample(at - error, at + offset, at + error)
    play.run(play.relay.receive(sample))


def host_event(play: Playbook, interface: str, event: str, *args: int) -> str:
    """Have the compositor say something; return what the app hears."""
    play.said()
    play.host.event(play.host_thing(interface), event, *args)
    play.flush()
    return play.said_by("app")[-1].split(".", 1)[1]


def commit_timer(play: Stage) -> Thing:
    manager = play.plug(TIMER)
    return play.app.request(manager, "get_timer", play.surface.id)


def timespec(nanoseconds: int) -> tuple[int, int, int]:
    seconds, rest = divmod(nanoseconds, SECOND)
    return seconds >> 32, seconds & 0xFFFFFFFF, rest


def test_events_that_come_together_have_each_its_time() -> None:
    play = Stage()
    know_clock(play)
    seat = play.app.bind("wl_seat")
    gone, there = (play.app.request(seat, "get_pointer") for _ in range(2))
    pointers = [play.host_thing("wl_pointer", index) for index in range(2)]
    play.relay.edit(forget_guest(gone.id))
    motion = there.interface.event("motion")
    play.said()

    # One that is too short is about an object that is gone: nobody looks into it.
    short = struct.pack("=II", pointers[0].id, 8 << 16 | motion.opcode)
    events = [
        encode_message(pointer.id, motion, (time, 2, 3))
        for time, pointer in ((5, pointers[1]), (6, pointers[0]), (7, pointers[1]))
    ]
    play.from_compositor(events[0] + events[1] + short + events[2])

    assert play.said_by("app") == [
        f"{there}.motion({time + 86400 * 1000}, 2, 3)" for time in (5, 7)
    ]


def test_input_happens_by_the_guests_clock() -> None:
    play = Stage()
    know_clock(play)
    seat = play.app.bind("wl_seat")
    for device in ("get_pointer", "get_keyboard", "get_touch"):
        play.app.request(seat, device)
    pointer = play.app.things[max(play.app.things) - 2]
    relative = play.plug("zwp_relative_pointer_manager_v1")
    play.app.request(relative, "get_relative_pointer", pointer.id)
    precise = play.plug("zwp_input_timestamps_manager_v1")
    play.app.request(precise, "get_pointer_timestamps", pointer.id)

    later = (1000 + 86400 * 1000) & 0xFFFFFFFF
    assert host_event(play, "wl_pointer", "motion", 1000, 2, 3) == (
        f"motion({later}, 2, 3)"
    )
    assert host_event(play, "wl_keyboard", "key", 5, 1000, 30, 1) == (
        f"key(5, {later}, 30, 1)"
    )
    assert host_event(play, "wl_touch", "up", 5, 1000, 1) == f"up(5, {later}, 1)"
    assert host_event(
        play, "zwp_relative_pointer_v1", "relative_motion", 0, 1_000_000, 1, 2, 3, 4
    ) == (
        f"relative_motion({86401 * 10**6 >> 32}, {86401 * 10**6 & 0xFFFFFFFF}, "
        "1, 2, 3, 4)"
    )
    assert host_event(play, "zwp_input_timestamps_v1", "timestamp", 0, 1, 5) == (
        "timestamp(0, 86401, 5)"
    )


def test_frames_are_done_and_shown_by_the_guests_clock() -> None:
    play = Stage()
    know_clock(play)
    presentation = play.plug("wp_presentation")
    play.app.request(presentation, "feedback", play.surface.id)
    play.app.request(play.surface, "frame")
    callback = max(play.host.things.values(), key=lambda thing: thing.id)
    play.said()

    play.host.event(callback, "done", 1000)
    play.host.event(
        play.host_thing("wp_presentation_feedback"),
        *("presented", 0, 1, 5, 16_666_666, 0, 1, 0),
    )
    play.flush()

    heard = [line.split(".", 1)[1] for line in play.said_by("app")]
    assert heard[0] == f"done({86400 * 1000 + 1000})"
    assert "presented(0, 86401, 5, 16666666, 0, 1, 0)" in heard


def test_a_sync_tells_no_time() -> None:
    play = Stage()
    know_clock(play)

    play.app.request(play.app.display, "sync")

    (done, _) = play.said_by("app")
    assert done.endswith(".done(1)")


def test_a_frame_is_timed_by_the_guests_clock() -> None:
    play = Stage()
    know_clock(play)
    timer = commit_timer(play)

    play.app.request(timer, "set_timestamp", *timespec(DAY + 5 * SECOND + 7))

    assert play.said_by("host")[-1].endswith(".set_timestamp(0, 5, 7)")


def test_a_time_of_a_clock_that_is_not_translated_holds_no_frame_back() -> None:
    play = Stage()
    know_clock(play)
    timer = commit_timer(play)
    presentation = play.plug("wp_presentation")
    play.host.event(play.host_thing("wp_presentation"), "clock_id", BOOTTIME)
    play.flush()
    play.app.request(presentation, "feedback", play.surface.id)
    play.said()

    play.app.request(timer, "set_timestamp", *timespec(DAY))
    play.app.request(play.surface, "commit")

    assert [said.split(".", 1)[1] for said in play.said_by("host")] == ["commit()"]
    presented = (0, 1, 5, 16_666_666, 0, 1, 0)
    heard = host_event(play, "wp_presentation_feedback", "presented", *presented)
    assert heard == f"presented{presented}"


def test_what_an_app_says_wrong_is_for_the_compositor_to_judge() -> None:
    play = Stage()
    know_clock(play)
    timer = commit_timer(play)

    play.app.request(timer, "set_timestamp", 0, 5, SECOND)
    assert play.said_by("host")[-1].endswith(f".set_timestamp(0, 5, {SECOND})")

    short = struct.pack("=III", timer.id, 12 << 16, 5)
    play.send(short)
    assert play.app.error is not None
    assert "12 bytes instead of 20" in play.app.error[2]


def test_virtual_input_is_by_the_hosts_clock() -> None:
    policy = Policy(Globals(allow=("zwp_input_method_v1",)))
    play = Stage(config=RelayConfig(policy=policy))
    know_clock(play)
    play.plug("zwp_input_method_v1")
    method = play.host_thing("zwp_input_method_v1")
    play.host.event(method, "activate")
    play.flush()
    (context,) = play.app.created

    play.app.request(context, "key", 5, 86400 * 1000 + 9, 30, 1)

    assert play.said_by("host")[-1].endswith(".key(5, 9, 30, 1)")


class Timed(Playbook):
    """A compositor that has the timer from the start."""

    def __init__(self, *, deny: tuple[str, ...] = ()) -> None:
        config = RelayConfig(policy=Policy(Globals(deny=tuple(deny))))
        super().__init__(config=config, start=False)
        self.host.globals = {**GLOBALS, 20: (TIMER, 1)}
        self.app.request(self.app.display, "get_registry")

    @property
    def told(self) -> list[str]:
        """What was said about the timer."""
        return [line.split(".")[1] for line in self.said() if "(20" in line]


def test_no_timer_is_offered_before_the_clock_is_known() -> None:
    play = Timed()
    assert play.told == []

    know_clock(play, error=GOOD_ERROR + 1)
    assert play.told == []
    know_clock(play, error=GOOD_ERROR // 2, at=10)
    assert play.told == [f"global(20, '{TIMER}', 1)"]
    know_clock(play, error=GOOD_ERROR // 2, at=20)
    assert play.told == []
    play.app.request(play.app.display, "get_registry")
    assert play.told == [f"global(20, '{TIMER}', 1)"]

    play.app.bind(TIMER)
    assert play.app.error is None


def test_a_timer_cannot_be_bound_by_its_number_before() -> None:
    play = Timed()
    spec = play.app.registry.interface.request("bind")
    new_id = NewId(TIMER.encode(), 1, play.app.new(TIMER, 1).id)

    play.send(encode_message(play.app.registry.id, spec, (20, new_id)))

    assert play.app.error == (2, 0, f"invalid global {TIMER} (20)")


@pytest.mark.parametrize("known", [False, True])
def test_a_timer_that_goes(known: bool) -> None:
    play = Timed()
    if known:
        know_clock(play)
    play.said()

    play.host.event(play.host_thing("wl_registry"), "global_remove", 20)
    play.flush()
    assert play.told == (["global_remove(20)"] if known else [])
    know_clock(play, at=10)
    assert play.told == []


def test_a_timer_that_policy_hides_stays_hidden() -> None:
    play = Timed(deny=(TIMER,))

    know_clock(play)

    assert play.told == []


def test_clients_that_come_later_know_the_clock_from_the_start() -> None:
    play = Playbook(start=False)
    know_clock(play)
    play.host.globals = {**GLOBALS, 20: (TIMER, 1)}

    play.app.request(play.app.display, "get_registry")

    assert (20, (TIMER, 1)) in play.app.globals.items()
