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
    """A source may become a selection or a drag: both judge."""
    policy = clipboard(BOTH, types=("text/*", "UTF8_STRING"), max_types=1)
    play = Desk(replace(policy, drag=Drag(types=("text/*",))))
    play.source(b"text/plain", b"UTF8_STRING", b"image/png", b"text/html")
    told = [line for line in play.said_by("host") if ".offer(" in line]
    assert [line.split(".offer")[-1] for line in told] == ["('text/plain')"]
    # What may not leave as a drag anyway is no reason to keep it from the clipboard.
    play = Desk(replace(policy, drag=Drag(OFF, types=())))
    play.source(b"UTF8_STRING")
    assert any("UTF8_STRING" in line for line in play.said_by("host"))


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


def test_nobody_is_timed_if_policy_does_not_ask() -> None:
    play = Desk(Policy())
    play.press()
    assert len(play.said_by("app")) == 2
    assert not play.timers
