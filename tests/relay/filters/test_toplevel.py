"""Windows carry the VM's name, whatever the app calls itself."""

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import Thing
from tests.tables.families import relayed
from wlproxy.protocol.wayland.interface import ArgKind
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.filters import REQUEST_FILTERS
from wlproxy.relay.labels import MAX_TEXT
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.context import RelayConfig


def toplevel(play: Stage) -> Thing:
    shell = play.app.bind("xdg_wm_base")
    xdg_surface = play.app.request(shell, "get_xdg_surface", play.surface.id)
    return play.app.request(xdg_surface, "get_toplevel")


def test_a_window_is_labelled_before_the_app_says_anything() -> None:
    play = Stage(config=RelayConfig(vm_name="work"))

    toplevel(play)

    assert play.said()[-3:] == [
        "host: xdg_surface@7.get_toplevel(new xdg_toplevel@8)",
        "host: xdg_toplevel@8.set_title('[work]')",
        "host: xdg_toplevel@8.set_app_id('wlproxy.work')",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"Files", "Files"),
        ("ä".encode() * 3, "äää"),
        (b"\xff\xfeF", "F"),
        (b"x" * 5000, "x" * MAX_TEXT),
        (b"x" + "ä".encode() * 5000, "x" + "ä" * ((MAX_TEXT - 1) // 2)),
    ],
)
def test_title_and_app_id(text: bytes, shown: str) -> None:
    play = Stage(config=RelayConfig(vm_name="work"))
    window = toplevel(play)
    play.said()

    play.app.request(window, "set_title", text)
    play.app.request(window, "set_app_id", text)

    assert play.said_by("host") == [
        f"xdg_toplevel@8.set_title('[work] {shown}')",
        f"xdg_toplevel@8.set_app_id('wlproxy.work.{shown}')",
    ]
    (status,) = play.relay.surfaces()
    assert (status.title, status.app_id) == (shown, shown)


def test_a_window_of_what_is_no_surface() -> None:
    play = Stage()
    shell = play.app.bind("xdg_wm_base")

    xdg_surface = play.app.request(shell, "get_xdg_surface", play.shm.id)

    assert play.app.error == (1, 0, f"object {play.shm.id} is no wl_surface")
    assert xdg_surface.alive


def test_who_wants_attention_carries_the_name_of_the_vm_too() -> None:
    play = Stage(config=RelayConfig(vm_name="work"))
    token = play.app.request(play.plug("xdg_activation_v1"), "get_activation_token")
    play.said()

    play.app.request(token, "set_app_id", b"org.example")

    assert play.said_by("host")[-1].endswith(".set_app_id('wlproxy.work.org.example')")


def test_a_vm_that_is_named_like_the_begin_of_a_hosts_app_id() -> None:
    play = Stage(config=RelayConfig(vm_name="org"))
    window = toplevel(play)

    play.app.request(window, "set_app_id", b"mozilla.firefox")

    assert play.said_by("host")[-1].endswith("('wlproxy.org.mozilla.firefox')")


def test_an_icon_is_no_file_of_the_host() -> None:
    play = Stage()
    manager = play.app.bind("xdg_toplevel_icon_manager_v1")
    icon = play.app.request(manager, "create_icon")

    for name in (b"org.gnome.Files-symbolic", b"/etc/../x\xff y"):
        play.app.request(icon, "set_name", name)

    assert [said.rsplit(".set_name", 1)[1] for said in play.said_by("host")[-2:]] == [
        "('org.gnome.Files-symbolic')",
        "('etc..x y')",
    ]


def test_windows_of_shells_that_are_allowed_are_labelled_too() -> None:
    names = (
        *("wl_shell", "zxdg_shell_v6"),
        *("xdg_toplevel_tag_manager_v1", "zwlr_layer_shell_v1"),
    )
    config = RelayConfig(vm_name="work", policy=Policy(Globals(allow=names)))
    play = Stage(config=config)
    old = play.app.request(play.plug("wl_shell"), "get_shell_surface", play.surface.id)
    shell = play.plug("zxdg_shell_v6")
    v6 = play.app.request(shell, "get_xdg_surface", play.new_surface().id)
    v6 = play.app.request(v6, "get_toplevel")
    window = toplevel(play)
    tags = play.plug("xdg_toplevel_tag_manager_v1")

    play.app.request(old, "set_title", b"one")
    play.app.request(old, "set_class", b"two")
    play.app.request(v6, "set_title", b"three")
    play.app.request(v6, "set_app_id", b"four")
    play.app.request(tags, "set_toplevel_tag", window.id, b"five")
    play.app.request(tags, "set_toplevel_description", window.id, b"six")
    layers = play.plug("zwlr_layer_shell_v1")
    panel = play.new_surface()
    play.app.request(layers, "get_layer_surface", panel.id, 0, 2, b"seven")

    said = play.said_by("host")
    told = [line.split(".", 1)[1] for line in said if ".set_" in line]
    about = f"@{play.host_thing('xdg_toplevel').id}"
    assert told == [
        "set_title('[work]')",
        "set_class('wlproxy.work')",
        "set_title('[work]')",
        "set_app_id('wlproxy.work')",
        "set_title('[work]')",
        "set_app_id('wlproxy.work')",
        "set_title('[work] one')",
        "set_class('wlproxy.work.two')",
        "set_title('[work] three')",
        "set_app_id('wlproxy.work.four')",
        f"set_toplevel_tag({about}, 'wlproxy.work.five')",
        f"set_toplevel_description({about}, '[work] six')",
    ]
    [asked] = [line for line in said if "get_layer_surface" in line]
    assert asked.endswith(", 2, 'wlproxy.work.seven')")


def test_what_a_tablets_buttons_do_is_labelled() -> None:
    """A compositor shows it over everything, while the user looks for the right button."""
    play = Stage(config=RelayConfig(vm_name="work"))
    manager = play.plug("zwp_tablet_manager_v2", 2)
    seat = play.app.bind("wl_seat")
    play.app.request(manager, "get_tablet_seat", seat.id)
    pad = play.host.event(play.host_thing("zwp_tablet_seat_v2"), "pad_added")
    group = play.host.event(pad, "group")
    for event in ("ring", "strip", "dial"):
        play.host.event(group, event)
    play.flush()
    _, *dials = play.app.created[1:]
    play.said()

    play.app.request(play.app.created[0], "set_feedback", 3, b"Undo\n", 7)
    for each in dials:
        play.app.request(each, "set_feedback", b"Zoom", 7)

    assert [line.split(".")[-1] for line in play.said_by("host")] == [
        "set_feedback(3, '[work] Undo', 7)",
        *(["set_feedback('[work] Zoom', 7)"] * 3),
    ]


NO_LABELS = {
    *("offer", "receive", "accept"),  # MIME types
    *("set_surrounding_text", "commit_string", "preedit_string", "language"),
    "set_preferred_language",
    *("activate", "import", "import_toplevel"),  # tokens that the compositor gave
    *("get_session", "add_toplevel", "restore_toplevel", "remove_toplevel", "rename"),
    # What who may rule windows and desktops says of those.
    *("request_enter_output", "get_virtual_desktop", "request_create_virtual_desktop"),
    *("request_remove_virtual_desktop", "request_enter_virtual_desktop"),
    *("request_leave_virtual_desktop", "request_enter_activity", "get_window_by_uuid"),
    *("request_leave_activity", "set_edid"),
    "authenticate",  # of fake input: why, in the compositor's question
    "set_preedit_string",
    "create_workspace",
}
"""Requests with a text that says nothing of who a window is."""


def test_every_text_that_a_compositor_may_show_for_a_window_is_labelled() -> None:
    texts = {
        (name, request.name)
        for name in relayed()
        for request in INTERFACES[name].requests
        if any(arg.kind is ArgKind.STRING for arg in request.args)
        and request.name not in NO_LABELS
    }
    assert texts == texts & REQUEST_FILTERS.keys()
