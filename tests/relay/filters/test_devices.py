"""What would tell the host from every other does not reach the guest."""

import pytest

from tests.relay.playbook import Playbook, Stage
from tests.relay.things import Thing
from tests.tables.families import relayed
from wlproxy.protocol.wayland.interface import ArgKind
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.filters import EVENT_FILTERS
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.context import RelayConfig

GEOMETRY = (0, 0, 600, 340, 0)
WITH_SERIAL = b"Dell Inc. DELL U2720Q 8KDB193 (DP-1)"


def introduce(play: Playbook, make: bytes, model: bytes) -> Thing:
    play.app.bind("wl_output", 4)
    output = play.host_thing("wl_output")
    play.host.event(output, "geometry", *GEOMETRY, make, model, 0)
    play.host.event(output, "description", WITH_SERIAL)
    play.flush()
    return output


@pytest.mark.parametrize(
    ("make", "model", "told"),
    [
        (b"Dell Inc.", b"DELL U2720Q", "Dell Inc. DELL U2720Q"),
        (b"", b"U2720Q", "U2720Q"),
        (b"", b"", "monitor"),
    ],
)
def test_a_monitor_is_described_by_its_maker_and_model(
    make: bytes, model: bytes, told: str
) -> None:
    play = Playbook()

    introduce(play, make, model)

    geometry = f"0, 0, 600, 340, 0, {make.decode()!r}, {model.decode()!r}, 0"
    assert play.said_by("app")[-2:] == [
        f"wl_output@3.geometry({geometry})",
        f"wl_output@3.description({told!r})",
    ]


def test_xdg_outputs_know_which_monitor_they_describe() -> None:
    play = Stage()
    manager = play.plug("zxdg_output_manager_v1", 3)
    early = play.app.bind("wl_output", 4)
    play.app.request(manager, "get_xdg_output", early.id)  # before it is introduced
    output = play.host_thing("wl_output")
    play.host.event(output, "geometry", *GEOMETRY, b"Acme", b"One", 0)
    play.flush()
    play.app.request(manager, "get_xdg_output", early.id)
    play.said()

    for index in (0, 1):
        described = play.host_thing("zxdg_output_v1", index)
        play.host.event(described, "name", b"DP-1")
        play.host.event(described, "description", WITH_SERIAL)
    play.flush()

    heard = [line.split(".", 1)[1] for line in play.said_by("app")]
    assert heard == ["name('DP-1')", "description('Acme One')"] * 2


def test_a_description_that_is_on_its_way_to_a_destroyed_output() -> None:
    play = Stage()
    manager = play.plug("zxdg_output_manager_v1", 3)
    output = play.app.bind("wl_output", 4)
    xdg_output = play.app.request(manager, "get_xdg_output", output.id)
    described = play.host_thing("zxdg_output_v1")
    play.deliver = False
    play.host.event(described, "description", WITH_SERIAL)

    play.app.request(xdg_output, "destroy")
    play.flush()

    assert play.app.error is None


def test_paths_and_serials_of_tablets_are_left_out() -> None:
    play = Stage()
    manager = play.plug("zwp_tablet_manager_v2")
    seat = play.app.bind("wl_seat")
    play.app.request(manager, "get_tablet_seat", seat.id)
    tablets = play.host_thing("zwp_tablet_seat_v2")
    tablet = play.host.event(tablets, "tablet_added")
    tool = play.host.event(tablets, "tool_added")
    pad = play.host.event(tablets, "pad_added")
    play.flush()
    play.said()

    play.host.event(tablet, "name", b"Intuos")
    play.host.event(tablet, "id", 0x56A, 0x302)
    play.host.event(tablet, "path", b"/dev/input/event7")
    play.host.event(tablet, "done")
    play.host.event(tool, "type", 0x140)
    play.host.event(tool, "hardware_serial", 1, 0x2F0012AB)
    play.host.event(tool, "hardware_id_wacom", 0, 0x802)
    play.host.event(pad, "path", b"/dev/input/event8")
    play.host.event(pad, "buttons", 4)
    play.flush()

    assert [line.split(".", 1)[1] for line in play.said_by("app")] == [
        "name('Intuos')",
        f"id({0x56A}, {0x302})",
        "done()",
        "type(320)",
        f"hardware_id_wacom(0, {0x802})",
        "buttons(4)",
    ]


def test_monitors_are_not_told_apart_by_who_may_set_them_up() -> None:
    policy = Policy(Globals(allow=("zwlr_output_manager_v1",)))
    play = Stage(config=RelayConfig(policy=policy))
    play.plug("zwlr_output_manager_v1", 2)
    head = play.host.event(play.host_thing("zwlr_output_manager_v1"), "head")
    play.flush()
    play.said()
    play.host.event(head, "name", b"DP-1")
    play.host.event(head, "description", b"Dell U2415 (CFV9N8BK01WS)")
    play.host.event(head, "serial_number", b"CFV9N8BK01WS")
    play.host.event(head, "make", b"Dell")
    play.flush()

    assert [line.split(".", 1)[1] for line in play.said_by("app")] == [
        "name('DP-1')",
        "description('monitor')",
        "make('Dell')",
    ]


HARMLESS = {
    *("global", "error", "offer", "send", "target", "done", "failed", "handle"),
    *("preedit_string", "commit_string", "language", "preferred_language"),
    *("surrounding_text", "created", "title", "app_id", "identifier", "id"),
    "name",  # DP-1, seat0, a kind of tablet
    *(
        "geometry",
        "make",
        "model",
        "eisa_id",
        "output_name",
    ),  # which stay, as wl_output's do
    *("output", "primary_output", "output_entered"),  # DP-1
    # Windows and desktops, which who may see them may see.
    *("window", "title_changed", "app_id_changed", "themed_icon_name_changed"),
    *("virtual_desktop_entered", "virtual_desktop_left", "application_menu"),
    *("activity_entered", "activity_left", "resource_name_changed", "desktop_id"),
    *("stacking_order_uuid_changed", "window_with_uuid"),
    *("desktop_created", "desktop_removed"),
}
"""Events with a text that says nothing about hardware, or only of what kind it is."""


def test_every_event_that_may_name_hardware_is_looked_at() -> None:
    telling = {
        (name, event.name)
        for name in relayed()
        for event in INTERFACES[name].events
        if any(arg.kind is ArgKind.STRING for arg in event.args)
        or "serial" in event.name
    }
    telling = {key for key in telling if key[1] not in HARMLESS}

    assert ("zwp_tablet_v2", "path") in telling
    assert telling <= EVENT_FILTERS.keys()
