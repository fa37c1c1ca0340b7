"""Windows carry the VM's name, whatever the app calls itself."""

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.relay.context import RelayConfig
from wlproxy.relay.filters.toplevel import MAX_LABEL


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
        "host: xdg_toplevel@8.set_app_id('work')",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"Files", "Files"),
        (b"", ""),
        ("ä".encode() * 3, "äää"),
        (b"\xff\xfeF", "F"),
        (b"x" * 5000, "x" * MAX_LABEL),
        (b"x" + "ä".encode() * 5000, "x" + "ä" * ((MAX_LABEL - 1) // 2)),
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
        f"xdg_toplevel@8.set_app_id('work.{shown}')",
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

    assert play.said_by("host")[-1].endswith(".set_app_id('work.org.example')")
