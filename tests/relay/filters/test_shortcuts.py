"""The desktop's key bindings: an app that may have them loses them when the user says so."""

from dataclasses import replace

import pytest

from tests.relay.playbook import Stage
from tests.relay.shell import guest_memory
from tests.relay.things import Thing
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.context import RelayConfig

MANAGER = "zwp_keyboard_shortcuts_inhibit_manager_v1"
INHIBITOR = "zwp_keyboard_shortcuts_inhibitor_v1"
CTRL, ALT, G = 29, 56, 34
BOTH = 3
ALLOWED = Policy(Globals(allow=(MANAGER,)))


class Room(Stage):
    """An app with a window and a seat, which may take the bindings.

    Attributes:
        ours: the proxy's own keyboard, as the compositor has it, once there is one.
    """

    def __init__(
        self, seat_version: int = 9, config: RelayConfig | None = None
    ) -> None:
        super().__init__(config=config or RelayConfig(policy=ALLOWED))
        self.seat = self.app.bind("wl_seat", seat_version)
        self.host_seat = self.host_thing("wl_seat")
        self.manager = self.plug(MANAGER)
        self.tell(BOTH)
        self.said()

    def tell(self, capabilities: int) -> None:
        self.host.event(self.host_seat, "capabilities", capabilities)
        self.flush()

    def inhibit(self) -> Thing:
        args = (self.surface.id, self.seat.id)
        return self.app.request(self.manager, "inhibit_shortcuts", *args)

    @property
    def ours(self) -> Thing:
        return self.host_thing("wl_keyboard")

    def enter(self, *keys: int) -> None:
        held = b"".join(key.to_bytes(4, "little") for key in keys)
        surface = self.host_thing("wl_surface").id
        self.host.event(self.ours, "enter", 1, surface, held)
        self.flush()

    def press(self, *keys: int) -> None:
        """Press keys, and let go of them."""
        for state in (1, 0):
            for key in keys:
                self.host.event(self.ours, "key", 2, 10, key, state)
        self.flush()

    def heard(self) -> list[str]:
        return [line.split(".")[-1].split("(")[0] for line in self.said_by("host")]


def test_an_app_has_the_bindings() -> None:
    play = Room()
    inhibitor = play.inhibit()
    assert play.heard() == ["get_keyboard", "inhibit_shortcuts"]

    play.host.event(play.host_thing(INHIBITOR), "active")
    play.flush()
    assert play.said_by("app") == [f"{inhibitor}.active()"]
    play.app.request(inhibitor, "destroy")
    play.inhibit()
    assert play.heard() == ["destroy", "inhibit_shortcuts"]  # one keyboard will do


@pytest.mark.parametrize("held", [(), (CTRL, ALT), (97, 100)])
def test_the_user_takes_them_back(held: tuple[int, ...]) -> None:
    """Also with keys that were held down before the window had the focus."""
    play = Room()
    first, second = play.inhibit(), play.inhibit()
    play.enter(*held)
    play.said()

    play.press(*(() if held else (CTRL, ALT)), G)

    said = play.said()
    assert [line.split(".")[-1] for line in said if line.startswith("host")] == [
        "destroy()",
        "destroy()",
    ]
    inactive = [f"app: {each}.inactive()" for each in (first, second)]
    assert [line for line in said if "inactive" in line] == inactive
    assert "the desktop's key bindings work again" in play.traces[-1].message


def test_the_app_does_not_get_them_again_before_the_user_lets_it() -> None:
    play = Room()
    old = play.inhibit()
    play.press(CTRL, ALT, G)
    play.said()

    again = play.inhibit()
    play.app.request(old, "destroy")
    assert play.heard() == []
    play.press(CTRL, ALT, G)
    assert play.heard() == []  # whoever wants them asks anew
    play.inhibit()
    assert play.heard() == ["inhibit_shortcuts"]
    play.app.request(again, "destroy")
    assert play.heard() == []
    play.press(CTRL, ALT, G)
    assert play.heard() == ["destroy"]


def test_the_next_session_of_the_vm_does_not_get_them_either() -> None:
    """An agent that begins anew has its apps ask anew: the user said no to the VM."""
    config = RelayConfig(policy=ALLOWED)
    first = Room(config=config)
    first.inhibit()
    first.press(CTRL, ALT, G)

    # Server has another one after `reload`, and for what each agent says.
    second = Room(config=replace(config, policy=replace(ALLOWED)))
    second.inhibit()
    assert second.heard() == ["get_keyboard"]
    second.press(CTRL, ALT, G)
    second.inhibit()
    assert second.heard() == ["inhibit_shortcuts"]


def test_a_snapshot_has_what_the_user_said() -> None:
    """A process that goes on with it has a configuration of its own, as have sessions after that."""
    play = Room()
    play.inhibit()
    play.press(CTRL, ALT, G)
    config = RelayConfig(policy=ALLOWED)
    Relay.restore(play.relay.snapshot(), config, guest_memory())
    later = Room(config=config)
    later.inhibit()
    assert later.heard() == ["get_keyboard"]


def test_other_keys_take_nothing_back() -> None:
    play = Room()
    play.inhibit()
    play.enter(CTRL)
    play.said()

    for keys in ((G,), (ALT,), (CTRL, G), (ALT, 30), (CTRL, ALT, 30)):
        play.press(*keys)
        play.enter()
    play.enter(CTRL, ALT)
    play.host.event(play.ours, "leave", 3, play.host_thing("wl_surface").id)
    play.press(G)

    assert play.heard() == []


def test_an_event_on_its_way_is_of_no_consequence() -> None:
    play = Room()
    inhibitor = play.inhibit()
    host = play.host_thing(INHIBITOR)
    play.deliver = False
    for key in (CTRL, ALT, G):
        play.host.event(play.ours, "key", 2, 10, key, 1)
    play.host.event(host, "inactive")
    play.host.event(host, "active")
    play.said()
    play.flush()

    told = [line for line in play.said_by("app") if str(inhibitor) in line]
    assert told == [f"{inhibitor}.inactive()"]


@pytest.mark.parametrize("capabilities", [0, 1])
def test_nothing_is_granted_where_no_key_can_be_heard(capabilities: int) -> None:
    play = Room()
    play.tell(capabilities)
    play.said()

    idle = play.inhibit()

    assert play.said() == []
    play.app.request(idle, "destroy")
    assert play.said() == [f"app: wl_display@1.delete_id({idle.id})"]


def test_all_ends_when_keys_are_not_heard_any_more() -> None:
    """A keyboard that is unplugged is not the one that is plugged in again."""
    play = Room()
    play.inhibit()
    play.said()

    play.tell(1)
    assert play.heard() == ["destroy", "release"]
    play.tell(BOTH)
    play.inhibit()
    assert play.heard() == ["get_keyboard", "inhibit_shortcuts"]
    play.app.request(play.seat, "release")
    assert play.heard() == ["destroy", "release", "release"]
    assert play.closed is None


def test_a_seat_that_is_bound_twice_does_not_make_two_presses_of_one() -> None:
    play = Room()
    again = play.app.bind("wl_seat", 9)
    play.host.event(play.host_thing("wl_seat", 1), "capabilities", BOTH)
    play.flush()
    play.said()

    play.inhibit()
    args = (play.surface.id, again.id)
    play.app.request(play.manager, "inhibit_shortcuts", *args)
    assert play.heard() == ["get_keyboard", "inhibit_shortcuts"]
    play.press(CTRL, ALT, G)
    assert play.heard() == ["destroy"]
    play.inhibit()
    play.app.request(play.manager, "inhibit_shortcuts", *args)
    assert play.heard() == []
    play.app.request(play.seat, "release")
    play.said()
    play.app.request(play.manager, "inhibit_shortcuts", *args)
    assert play.heard() == ["get_keyboard"]  # to hear when they may be had again


def test_a_seat_of_old_is_served_as_well() -> None:
    play = Room(seat_version=2)
    play.inhibit()
    assert play.heard() == ["get_keyboard", "inhibit_shortcuts"]
    play.tell(0)
    assert play.heard() == ["destroy"]  # there is no `release` of keyboards yet


def test_what_is_no_seat() -> None:
    play = Room()
    args = (play.surface.id, play.surface.id)

    play.app.request(play.manager, "inhibit_shortcuts", *args)

    assert play.app.error is not None
    assert play.app.error[2].endswith("is no wl_seat")
