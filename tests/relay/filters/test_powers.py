"""What windows may ask of the desktop, by each key of the policy, on and off."""

from collections.abc import Callable

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.relay.inputs import PolicyChanged
from wlproxy.relay.policy_tree import (
    Fullscreen,
    Globals,
    Pointer,
    Policy,
    Switch,
    Windows,
)
from wlproxy.relay.wire.context import RelayConfig

ON, OFF = Switch
PENS = Globals(allow=("zwp_tablet_manager_v1",))
NO_FULLSCREEN = Policy(windows=Windows(fullscreen=Fullscreen.OFF))


class Room(Stage):
    """An app with a window, and what it takes to ask for more."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(config=RelayConfig(policy=policy))
        self.windows = self.app.bind("xdg_wm_base")
        self.window = self.new_window(self.surface)
        self.seat = self.app.bind("wl_seat")
        self.pointer = self.app.request(self.seat, "get_pointer")
        self.said()

    def new_window(self, surface: Thing) -> Thing:
        made = self.app.request(self.windows, "get_xdg_surface", surface.id)
        self.xdg_surface = made
        return self.app.request(made, "get_toplevel")

    def heard(self) -> list[str]:
        """The names of the requests that the compositor has heard since."""
        return [line.split(".")[-1].split("(")[0] for line in self.said_by("host")]


def ask_activation(play: Room) -> None:
    play.app.request(
        play.plug("xdg_activation_v1"), "activate", b"token", play.surface.id
    )


def ask_icon(play: Room) -> None:
    manager = play.app.bind("xdg_toplevel_icon_manager_v1")
    icon = play.app.request(manager, "create_icon")
    play.app.request(manager, "set_icon", play.window.id, icon.id)


def ask_warp(play: Room) -> None:
    warp = play.plug("wp_pointer_warp_v1")
    place = (play.surface.id, play.pointer.id, 0, 0, 1)
    play.app.request(warp, "warp_pointer", *place)


def ask_hint(play: Room) -> None:
    lock = play.app.request(
        play.plug("zwp_pointer_constraints_v1"),
        *("lock_pointer", play.surface.id, play.pointer.id, 0, 2),
    )
    play.app.request(lock, "set_cursor_position_hint", 0, 0)


def ask_hide(play: Room) -> None:
    play.app.request(play.pointer, "set_cursor", 1, 0, 0, 0)


def ask_pen_hide(play: Room) -> None:
    """By a pen, of either protocol for tablets."""
    for version in ("v1", "v2"):
        tablets = play.plug(f"zwp_tablet_manager_{version}")
        play.app.request(tablets, "get_tablet_seat", play.seat.id)
        host_seat = play.host_thing(f"zwp_tablet_seat_{version}")
        play.host.event(host_seat, "tool_added")
        play.flush()
        play.app.request(play.app.created[-1], "set_cursor", 1, 0, 0, 0)


def ask_fullscreen(play: Room) -> None:
    play.app.request(play.window, "set_fullscreen", 0)


@pytest.mark.parametrize(
    ("ask", "name", "refused"),
    [
        (ask_activation, "activate", Policy(windows=Windows(activation=OFF))),
        (ask_icon, "set_icon", Policy(windows=Windows(icons=OFF))),
        (ask_warp, "warp_pointer", Policy(pointer=Pointer(warp=OFF))),
        (ask_hint, "set_cursor_position_hint", Policy(pointer=Pointer(warp=OFF))),
        (ask_hide, "set_cursor", Policy(pointer=Pointer(hide=OFF))),
        (ask_pen_hide, "set_cursor", Policy(PENS, pointer=Pointer(hide=OFF))),
        (ask_fullscreen, "set_fullscreen", NO_FULLSCREEN),
    ],
)
def test_what_is_refused_is_not_heard(
    ask: Callable[[Room], None], name: str, refused: Policy
) -> None:
    play = Room(Policy(refused.globals))
    ask(play)
    assert name in play.heard()
    play = Room(refused)
    ask(play)
    assert name not in play.heard()
    assert play.closed is None
    play.app.request(play.surface, "commit")  # the app goes on
    assert play.heard()[-1] == "commit"


FILLS = (2).to_bytes(4, "little")
ACTIVE = (4).to_bytes(4, "little")


def configure(play: Room, serial: int, states: bytes = b"") -> None:
    """Have the compositor tell the window what to be."""
    play.host.event(play.host_thing("xdg_toplevel"), "configure", 80, 60, states)
    play.host.event(play.host_thing("xdg_surface"), "configure", serial)
    play.flush()


def told(play: Room) -> list[str]:
    """What the app has heard since."""
    return [
        line.split("@")[0] + line[line.index(".") :] for line in play.said_by("app")
    ]


def test_fullscreen_that_is_refused_is_answered() -> None:
    """By what the window was told last: whatever is asked of the compositor may do harm."""
    play = Room(NO_FULLSCREEN)
    ask_fullscreen(play)
    assert not play.said()  # the first configuration is still to come
    configure(play, 7, ACTIVE)
    answer = told(play)
    assert answer[1] == "xdg_surface.configure(7)"
    for ask in ("set_fullscreen", "unset_fullscreen"):
        play.app.request(play.window, ask, *([0] if ask == "set_fullscreen" else []))
        said = play.said()
        play.log += said
        assert not any(line.startswith("host") for line in said)
        assert told(play) == answer


def test_what_is_repeated_is_acknowledged_once() -> None:
    play = Room(NO_FULLSCREEN)
    xdg_surface = play.xdg_surface
    configure(play, 7)
    for _ in range(3):
        ask_fullscreen(play)
        play.app.request(xdg_surface, "ack_configure", 7)
    assert play.heard() == ["ack_configure"]
    configure(play, 8)
    play.app.request(xdg_surface, "ack_configure", 8)
    assert play.heard() == ["ack_configure"]
    configure(play, 8)  # once more the same
    play.app.request(xdg_surface, "ack_configure", 8)
    assert play.heard() == ["ack_configure"]
    # What a serial has not ended yet is not told with the last one.
    play.said()
    play.host.event(play.host_thing("xdg_toplevel"), "configure", 99, 99, ACTIVE)
    play.flush()
    play.said()
    ask_fullscreen(play)
    answer = told(play)
    assert answer[0].startswith("xdg_toplevel.configure(80, 60")
    # But that comes after, since the next serial is for it.
    assert [line.split(",")[0] for line in answer[1:]] == [
        "xdg_surface.configure(8)",
        "xdg_toplevel.configure(99",
    ]


def test_a_window_that_is_hidden_is_told_nothing_of_before() -> None:
    """Its next commit is its first again: a serial of before lets it show nothing (xdg-shell)."""
    play = Room(NO_FULLSCREEN)
    configure(play, 7, ACTIVE)
    play.said()
    play.app.request(play.surface, "attach", 0, 0, 0)
    ask_fullscreen(play)
    assert len(told(play)) == 2  # nothing is hidden before the commit
    play.app.request(play.surface, "commit")
    play.said()
    ask_fullscreen(play)
    assert not play.said()
    configure(play, 8, ACTIVE)
    play.said()
    ask_fullscreen(play)
    assert told(play)[1] == "xdg_surface.configure(8)"


def test_the_users_own_key_is_not_undone() -> None:
    play = Room(NO_FULLSCREEN)
    configure(play, 7, FILLS)
    play.said()
    ask_fullscreen(play)
    assert len(play.said_by("app")) == 2
    play.app.request(play.window, "unset_fullscreen")
    assert play.heard() == ["unset_fullscreen"]
    # A window that is made anew was told nothing.
    play.app.request(play.window, "destroy")
    window = play.app.request(play.xdg_surface, "get_toplevel")
    play.said()
    play.app.request(window, "set_fullscreen", 0)
    assert not play.said()


@pytest.mark.parametrize("policy", [Policy(), NO_FULLSCREEN])
def test_older_shells(policy: Policy) -> None:
    refused = policy is NO_FULLSCREEN
    names = ("wl_shell", "zxdg_shell_v6")
    play = Room(Policy(Globals(allow=names), windows=policy.windows))
    old = play.app.request(
        play.plug("wl_shell"), "get_shell_surface", play.new_surface().id
    )
    play.app.request(old, "set_fullscreen", 0, 0, 0)
    assert play.heard()[-1] == ("set_toplevel" if refused else "set_fullscreen")
    v6 = play.app.request(
        play.plug("zxdg_shell_v6"), "get_xdg_surface", play.new_surface().id
    )
    window = play.app.request(v6, "get_toplevel")
    play.host.event(play.host_thing("zxdg_surface_v6"), "configure", 5)
    play.flush()
    play.app.request(v6, "ack_configure", 5)
    play.said()
    play.app.request(window, "set_fullscreen", 0)
    play.app.request(window, "unset_fullscreen")
    play.app.request(v6, "ack_configure", 5)
    asked = [] if refused else ["set_fullscreen", "unset_fullscreen"]
    assert play.heard() == asked


@pytest.mark.parametrize("policy", [Policy(), NO_FULLSCREEN])
def test_a_compositor_that_could_do_it(policy: Policy) -> None:
    play = Room(policy)
    window = play.host_thing("xdg_toplevel")
    words = [number.to_bytes(4, "little") for number in (2, 3, 4)]
    play.host.event(window, "wm_capabilities", b"".join(words))
    play.flush()
    if policy is NO_FULLSCREEN:
        del words[1]
    [told] = play.said_by("app")
    assert told.endswith(f"({b''.join(words).decode()!r})")


@pytest.mark.parametrize(
    ("manager", "request_name", "refused"),
    [
        ("zwp_pointer_constraints_v1", "lock_pointer", Pointer(lock=OFF)),
        ("zwp_pointer_constraints_v1", "confine_pointer", Pointer(confine=OFF)),
        ("zwp_idle_inhibit_manager_v1", "create_inhibitor", None),
    ],
)
def test_an_object_that_does_nothing(
    manager: str, request_name: str, refused: Pointer | None
) -> None:
    policy = Policy(windows=Windows(idle_inhibition=OFF))
    if refused is not None:
        policy = Policy(pointer=refused)
    play = Room(policy)
    asked = play.plug(manager)
    args = (play.pointer.id, 0, 2) if refused else ()
    play.said()
    made = play.app.request(asked, request_name, play.surface.id, *args)
    if refused:
        play.app.request(made, "set_region", 0)
    assert play.heard() == []
    play.app.request(made, "destroy")
    assert play.said() == [f"app: wl_display@1.delete_id({made.id})"]
    # What others ask for in its place, they get.
    play.run(play.relay.receive(PolicyChanged(Policy())))
    again = play.app.request(asked, request_name, play.surface.id, *args)
    assert play.heard() == [request_name]
    play.app.request(again, "destroy")
    assert play.heard() == ["destroy"]


def test_an_app_has_so_many_windows() -> None:
    play = Room(Policy(windows=Windows(max_windows=2)))
    window = play.new_window(play.new_surface())
    play.app.request(window, "destroy")  # ... at a time
    play.new_window(play.new_surface())
    assert play.closed is None
    play.new_window(play.new_surface())
    assert play.app.error is not None
    assert "over 2 windows (windows.max-windows)" in play.app.error[2]


def test_a_window_goes_with_its_surface() -> None:
    policy = Policy(Globals(allow=("wl_shell",)), windows=Windows(max_windows=2))
    play = Room(policy)
    shell = play.plug("wl_shell")
    for _ in range(3):
        surface = play.new_surface()
        play.app.request(shell, "get_shell_surface", surface.id)
        play.app.request(surface, "destroy")
    assert play.closed is None


@pytest.mark.parametrize("most", [Windows(max_width=63), Windows(max_height=63)])
def test_a_picture_that_is_too_large_is_not_shown(most: Windows) -> None:
    play = Room(Policy(windows=most))
    [buffer] = play.buffers()
    play.show(play.surface, buffer)
    heard = play.said()
    assert not any(".attach(" in line for line in heard)
    assert f"app: {buffer}.release()" in heard
    assert "64x64 pixels, where" in play.reason
    play.run(play.relay.receive(PolicyChanged(Policy())))
    play.show(play.surface, buffer)
    assert any(".attach(" in line for line in play.said())


def test_a_picture_is_stretched_no_further() -> None:
    play = Room(Policy(windows=Windows(max_width=100, max_height=50)))
    viewer = play.app.bind("wp_viewporter")
    viewport = play.app.request(viewer, "get_viewport", play.surface.id)
    play.said()
    for size in ((-1, -1), (100, 50), (101, 1 << 30)):
        play.app.request(viewport, "set_destination", *size)
    said = [line.split(".set_destination")[-1] for line in play.said_by("host")]
    assert said == ["(-1, -1)", "(100, 50)", "(100, 50)"]
