"""The clipboard, the primary selection and drags, by each of their policies."""

from dataclasses import replace

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import SERVER, Thing
from wlproxy.protocol.channel.frames import Attachment, AttachmentFlags, AttachmentKind
from wlproxy.relay.commands import Command, CreateStream
from wlproxy.relay.commands import Direction as Way
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, PolicyChanged, ReceivedFd, TimerEnded
from wlproxy.relay.policy_tree import (
    Clipboard,
    Direction,
    Drag,
    Globals,
    Policy,
    Primary,
)
from wlproxy.relay.wire.context import RelayConfig

WRITE_END = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, 2, 0)
BOTH, TO_GUEST, TO_HOST, OFF, ASK = Direction
PRIMARY_NAMES = ("zwp_primary_selection", "_v1", "device")
CONTROL = "ext_data_control"


class Desk(Stage):
    """An app with a device for selections, a keyboard, and what it needs to offer something.

    Attributes:
        limits: of the pipes that it had made, in bytes.
    """

    def __init__(self, policy: Policy, kind: str = "wl_data") -> None:
        self.limits: list[int] = []
        super().__init__(config=RelayConfig(policy=policy))
        self.seat = self.app.bind("wl_seat")
        self.keyboard = self.app.request(self.seat, "get_keyboard")
        version = "" if kind == "wl_data" else "_v1"
        manager = f"{kind}_device_manager{version}"
        if kind == CONTROL:
            manager = f"{kind}_manager{version}"
        if kind == "wl_data":
            self.manager = self.app.bind(manager)
        else:
            self.manager = self.plug(manager)
        get = "get_device" if kind == "zwp_primary_selection" else "get_data_device"
        self.device = self.app.request(self.manager, get, self.seat.id)
        self.host_device = self.host_thing(f"{kind}_device{version}")
        self.focus()
        self.said()

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, CreateStream):
            self.limits.append(command.limit)
        super()._carry_out(command)

    def offered(self, *types: bytes, event: str = "selection") -> Thing:
        """Have the compositor offer a selection."""
        offer = self.host.event(self.host_device, "data_offer")
        for each in types or (b"text/plain",):
            self.host.event(offer, "offer", each)
        self.host.event(self.host_device, event, offer.id)
        self.flush()
        return offer

    def dragged(self) -> Thing:
        """Have the compositor drag something over the window."""
        offer = self.host.event(self.host_device, "data_offer")
        self.host.event(offer, "offer", b"text/plain")
        self.host.event(offer, "source_actions", 3)
        surface = self.host_thing("wl_surface")
        self.host.event(self.host_device, "enter", 1, surface.id, 0, 0, offer.id)
        self.host.event(self.host_device, "motion", 5, 0, 0)
        self.host.event(self.host_device, "leave")
        self.flush()
        return offer

    def source(self, *types: bytes) -> Thing:
        """Have the app make a source."""
        create = (
            "create_source"
            if "primary" in self.manager.interface.name
            else "create_data_source"
        )
        source = self.app.request(self.manager, create)
        for each in types or (b"text/plain",):
            self.app.request(source, "offer", each)
        return source

    def focus(self, window: int | None = 0) -> None:
        """Have the keyboard go to one of the surfaces, or to another app."""
        keyboard = self.host_thing("wl_keyboard")
        surface = self.host_thing("wl_surface", window or 0)
        if window is None:
            self.host.event(keyboard, "leave", 1, surface.id)
        else:
            self.host.event(keyboard, "enter", 1, surface.id, b"")
        self.flush()

    def press(self) -> None:
        """Have a key pressed, and let go of."""
        keyboard = self.host_thing("wl_keyboard")
        self.host.event(keyboard, "key", 1, 10, 30, 1)
        self.host.event(keyboard, "key", 2, 20, 30, 0)
        self.flush()

    def paste(self, name: bytes = b"text/plain") -> list[str]:
        """Have the app ask for what was offered last; say what follows."""
        offer = self.app.created[-1]
        self.said()
        self.app.request(offer, "receive", name, attach=[WRITE_END])
        return self.said()


def pasted(said: list[str]) -> bool:
    """Whether the compositor heard of it; if not, the app's pipe has an end all the same."""
    assert any(line.startswith("shell: CreateStream(2") for line in said)
    assert any(line.startswith("shell: CloseHandle") for line in said)
    return any(".receive(" in line for line in said if line.startswith("host: "))


def clipboard(direction: Direction, **more: object) -> Policy:
    return Policy(clipboard=Clipboard(direction, **more))  # type: ignore[arg-type]


def primary(direction: Direction) -> Policy:
    return Policy(primary=Primary(direction))


# ---------------------------------------------------------------- to the guest


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("kind", ["wl_data", "zwp_primary_selection"])
def test_what_the_host_has_copied(kind: str, direction: Direction) -> None:
    make = clipboard if kind == "wl_data" else primary
    play = Desk(make(direction), kind)
    play.offered()
    said = play.said()
    if direction not in (BOTH, TO_GUEST, ASK):
        assert [line.split(".")[-1] for line in said] == ["destroy()"]
        assert not play.app.created
        return
    assert [line.split(".")[-1].split("(")[0] for line in said] == [
        *("data_offer", "offer", "selection"),
    ]
    assert pasted(play.paste()) is (direction is not ASK)


def test_a_selection_that_goes_out_of_sight_is_gone() -> None:
    """It was seen; of those that follow, and of how many there are, nothing is told."""
    play = Desk(Policy())
    play.offered()
    play.said()
    play.run(play.relay.receive(PolicyChanged(clipboard(OFF))))
    assert not pasted(play.paste())  # although it was offered before
    play.offered()
    assert play.said_by("app") == [f"{play.device}.selection(null)"]
    play.offered()
    assert play.said_by("app") == []
    play.run(play.relay.receive(PolicyChanged(Policy())))
    play.offered()
    assert len(play.said_by("app")) == 3
    play.host.event(play.host_device, "selection", 0)
    play.flush()
    assert play.said_by("app") == [f"{play.device}.selection(null)"]


def test_the_types_that_may_enter() -> None:
    play = Desk(clipboard(BOTH, types=("text/*",), max_types=3))
    offer = play.offered(b"text/plain", b"image/png", b"text/html", b"text/x" * 400)
    told = [line for line in play.said_by("app") if ".offer(" in line]
    assert [line.split(".offer")[-1] for line in told] == [
        *("('text/plain')", "('text/html')"),
    ]
    assert pasted(play.paste())
    assert not pasted(play.paste(b"image/png"))  # guessed
    play.host.event(offer, "offer", b"text/late")
    play.host.event(offer, "offer", b"text/one-too-many")
    play.flush()
    assert play.said_by("app") == [f"wl_data_offer@{SERVER}.offer('text/late')"]


def test_how_much_may_enter() -> None:
    play = Desk(clipboard(BOTH, max_bytes=5))
    play.offered()
    play.paste()
    assert play.limits == [5]


def test_data_control_is_bound_by_the_same() -> None:
    policy = Policy(
        Globals(allow=("ext_data_control_manager_v1",)), clipboard=Clipboard(TO_HOST)
    )
    play = Desk(policy, CONTROL)
    play.offered()
    assert play.said_by("app") == []
    play.offered(event="primary_selection")
    assert len(play.said_by("app")) == 3
    play.app.request(play.device, "set_selection", play.source().id)
    assert any("set_selection" in line for line in play.said_by("host"))
    play.run(play.relay.receive(PolicyChanged(replace(policy, primary=Primary(OFF)))))
    play.app.request(play.device, "set_primary_selection", play.source().id)
    assert not any("set_primary" in line for line in play.said_by("host"))


# ---------------------------------------------------------------- to the host


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("kind", ["wl_data", "zwp_primary_selection"])
def test_what_the_guest_copies(kind: str, direction: Direction) -> None:
    make = clipboard if kind == "wl_data" else primary
    play = Desk(make(direction), kind)
    source = play.source()
    play.said()
    play.app.request(play.device, "set_selection", source.id, 1)
    heard = any("set_selection" in line for line in play.said_by("host"))
    assert heard is (direction in (BOTH, TO_HOST))
    play.app.request(play.device, "set_selection", 0, 1)
    heard = any("set_selection" in line for line in play.said_by("host"))
    assert heard is (direction in (BOTH, TO_HOST))  # nor is the host's taken away


def test_the_types_that_may_leave() -> None:
    """They are told when it is known what as: a source may become a selection or a drag."""
    policy = clipboard(BOTH, types=("text/*", "UTF8_STRING"), max_types=2)
    policy = replace(policy, drag=Drag(types=("image/*",)))
    types = (b"text/plain", b"UTF8_STRING", b"image/png", b"text/html", b"image/" * 400)

    def told(play: Desk) -> list[str]:
        lines = [line for line in play.said_by("host") if ".offer(" in line]
        return [line.split(".offer")[-1] for line in lines]

    play = Desk(policy)
    source = play.source(*types)
    assert told(play) == []
    play.app.request(play.device, "set_selection", source.id, 1)
    assert told(play) == ["('text/plain')", "('UTF8_STRING')"]
    play.app.request(source, "offer", b"text/one-too-many")
    assert told(play) == []

    play = Desk(policy)
    source = play.source(*types)
    play.app.request(play.device, "start_drag", source.id, play.surface.id, 0, 1)
    assert told(play) == ["('image/png')"]
    play.app.request(source, "offer", b"image/gif")
    play.app.request(source, "offer", b"text/plain")
    assert told(play) == ["('image/gif')"]


def test_a_type_that_was_not_told_is_not_read() -> None:
    play = Desk(clipboard(BOTH, types=("text/*",)))
    play.app.request(play.device, "set_selection", play.source().id, 1)
    play.said()
    pipe = ReceivedFd(Handle(1), FdKind.STREAM, 0, Way.TO_COMPOSITOR)
    source = play.host_thing("wl_data_source")
    play.host.event(source, "send", b"image/png", fds=[pipe])
    play.flush()
    assert play.said() == ["shell: CloseHandle(1)"]


def test_what_may_leave_no_more_is_not_read() -> None:
    play = Desk(clipboard(BOTH, max_bytes=7))
    play.app.request(play.device, "set_selection", play.source().id, 1)
    play.said()

    def asked() -> list[str]:
        pipe = ReceivedFd(Handle(1), FdKind.STREAM, 0, Way.TO_COMPOSITOR)
        source = play.host_thing("wl_data_source")
        play.host.event(source, "send", b"text/plain", fds=[pipe])
        play.flush()
        return play.said()

    assert [line.split("(")[0] for line in asked()] == [
        "shell: AdoptStream",
        f"app: {play.app.things[max(i for i in play.app.things if i < SERVER)]}.send",
    ]
    play.run(play.relay.receive(PolicyChanged(clipboard(TO_GUEST))))
    assert asked() == ["shell: CloseHandle(1)"]


# ---------------------------------------------------------------- drags


@pytest.mark.parametrize("direction", [BOTH, TO_GUEST, TO_HOST, OFF])
def test_what_is_dragged_into_the_guest(direction: Direction) -> None:
    play = Desk(Policy(drag=Drag(direction)))
    play.dragged()
    said = [line.split(".")[-1].split("(")[0] for line in play.said()]
    if direction in (BOTH, TO_GUEST):
        assert said == [
            *("data_offer", "offer", "source_actions", "enter", "motion", "leave"),
        ]
        assert pasted(play.paste())
    else:
        assert said == ["destroy"]
        # The next one is judged anew: here it is within the app, without an offer.
        surface = play.host_thing("wl_surface")
        play.host.event(play.host_device, "enter", 1, surface.id, 0, 0, 0)
        play.flush()
        assert len(play.said_by("app")) == 1


@pytest.mark.parametrize("direction", [BOTH, TO_GUEST, TO_HOST, OFF])
def test_what_is_dragged_out_of_the_guest(direction: Direction) -> None:
    play = Desk(Policy(drag=Drag(direction)))
    source = play.source()
    play.said()
    play.app.request(play.device, "start_drag", source.id, play.surface.id, 0, 1)
    said = play.said()
    if direction in (BOTH, TO_HOST):
        assert any("start_drag" in line for line in said)
    else:
        assert said == [f"app: {source}.cancelled()"]
    play.app.request(play.device, "start_drag", 0, play.surface.id, 0, 1)
    assert any(
        "start_drag(null" in line for line in play.said()
    )  # stays within the app


# ---------------------------------------------------------------- gestures


def test_a_paste_is_asked_for_with_a_key() -> None:
    play = Desk(clipboard(ASK))
    play.offered()
    assert not pasted(play.paste())
    play.press()
    [timer] = play.timers
    assert timer.seconds == 1
    assert pasted(play.paste())
    source = play.source()
    play.said()
    play.app.request(play.device, "set_selection", source.id, 1)
    assert any("set_selection" in line for line in play.said_by("host"))
    play.run(play.relay.receive(TimerEnded(1, timer.number)))
    assert not pasted(play.paste())


def test_the_last_gesture_counts() -> None:
    play = Desk(clipboard(ASK))
    play.offered()
    play.press()
    play.press()
    first, second = play.timers
    play.run(play.relay.receive(TimerEnded(1, first.number)))
    assert pasted(play.paste())
    play.run(play.relay.receive(TimerEnded(1, second.number)))
    assert not pasted(play.paste())


def test_a_gesture_is_of_one_window() -> None:
    """One that was made in another window of the app is none."""
    play = Desk(clipboard(ASK))
    play.new_surface()
    play.offered()
    play.press()
    assert pasted(play.paste())
    play.focus(None)
    assert not pasted(play.paste())  # the user is elsewhere
    play.focus(0)
    assert pasted(play.paste())  # and is back
    play.focus(None)
    play.focus(1)
    assert not pasted(play.paste())  # in another window
    play.focus(0)
    assert not pasted(play.paste())
    play.press()
    assert pasted(play.paste())


def test_a_button_is_pressed_where_the_pointer_is() -> None:
    """The focus comes before, after or not at all: compositors differ."""
    play = Desk(clipboard(ASK))
    play.new_surface()
    play.app.request(play.seat, "get_pointer")
    pointer = play.host_thing("wl_pointer")
    play.offered()
    play.host.event(pointer, "button", 1, 10, 0x110, 1)
    play.flush()
    assert not pasted(play.paste())  # at none of its windows
    play.host.event(pointer, "enter", 1, play.host_thing("wl_surface", 1).id, 0, 0)
    play.host.event(pointer, "button", 1, 10, 0x110, 1)
    play.flush()
    assert pasted(play.paste())
    play.focus(None)
    play.focus(1)
    assert pasted(play.paste())
    play.host.event(pointer, "leave", 1, play.host_thing("wl_surface", 1).id)
    play.focus(0)
    play.host.event(pointer, "button", 1, 10, 0x110, 1)
    play.flush()
    assert not pasted(play.paste())


def test_a_finger_and_a_pen_are_gestures() -> None:
    play = Desk(clipboard(ASK))
    play.app.request(play.seat, "get_touch")
    surface = play.host_thing("wl_surface")
    play.offered()
    play.host.event(play.host_thing("wl_touch"), "down", 1, 1, surface.id, 0, 0, 0)
    play.flush()
    assert pasted(play.paste())
    play.run(play.relay.receive(TimerEnded(1, play.timers[-1].number)))
    assert not pasted(play.paste())
    tablets = play.plug("zwp_tablet_manager_v2")
    play.app.request(tablets, "get_tablet_seat", play.seat.id)
    seat = play.host_thing("zwp_tablet_seat_v2")
    tablet = play.host.event(seat, "tablet_added")
    tool = play.host.event(seat, "tool_added")
    play.host.event(tool, "proximity_in", 1, tablet.id, surface.id)
    play.host.event(tool, "down", 1)
    play.flush()
    offer = play.app.created[-3]
    play.app.request(offer, "receive", b"text/plain", attach=[WRITE_END])
    assert pasted(play.said())
    play.run(play.relay.receive(TimerEnded(1, play.timers[-1].number)))
    play.host.event(tool, "proximity_out")
    play.host.event(tool, "down", 1)
    play.flush()
    play.app.request(offer, "receive", b"text/plain", attach=[WRITE_END])
    assert not pasted(play.said())


def test_a_menu_is_of_its_window() -> None:
    """Compositors give the focus to a menu that is open, and back."""
    play = Desk(clipboard(ASK))
    windows = play.app.bind("xdg_wm_base")
    below = play.app.request(windows, "get_xdg_surface", play.surface.id)
    play.app.request(below, "get_toplevel")
    menu = play.new_surface()
    above = play.app.request(windows, "get_xdg_surface", menu.id)
    positioner = play.app.request(windows, "create_positioner")
    play.app.request(above, "get_popup", below.id, positioner.id)
    part = play.new_surface()
    subcompositor = play.app.bind("wl_subcompositor")
    play.app.request(subcompositor, "get_subsurface", part.id, menu.id)
    play.offered()
    play.focus(None)
    play.focus(2)
    play.press()
    play.focus(None)
    play.focus(0)
    assert pasted(play.paste())


def test_a_gesture_is_of_one_seat() -> None:
    """Another user's, of the same app, is none."""
    play = Desk(clipboard(ASK))
    play.host.globals[99] = ("wl_seat", 9)
    registry = play.host_thing("wl_registry")
    play.host.event(registry, "global", 99, b"wl_seat", 9)
    play.flush()
    play.app.globals = {99: play.app.globals[99], **play.app.globals}
    other = play.app.bind("wl_seat")
    play.app.request(other, "get_keyboard")
    play.offered()
    keyboard = play.host_thing("wl_keyboard", 1)
    surface = play.host_thing("wl_surface")
    play.host.event(keyboard, "enter", 1, surface.id, b"")
    play.host.event(keyboard, "key", 1, 10, 30, 1)
    play.flush()
    assert not pasted(play.paste())
    play.host.event(keyboard, "leave", 1, surface.id)
    play.flush()
    play.press()
    assert pasted(play.paste())


def test_nobody_is_timed_if_policy_does_not_ask() -> None:
    play = Desk(Policy())
    play.press()
    assert len(play.said_by("app")) == 2
    assert not play.timers
