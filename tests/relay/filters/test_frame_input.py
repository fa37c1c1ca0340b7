"""Pointers, fingers, pens and drags on a frame: the app hears nothing, and the window follows."""

import pytest

from tests.relay.frame.stage import FrameStage
from tests.relay.things import Thing

LEFT, RIGHT, MIDDLE = 0x110, 0x111, 0x112
TOP, TOP_EAST, BOTTOM, BOTTOM_EAST, WEST, EAST = range(6)
"""Strips, in the order in which they are made."""


class Seat:
    """A framed window that is shown, and a seat."""

    def __init__(self) -> None:
        self.play = play = FrameStage()
        play.shown(100, 80)
        self.seat = play.app.bind("wl_seat")
        self.own = [each for each in play.screen.surfaces.values() if each.ours]
        self.told: list[str] = []
        """What the compositor heard meanwhile."""

    def strip(self, index: int) -> int:
        return self.own[index].thing.id

    @property
    def window(self) -> int:
        return self.play.on_screen.thing.id

    def get(self, kind: str) -> Thing:
        """Have the app get a device; return the compositor's side of it."""
        self.play.app.request(self.seat, f"get_{kind}")
        self.play.said()
        return self.play.host_thing(f"wl_{kind}")

    def heard(self, *events: tuple[Thing, str, tuple[int, ...]]) -> list[str]:
        """What the app hears of some events, without whom they are about."""
        self.play.said()
        for thing, name, args in events:
            self.play.host.event(thing, name, *args)
        self.play.flush()
        said = self.play.said()
        self.told = [line.split(".", 1)[1] for line in said if line[:5] == "host:"]
        return [line.split(".", 1)[1] for line in said if line[:4] == "app:"]


def at(number: int) -> int:
    return number * 256


def test_a_pointer_that_comes_over_the_frame_is_heard_of_in_the_window_only() -> None:
    seat = Seat()
    pointer = seat.get("pointer")
    enter = (9, seat.strip(TOP), at(50), at(2))

    assert not seat.heard(
        (pointer, "enter", enter),
        (pointer, "frame", ()),
        (pointer, "motion", (1, at(60), at(2))),
        (pointer, "axis", (1, 0, at(10))),
        (pointer, "frame", ()),
    )
    inside = seat.heard(
        (pointer, "leave", (10, seat.strip(TOP))),
        (pointer, "enter", (11, seat.window, at(60), at(1))),
        (pointer, "frame", ()),
        (pointer, "motion", (2, at(60), at(3))),
        (pointer, "button", (12, 3, LEFT, 1)),
        (pointer, "frame", ()),
    )
    assert [line.split("(")[0] for line in inside] == [
        *("enter", "frame", "motion", "button", "frame")
    ]
    outside = seat.heard(
        (pointer, "leave", (13, seat.window)),
        (pointer, "enter", (14, seat.strip(EAST), at(1), at(30))),
        (pointer, "frame", ()),
        (pointer, "frame", ()),
    )
    assert [line.split("(")[0] for line in outside] == ["leave", "frame"]


@pytest.mark.parametrize(
    ("strip", "place", "asked"),
    [
        (TOP, (50, 2), "move({seat}, 10)"),
        (BOTTOM, (50, 2), "resize({seat}, 10, 2)"),
        (WEST, (2, 40), "resize({seat}, 10, 4)"),
        (EAST, (2, 40), "resize({seat}, 10, 8)"),
        (TOP, (1, 1), "resize({seat}, 10, 5)"),
        (BOTTOM_EAST, (53, 2), "resize({seat}, 10, 10)"),
        (TOP_EAST, (2, 2), "move({seat}, 10)"),
    ],
)
def test_a_press_moves_or_resizes(
    strip: int, place: tuple[int, int], asked: str
) -> None:
    seat = Seat()
    pointer = seat.get("pointer")

    heard = seat.heard(
        (pointer, "enter", (9, seat.strip(strip), at(place[0]), at(place[1]))),
        (pointer, "frame", ()),
        (pointer, "button", (10, 1, LEFT, 1)),
        (pointer, "button", (11, 2, LEFT, 0)),
        (pointer, "button", (12, 2, MIDDLE, 1)),
    )

    host_seat = seat.play.host_thing("wl_seat")
    assert not heard
    assert seat.told == [asked.format(seat=f"@{host_seat.id}")]


def test_the_other_button_asks_for_the_menu() -> None:
    seat = Seat()
    pointer = seat.get("pointer")

    seat.heard(
        (pointer, "enter", (9, seat.strip(EAST), at(2), at(40))),
        (pointer, "button", (10, 1, RIGHT, 1)),
    )

    host_seat = seat.play.host_thing("wl_seat")
    assert seat.told == [f"show_window_menu(@{host_seat.id}, 10, 107, 45)"]


def test_the_cursor_says_what_can_be_pulled_at() -> None:
    seat = Seat()
    seat.play.plug("wp_cursor_shape_manager_v1")
    pointer = seat.get("pointer")

    seat.heard(
        (pointer, "enter", (9, seat.strip(EAST), at(2), at(40))),
        (pointer, "motion", (1, at(2), at(41))),
        (pointer, "motion", (1, at(2), at(79))),
    )

    shapes = [line for line in seat.told if line.startswith("set_shape")]
    assert shapes == ["set_shape(9, 18)", "set_shape(9, 23)"]
    guest = next(
        each
        for each in seat.play.app.things.values()
        if each.interface.name == "wl_pointer"
    )
    seat.play.app.request(guest, "release")
    assert [line.split(".")[1] for line in seat.play.said_by("host")] == [
        *("destroy()", "release()")
    ]


def test_a_pointer_whose_seat_is_gone_moves_nothing() -> None:
    seat = Seat()
    pointer = seat.get("pointer")
    seat.play.app.request(seat.seat, "release")

    seat.heard(
        (pointer, "enter", (9, seat.strip(EAST), at(2), at(40))),
        (pointer, "button", (10, 1, LEFT, 1)),
        (pointer, "button", (10, 1, RIGHT, 1)),
    )

    assert seat.told == []


def test_a_window_that_went_from_under_the_pointer() -> None:
    seat = Seat()
    pointer = seat.get("pointer")
    seat.heard((pointer, "enter", (9, seat.strip(EAST), at(2), at(40))))
    seat.play.app.request(seat.play.toplevel, "destroy")

    assert not seat.heard((pointer, "button", (10, 1, LEFT, 1)))
    assert seat.told == []


def test_fingers_on_the_frame_are_ours_and_others_the_apps() -> None:
    seat = Seat()
    touch = seat.get("touch")

    heard = seat.heard(
        (touch, "down", (9, 1, seat.strip(EAST), 0, at(2), at(40))),
        (touch, "down", (10, 1, seat.window, 1, at(2), at(40))),
        (touch, "frame", ()),
        (touch, "motion", (2, 0, at(3), at(40))),
        (touch, "frame", ()),
        (touch, "motion", (2, 1, at(3), at(40))),
        (touch, "up", (11, 3, 0)),
        (touch, "up", (12, 3, 1)),
        (touch, "frame", ()),
        (touch, "cancel", ()),
    )

    assert [line.split("(")[0] for line in heard] == [
        *("down", "frame", "motion", "up", "frame", "cancel")
    ]
    host_seat = seat.play.host_thing("wl_seat")
    assert seat.told == [f"resize(@{host_seat.id}, 9, 8)"]


def test_a_pen_on_the_frame() -> None:
    seat = Seat()
    tablets = seat.play.plug("zwp_tablet_manager_v2")
    seat.play.app.request(tablets, "get_tablet_seat", seat.seat.id)
    tablet_seat = seat.play.host_thing("zwp_tablet_seat_v2")
    tablet = seat.play.host.event(tablet_seat, "tablet_added")
    tool = seat.play.host.event(tablet_seat, "tool_added")
    seat.play.flush()

    heard = seat.heard(
        (tool, "proximity_in", (8, tablet.id, seat.strip(WEST))),
        (tool, "motion", (at(2), at(40))),
        (tool, "pressure", (700,)),
        (tool, "down", (9,)),
        (tool, "frame", (1,)),
        (tool, "up", ()),
        (tool, "proximity_out", ()),
        (tool, "frame", (2,)),
    )
    assert not heard
    host_seat = seat.play.host_thing("wl_seat")
    assert seat.told == [f"resize(@{host_seat.id}, 9, 4)"]

    heard = seat.heard(
        (tool, "proximity_in", (10, tablet.id, seat.window)),
        (tool, "motion", (at(2), at(40))),
        (tool, "frame", (3,)),
        (tool, "proximity_out", ()),
        (tool, "frame", (4,)),
    )
    assert [line.split("(")[0] for line in heard] == [
        *("proximity_in", "motion", "frame", "proximity_out", "frame")
    ]


def test_what_is_dragged_over_the_frame_is_not_over_the_window() -> None:
    seat = Seat()
    devices = seat.play.app.bind("wl_data_device_manager")
    seat.play.app.request(devices, "get_data_device", seat.seat.id)
    device = seat.play.host_thing("wl_data_device")

    assert not seat.heard(
        (device, "enter", (8, seat.strip(TOP), 0, 0, 0)),
        (device, "motion", (1, at(1), at(1))),
        (device, "drop", ()),
    )
    heard = seat.heard(
        (device, "enter", (9, seat.window, 0, 0, 0)),
        (device, "motion", (1, at(1), at(1))),
        (device, "leave", ()),
        (device, "enter", (8, seat.strip(TOP), 0, 0, 0)),
        (device, "leave", ()),
    )
    assert [line.split("(")[0] for line in heard] == ["enter", "motion", "leave"]


def test_what_is_offered_by_a_drag_over_the_frame_is_given_back() -> None:
    """Each `enter` has an offer of its own, and an app may have so many objects."""
    seat = Seat()
    play = seat.play
    devices = play.app.bind("wl_data_device_manager")
    play.app.request(devices, "get_data_device", seat.seat.id)
    device = play.host_thing("wl_data_device")
    for _ in range(3):
        play.said()
        offer = play.host.event(device, "data_offer")
        play.host.event(offer, "offer", b"text/plain")
        play.host.event(device, "enter", 8, seat.strip(TOP), 0, 0, offer.id)
        play.host.event(device, "leave")
        play.flush()
        assert play.said() == [f"host: {offer}.destroy()"]


def test_gestures_and_relative_motion_on_the_frame() -> None:
    seat = Seat()
    pointer = seat.get("pointer")
    guest = next(
        each
        for each in seat.play.app.things.values()
        if each.interface.name == "wl_pointer"
    )
    gestures = seat.play.plug("zwp_pointer_gestures_v1")
    seat.play.app.request(gestures, "get_swipe_gesture", guest.id)
    relatives = seat.play.plug("zwp_relative_pointer_manager_v1")
    seat.play.app.request(relatives, "get_relative_pointer", guest.id)
    times = seat.play.plug("zwp_input_timestamps_manager_v1")
    seat.play.app.request(times, "get_pointer_timestamps", guest.id)
    stamp = seat.play.host_thing("zwp_input_timestamps_v1")
    swipe = seat.play.host_thing("zwp_pointer_gesture_swipe_v1")
    relative = seat.play.host_thing("zwp_relative_pointer_v1")
    nothing = (0, 0, 0, 0, 0, 0)

    assert not seat.heard(
        (pointer, "enter", (9, seat.strip(EAST), at(2), at(40))),
        (relative, "relative_motion", nothing),
        (stamp, "timestamp", (0, 1, 2)),
        (swipe, "begin", (9, 1, seat.strip(EAST), 3)),
        (swipe, "update", (2, 5, 5)),
        (swipe, "end", (10, 3, 0)),
    )
    heard = seat.heard(
        (pointer, "leave", (10, seat.strip(EAST))),
        (pointer, "enter", (11, seat.window, at(2), at(40))),
        (relative, "relative_motion", nothing),
        (stamp, "timestamp", (0, 1, 2)),
        (swipe, "begin", (12, 1, seat.window, 3)),
        (swipe, "update", (2, 5, 5)),
        (swipe, "end", (13, 3, 0)),
    )
    assert [line.split("(")[0] for line in heard] == [
        *("enter", "relative_motion", "timestamp", "begin", "update", "end")
    ]
