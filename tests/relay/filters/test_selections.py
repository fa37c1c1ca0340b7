"""The clipboard, the primary selection and drags, by each of their policies."""

from dataclasses import dataclass, replace

import pytest

from tests.relay.playbook import ZERO_COPY, Stage
from tests.relay.shell import guest_memory
from tests.relay.things import SERVER, Thing
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientOpened,
)
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.commands import AskUser, Command, CreateStream
from wlproxy.relay.commands import Direction as Way
from wlproxy.relay.gestures import Gestures
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import (
    FdKind,
    PolicyChanged,
    ReceivedFd,
    TimerEnded,
    UserAnswered,
)
from wlproxy.relay.ownership import MARKS, mark
from wlproxy.relay.policy_tree import (
    Clipboard,
    Direction,
    Drag,
    Globals,
    Managers,
    Policy,
    Primary,
)
from wlproxy.relay.quotas import Quotas, Shares
from wlproxy.relay.wire.context import Context, RelayConfig, Shared
from wlproxy.relay.wire.objects import ProtocolObject

WRITE_END = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, 2, 0)
BOTH, TO_GUEST, TO_HOST, OFF, ASK = Direction
PRIMARY_NAMES = ("zwp_primary_selection", "_v1", "device")
CONTROL = "ext_data_control"


class Desk(Stage):
    """An app with a device for selections, a keyboard, and what it needs to offer something.

    Attributes:
        limits: of the pipes that it had made, in bytes.
        says: what the user answers at once; None: nothing, before `reply`.
    """

    def __init__(self, policy: Policy, kind: str = "wl_data") -> None:
        self.limits: list[int] = []
        self.says: bool | None = False
        super().__init__(config=RelayConfig(policy=policy))
        self.seat = self.app.bind("wl_seat")
        self.keyboard = self.app.request(self.seat, "get_keyboard")
        version = "" if kind == "wl_data" else "_v1"
        manager = f"{kind}_device_manager{version}"
        if kind.endswith("control"):
            manager = f"{kind}_manager{version}"
        if kind == "wl_data":
            self.manager = self.app.bind(manager)
        else:
            self.manager = self.plug(manager, 2 if kind.startswith("zwlr") else 1)
        get = "get_device" if kind == "zwp_primary_selection" else "get_data_device"
        self.device = self.app.request(self.manager, get, self.seat.id)
        self.host_device = self.host_thing(f"{kind}_device{version}")
        self.focus()
        self.said()

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, CreateStream):
            self.limits.append(command.limit)
        super()._carry_out(command)
        if isinstance(command, AskUser) and self.says is not None:
            answer = UserAnswered(1, command.number, self.says)
            self._ready.append(lambda: self.relay.receive(answer))

    def reply(self, says: bool) -> list[str]:
        """Have the user answer the last question; say what follows."""
        self.said()
        number = self.questions[-1].number
        self.run(self.relay.receive(UserAnswered(1, number, says)))
        return self.said()

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
        Globals(allow=("ext_data_control_manager_v1",)),
        clipboard=Clipboard(TO_HOST, managers=Managers.ALL),
    )
    policy = replace(policy, primary=Primary(managers=Managers.ALL))
    play = Desk(policy, CONTROL)
    play.offered()
    assert [line.split(".")[-1] for line in play.said_by("app")] == ["selection(null)"]
    play.offered()
    assert play.said_by("app") == []
    play.offered(event="primary_selection")
    assert len(play.said_by("app")) == 3
    play.app.request(play.device, "set_selection", play.source().id)
    assert any("set_selection" in line for line in play.said_by("host"))
    play.run(play.relay.receive(PolicyChanged(replace(policy, primary=Primary(OFF)))))
    play.app.request(play.device, "set_primary_selection", play.source().id)
    assert not any("set_primary" in line for line in play.said_by("host"))


CONTROLLED = Globals(
    allow=("ext_data_control_manager_v1", "zwlr_data_control_manager_v1")
)
MARK = MARKS + b"vm"
"""That of a VM whose name is the default."""


def managed(**groups: Clipboard) -> Policy:
    return Policy(CONTROLLED, **groups)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ext_data_control", "zwlr_data_control"])
@pytest.mark.parametrize("event", ["selection", "primary_selection"])
@pytest.mark.parametrize("direction", [BOTH, TO_GUEST, ASK])
def test_a_clipboard_manager_is_told_of_the_vms_own_alone(
    kind: str, event: str, direction: Direction
) -> None:
    """It is told once that there is nothing of the host's."""
    policy = managed(clipboard=Clipboard(direction), primary=Primary(direction))
    play = Desk(policy, kind)

    for foreign in (
        (b"text/plain",),
        (b"text/plain", MARKS + b"other"),
        (MARK + b"x",),
    ):
        play.offered(*foreign, event=event)
    told = [line.split(".")[-1] for line in play.said_by("app")]
    assert told == [f"{event}(null)"]

    play.offered(b"text/plain", MARK, b"text/html", event=event)
    told = [line.split(".")[-1].split("(")[0] for line in play.said_by("app")]
    assert told == ["data_offer", "offer", "offer", event]

    play.offered(event=event)
    play.offered(event=event)
    told = [line.split(".")[-1] for line in play.said_by("app")]
    assert told == [f"{event}(null)"]


def test_a_clipboard_manager_reads_what_the_vm_has_copied() -> None:
    play = Desk(managed(), CONTROL)
    play.offered(b"text/plain", MARK)

    assert pasted(play.paste())


def test_a_clipboard_manager_that_has_an_offer_when_policy_changes() -> None:
    every = managed(clipboard=Clipboard(managers=Managers.ALL))
    play = Desk(every, CONTROL)
    play.offered()
    play.run(play.relay.receive(PolicyChanged(managed())))

    assert not pasted(play.paste())


def test_managers_are_bound_by_the_direction_as_well() -> None:
    play = Desk(managed(clipboard=Clipboard(TO_HOST)), CONTROL)

    play.offered(b"text/plain", MARK)

    assert [line.split(".")[-1] for line in play.said_by("app")] == ["selection(null)"]


def offers(play: Desk) -> list[str]:
    """The types of a source that the compositor hears of."""
    lines = [line for line in play.said_by("host") if ".offer(" in line]
    return [line.split(".offer")[-1] for line in lines]


@pytest.mark.parametrize("kind", ["wl_data", "zwp_primary_selection", CONTROL])
def test_what_apps_copy_is_marked_where_a_manager_may_have_to_know(kind: str) -> None:
    play = Desk(managed(), kind)
    play.offered(b"text/plain", MARK)  # which a manager may replace
    source = play.source(b"text/plain", MARK, MARKS + b"other")

    serial = () if kind == CONTROL else (1,)
    play.app.request(play.device, "set_selection", source.id, *serial)

    count = 1 if kind == CONTROL else 0
    assert offers(play) == [f"('{mark('vm', count).decode()}')", "('text/plain')"]
    play.app.request(source, "offer", MARKS + b"other")
    assert not offers(play)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(CONTROLLED, Clipboard(managers=Managers.ALL)),
    ],
)
def test_nothing_is_marked_otherwise(policy: Policy) -> None:
    play = Desk(policy)

    play.app.request(play.device, "set_selection", play.source().id, 1)

    assert offers(play) == ["('text/plain')"]


def test_what_is_dragged_is_not_marked() -> None:
    play = Desk(managed())
    source = play.source()

    play.app.request(play.device, "start_drag", source.id, play.surface.id, 0, 1)

    assert offers(play) == ["('text/plain')"]


def test_apps_learn_of_no_mark_and_are_asked_for_none() -> None:
    play = Desk(managed())
    play.offered(b"text/plain", MARK, MARKS + b"other")
    assert len([line for line in play.said_by("app") if ".offer(" in line]) == 1

    source = play.source()
    play.app.request(play.device, "set_selection", source.id, 1)
    play.said()
    pipe = ReceivedFd(Handle(1), FdKind.STREAM, 0, Way.TO_COMPOSITOR)
    host_source = play.host_thing("wl_data_source")
    play.host.event(host_source, "send", MARK, fds=[pipe])
    play.flush()

    assert play.said() == ["shell: CloseHandle(1)"]


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


# ---------------------------------------------------------------- the user is asked


def heard(said: list[str], name: str) -> bool:
    return any(f".{name}(" in line for line in said if line.startswith("host: "))


def asking(direction: Direction = ASK, kind: str = "wl_data") -> Desk:
    """A stage whose user takes their time."""
    allowed = Globals(allow=(f"{CONTROL}_manager_v1",))
    policy = Policy(allowed, clipboard=Clipboard(direction), primary=Primary(direction))
    play = Desk(policy, kind)
    play.says = None
    return play


@pytest.mark.parametrize("says", [True, False])
def test_a_paste_that_nobody_pressed_for_waits_for_the_user(says: bool) -> None:
    play = asking()
    offer = play.offered()
    assert play.paste() == ["user: text/plain?"]
    assert play.questions == [
        AskUser(1, 1, Way.TO_GUEST, "clipboard", "app(4711)", "text/plain")
    ]
    assert pasted(play.reply(says)) is says
    # A yes is as good as a gesture: for a second, nobody is asked again.
    play.app.request(play.app.created[-1], "receive", b"text/plain", attach=[WRITE_END])
    assert heard(play.said(), "receive") is says
    assert len(play.questions) == (1 if says else 2)
    assert offer.alive


@pytest.mark.parametrize("says", [True, False])
def test_a_copy_that_nobody_pressed_for_waits_for_the_user(says: bool) -> None:
    play = asking()
    source = play.source(b"text/html", b"text/plain", b"TEXT")
    play.said()
    play.app.request(play.device, "set_selection", source.id, 1)
    assert play.said() == ["user: text/html?"]
    [question] = play.questions
    assert (question.direction, question.more) == (Way.TO_COMPOSITOR, 2)
    said = play.reply(says)
    assert heard(said, "set_selection") is says
    assert heard(said, "offer") is says


def test_a_yes_to_one_thing_is_none_to_another() -> None:
    """An app that may copy for a second may not read meanwhile what the host has copied."""
    play = asking()
    play.offered()
    source = play.source()
    play.app.request(play.device, "set_selection", source.id, 1)
    assert heard(play.reply(True), "set_selection")

    assert play.paste() == ["user: text/plain?"]
    assert not pasted(play.reply(False))


def test_the_app_is_called_what_its_window_is() -> None:
    play = asking()
    windows = play.app.bind("xdg_wm_base")
    above = play.app.request(windows, "get_xdg_surface", play.surface.id)
    window = play.app.request(above, "get_toplevel")
    play.app.request(window, "set_app_id", b"org.app")
    play.offered()
    play.paste()
    assert play.questions[-1].app == "org.app"


def test_who_is_elsewhere_is_not_asked() -> None:
    play = asking()
    play.offered()
    play.focus(None)
    assert not pasted(play.paste())
    play.focus(0)
    play.app.request(play.surface, "destroy")
    assert not pasted(play.paste())
    assert not play.questions


@pytest.mark.parametrize("kind", ["wl_data", "zwp_primary_selection", CONTROL])
def test_who_does_not_say_where_the_keyboard_is_is_not_asked(kind: str) -> None:
    """What manages clipboards neither, while no app of the VM's has the keyboard."""
    play = asking(kind=kind)
    play.offered(b"text/plain", MARK)  # the VM's own
    play.app.request(play.keyboard, "release")
    play.said()
    assert not pasted(play.paste())
    assert not play.questions


@pytest.mark.parametrize("what", ["keyboard", "seat", "window"])
def test_a_keyboard_that_goes_without_a_word_is_nobodys(what: str) -> None:
    """Not each compositor tells of the focus once there is nothing that could have it."""
    play = asking(kind=CONTROL)
    play.offered(b"text/plain", MARK)
    seat = play.host_thing("wl_seat")
    if what == "keyboard":
        play.host.event(seat, "capabilities", 1)
    elif what == "seat":
        names = [k for k, each in play.host.globals.items() if each[0] == "wl_seat"]
        play.host.event(play.host_thing("wl_registry"), "global_remove", *names)
    else:
        play.app.request(play.surface, "destroy")
    play.flush()
    assert not pasted(play.paste())
    assert not play.questions


@dataclass(slots=True)
class Pressable:
    """One of a VM's apps, with a keyboard of seat 7 and a window."""

    gestures: Gestures
    keyboard: ProtocolObject
    window: Surface

    @classmethod
    def of(cls, shared: Shared, client: int) -> "Pressable":
        context = Context(client, "app", shared, ZERO_COPY, Shares(shared.quotas))
        gestures = Gestures(context)
        keyboard = context.objects.add_own(INTERFACES["wl_keyboard"], 9)
        surface = context.objects.add_own(INTERFACES["wl_surface"], 6)
        gestures.add_seat(keyboard, 7)
        return cls(gestures, keyboard, Surface(surface))

    def focus(self, *, comes: bool = True) -> None:
        self.gestures.focus(self.keyboard, self.window if comes else None)


def pressables() -> tuple[Pressable, Pressable]:
    shared = Shared(RelayConfig(), guest_memory(), Quotas(1 << 30))
    return Pressable.of(shared, 1), Pressable.of(shared, 2)


def test_what_manages_clipboards_asks_while_another_app_of_the_vm_has_the_keyboard() -> (
    None
):
    manager, other = pressables()
    assert not manager.gestures.may_ask(7, about_vm=True)
    other.focus()
    assert manager.gestures.may_ask(7, about_vm=True)
    assert not manager.gestures.may_ask(8, about_vm=True)  # another user
    assert not manager.gestures.may_ask(7)
    assert other.gestures.may_ask(7)
    other.focus(comes=False)
    assert not manager.gestures.may_ask(7, about_vm=True)
    other.focus()
    other.gestures.close()
    assert not manager.gestures.may_ask(7, about_vm=True)


@pytest.mark.parametrize("over", ["time", "away", "gone", "elsewhere"])
def test_a_key_that_was_pressed_in_another_app_of_the_vm(over: str) -> None:
    manager, other = pressables()
    other.focus()
    other.gestures.press(other.keyboard)
    assert manager.gestures.allow_vm(7)
    assert not manager.gestures.allow_vm(8)  # another user
    assert not manager.gestures.allow_vm(None)
    assert not manager.gestures.allow(7, "clipboard")

    if over == "time":
        other.gestures.end(1)
    elif over == "away":
        other.focus(comes=False)
    elif over == "gone":
        other.gestures.close()
    else:
        other.gestures.focus(other.keyboard, Surface(other.window.object))
    assert not manager.gestures.allow_vm(7)

    other.gestures.end(1)
    assert not manager.gestures.allow_vm(7)


def test_what_the_user_was_asked_about_is_no_gesture_for_another_app() -> None:
    manager, other = pressables()
    other.focus()
    other.gestures.grant(7, "clipboard")
    assert other.gestures.allow(7, "clipboard")
    assert not manager.gestures.allow_vm(7)
    other.gestures.press(other.keyboard)
    other.gestures.press(other.keyboard)
    other.gestures.end(2)  # of an older one
    assert manager.gestures.allow_vm(7)
    other.focus(comes=False)
    assert not manager.gestures.allow_vm(7)
    other.focus()
    assert manager.gestures.allow_vm(7)


def test_what_may_not_cross_anyway_is_not_asked_about() -> None:
    play = Desk(clipboard(ASK, types=("text/*",)))
    play.offered()
    assert not pasted(play.paste(b"image/png"))
    play.app.request(play.device, "set_selection", play.source(b"image/png").id, 1)
    play.app.request(play.device, "set_selection", play.source(b"").id, 1)
    play.app.request(play.device, "set_selection", 0, 1)
    assert not play.questions


def test_types_of_one_paste_are_one_question() -> None:
    """And the bound of them is no more than one app may have wait."""
    play = asking()
    play.offered(b"a", b"b")
    offer = play.app.created[-1]
    play.said()
    for stream in range(2, 2 + 2 * 20, 2):
        pipe = replace(WRITE_END, object_id=stream)
        play.app.request(offer, "receive", b"a", attach=[pipe])
    said = play.said()
    assert said[0] == "user: a?"
    assert len([line for line in said if "CloseHandle" in line]) == 4
    said = play.reply(True)
    assert len([line for line in said if ".receive(" in line]) == 16
    assert len(play.questions) == 1


def test_one_question_at_a_time() -> None:
    """For all apps: what is asked for otherwise meanwhile is refused, as is what others ask."""
    play = asking()
    play.offered()
    play.paste()
    play.app.request(play.device, "set_selection", play.source().id, 1)
    assert len(play.questions) == 1
    assert pasted(play.reply(True))
    assert not heard(play.said(), "set_selection")


def test_the_last_copy_counts() -> None:
    play = asking()
    first, second = play.source(), play.source()
    for source in (first, second):
        play.app.request(play.device, "set_selection", source.id, 1)
    assert len(play.questions) == 1
    said = play.reply(True)
    [line] = [line for line in said if ".set_selection(" in line]
    sources = [
        t for t in play.host.things.values() if t.interface.name == "wl_data_source"
    ]
    assert f"(@{sources[1].id}," in line


def test_what_is_copied_is_what_the_user_was_told_of() -> None:
    play = asking()
    first = play.source(b"text/plain")
    play.app.request(play.device, "set_selection", first.id, 1)
    play.app.request(first, "offer", b"text/uri-list")
    said = play.reply(True)
    play.app.request(first, "offer", b"text/uri-list")
    assert heard(said, "set_selection")
    assert not any("uri-list" in line for line in said + play.said_by("host"))


def test_another_copy_than_the_user_is_told_of_is_none() -> None:
    play = asking()
    play.app.request(play.device, "set_selection", play.source().id, 1)
    other = play.source(b"text/uri-list")
    play.app.request(play.device, "set_selection", other.id, 2)
    assert not play.reply(True)  # nor is the older one what the app means


def test_a_copy_that_was_pressed_for_is_newer() -> None:
    """An answer to the question before must not bring back what is older."""
    play = asking()
    play.app.request(play.device, "set_selection", play.source().id, 1)
    play.press()
    play.said()
    play.app.request(play.device, "set_selection", play.source().id, 1)
    said = play.said()
    assert "user: never mind" in said
    assert heard(said, "set_selection")
    assert play.reply(True) == []


@pytest.mark.parametrize("what", ["source", "device", "null"])
def test_a_copy_that_is_taken_back(what: str) -> None:
    play = asking()
    source = play.source()
    play.app.request(play.device, "set_selection", source.id, 1)
    play.said()
    if what == "null":
        play.app.request(play.device, "set_selection", 0, 1)
    elif what == "source":
        play.app.request(source, "destroy")
    else:
        play.app.request(play.device, "release")
    assert "user: never mind" in play.said()
    assert not heard(play.reply(True), "set_selection")
    assert play.closed is None


def test_a_paste_of_what_is_gone() -> None:
    play = asking()
    play.offered()
    play.paste()
    play.app.request(play.app.created[-1], "destroy")
    said = play.said()
    assert "user: never mind" in said
    assert any("CloseHandle" in line for line in said)
    assert play.reply(True) == []
    play.offered()
    assert play.paste() == ["user: text/plain?"]


def test_a_policy_that_changes_meanwhile_counts() -> None:
    play = asking()
    play.offered()
    play.paste()
    play.run(play.relay.receive(PolicyChanged(clipboard(OFF))))
    assert not pasted(play.reply(True))


def test_who_ends_is_not_asked_about() -> None:
    """And others may be, then."""
    play = asking()
    play.offered()
    play.paste()
    play.relay.compare()
    assert play.relay.known("Shared")[0]["asking"] == 1
    play.leave()
    play.relay.receive(ClientOpened(2, 1, 1, 1, "other"))
    assert play.relay.known("Shared")[0]["asking"] == 0


def test_nobody_may_ask_in_a_drags_name() -> None:
    play = asking()
    play.dragged()
    assert pasted(play.paste())
    assert not play.questions
