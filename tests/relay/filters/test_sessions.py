"""Sessions: an app goes on with what an app of its VM has begun, and takes over nobody else's."""

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.relay.names import MAX_APP_SESSIONS, guest_name
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.context import RelayConfig

MANAGER = "xdg_session_manager_v1"
ID = b"the-id-of-the-host"


class Room(Stage):
    def __init__(self) -> None:
        policy = Policy(Globals(allow=(MANAGER,)))
        super().__init__(config=RelayConfig(policy=policy))
        self.manager = self.plug(MANAGER)
        self.said()

    def get(self, name: bytes | None = None) -> Thing:
        return self.app.request(self.manager, "get_session", 1, name)

    def tell(self, session_id: bytes = ID) -> bytes:
        """Have the compositor tell the newest session's id; return what the app was told."""
        session = self.host_thing("xdg_session_v1", -1)
        self.host.event(session, "created", session_id)
        self.flush()
        [told] = self.said_by("app")
        return told.split("'")[1].encode()

    def heard(self) -> list[str]:
        return [line.split(", ")[-1] for line in self.said_by("host")]


@pytest.fixture
def play() -> Room:
    return Room()


def test_a_session_goes_on_by_its_name(play: Room) -> None:
    session = play.get()
    assert play.heard() == ["None)"]
    name = play.tell()
    assert ID not in name
    play.app.request(session, "destroy")
    play.said()

    play.get(name)

    assert play.heard() == [f"{ID.decode()!r})"]


@pytest.mark.parametrize("guess", [ID, b"", b"0" * 32, b"\xff" * 2000])
def test_what_is_no_session_of_the_vm_begins_a_new_one(
    play: Room, guess: bytes
) -> None:
    play.get()
    play.tell()

    play.get(guess)

    assert play.heard() == ["None)"]


def test_one_that_is_removed_is_nobodys(play: Room) -> None:
    session = play.get()
    name = play.tell()
    play.app.request(session, "remove")
    play.said()

    play.get(name)

    assert play.heard() == ["None)"]


def test_an_id_that_comes_too_late_is_nobodys(play: Room) -> None:
    session = play.get()
    play.deliver = False
    play.host.event(play.host_thing("xdg_session_v1"), "created", ID)
    play.app.request(session, "remove")
    play.said()
    play.flush()

    assert not [line for line in play.said_by("app") if ".created(" in line]
    [table] = play.relay.known("Sessions")
    assert (table["kept"], table["unnamed"]) == ([], [])


def test_the_compositor_keeps_so_many_of_an_app(play: Room) -> None:
    for number in range(MAX_APP_SESSIONS):
        play.app.request(play.get(), "destroy")
        assert play.closed is None, number
    play.said()

    idle = play.get()

    assert play.said_by("host") == []
    assert "too many sessions are begun" in play.warnings()[-1]
    play.app.request(idle, "destroy")
    assert play.said() == [f"app: wl_display@1.delete_id({idle.id})"]


@pytest.mark.parametrize("kept", [True, False])
def test_the_oldest_of_the_app_makes_room(play: Room, *, kept: bool) -> None:
    """Whether the app has an object for it still, by which alone it may be removed, or not."""
    first = play.get()
    name = play.tell(b"0")
    if not kept:
        play.app.request(first, "destroy")
    for number in range(1, MAX_APP_SESSIONS):
        session = play.get()
        play.said()
        play.tell(b"%d" % number)
        play.app.request(session, "destroy")
    play.said()

    play.get()

    said = play.said()
    heard = [line.split(".")[1] for line in said if line.startswith("host")]
    told = [line.split(".")[1] for line in said if line.startswith("app")]
    if kept:
        assert heard[0] == "remove()"
        assert told[0] == "replaced()"
        play.app.request(first, "remove")
        assert not play.said_by("host")
    else:
        assert heard[0].endswith(", 1, '0')")
        assert heard[1] == "remove()"
    assert heard[-1].endswith("None)")
    assert play.closed is None
    play.said()
    play.tell(b"new")
    play.get(name)
    assert play.heard()[-1] == "None)"


def test_an_app_that_connects_again_is_the_same(play: Room) -> None:
    """Else each connection could begin as many as the first."""
    play.get()
    play.tell()
    play.leave()
    play.relay.compare()
    [sessions] = play.relay.known("Sessions")
    assert sessions["kept"] == [
        [guest_name(ID), {"original": ID.hex(), "owner": "app"}]
    ]


def test_what_is_made_of_a_session_that_does_nothing_does_nothing() -> None:
    play = Room()
    for _ in range(MAX_APP_SESSIONS):
        play.app.request(play.get(), "destroy")
    shell = play.app.bind("xdg_wm_base")
    xdg_surface = play.app.request(shell, "get_xdg_surface", play.surface.id)
    window = play.app.request(xdg_surface, "get_toplevel")
    idle = play.get()
    play.said()

    kept = play.app.request(idle, "add_toplevel", window.id, b"main")
    play.app.request(kept, "rename", b"other")
    play.app.request(kept, "destroy")
    play.app.request(idle, "remove_toplevel", b"other")
    play.app.request(idle, "destroy")

    assert play.said_by("host") == []
    assert play.app.error is None
    play.app.request(play.surface, "commit")  # ids are as they should be
    assert play.closed is None


def test_windows_of_a_session_are_the_apps_own(play: Room) -> None:
    session = play.get()
    shell = play.app.bind("xdg_wm_base")
    xdg_surface = play.app.request(shell, "get_xdg_surface", play.surface.id)
    window = play.app.request(xdg_surface, "get_toplevel")
    play.said()

    restored = play.app.request(session, "restore_toplevel", window.id, b"main")
    play.host.event(play.host_thing("xdg_toplevel_session_v1"), "restored")
    play.host.event(play.host_thing("xdg_session_v1"), "replaced")
    play.flush()

    assert [line.split(".")[-1] for line in play.said_by("app")] == [
        "restored()",
        "replaced()",
    ]
    assert restored.alive
