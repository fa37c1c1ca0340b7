"""The list of windows, and what is captured: of the VM's own, and of nobody else's."""

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.context import RelayConfig

LIST = "ext_foreign_toplevel_list_v1"
SOURCES = "ext_foreign_toplevel_image_capture_source_manager_v1"
CAPTURES = "ext_image_copy_capture_manager_v1"


class Room(Stage):
    """An app with the list of windows."""

    def __init__(self) -> None:
        names = (LIST, SOURCES, CAPTURES)
        policy = Policy(Globals(allow=names))
        super().__init__(config=RelayConfig(vm_name="work", policy=policy))
        self.list = self.plug(LIST)
        self.host_list = self.host_thing(LIST)
        self.said()

    def open(self, app_id: bytes | None, *events: str) -> Thing:
        """Have the compositor list a window, and say all of it; or what is told."""
        handle = self.host.event(self.host_list, "toplevel")
        texts = {"identifier": b"a1", "title": b"A window", "app_id": app_id}
        for name in events or (*texts, "done"):
            text = texts.get(name)
            if name in texts and text is not None:
                self.host.event(handle, name, text)
            elif name not in texts:
                self.host.event(handle, name)
        self.flush()
        return handle


@pytest.fixture
def play() -> Room:
    return Room()


@pytest.mark.parametrize("app_id", [b"wlproxy.work", b"wlproxy.work.org.foot"])
def test_a_window_of_the_vm_is_listed(play: Room, app_id: bytes) -> None:
    handle = play.open(app_id)

    told = [line.split(".", 1)[1] for line in play.said_by("app")]
    assert told[0].startswith("toplevel(new ext_foreign_toplevel_handle_v1@")
    assert told[1:] == [
        "identifier('a1')",
        "title('A window')",
        f"app_id({app_id.decode()!r})",
        "done()",
    ]
    for event, args in (
        ("title", (b"Other",)),
        ("app_id", (b"wlproxy.work.x",)),
        ("app_id", (b"firefox",)),  # none of ours is called that
        ("done", ()),
        ("closed", ()),
    ):
        play.host.event(handle, event, *args)
    play.flush()
    assert [line.split(".", 1)[1] for line in play.said_by("app")] == [
        "title('Other')",
        "app_id('wlproxy.work.x')",
        "done()",
        "closed()",
    ]
    play.app.request(play.app.created[-1], "destroy")
    assert play.said_by("host")[-1] == f"{handle}.destroy()"


@pytest.mark.parametrize(
    "app_id",
    [
        *(b"firefox", b"", b"wlproxy.", b"wlproxy.works.foot", b"wlproxy.private.foot"),
        *(b"wlproxy.workx", b"Wlproxy.work.foot", b"\xff", None),
    ],
)
def test_any_other_is_not(play: Room, app_id: bytes | None) -> None:
    handle = play.open(app_id)

    assert play.said() == [f"host: {handle}.destroy()"]
    again = play.open(b"wlproxy.work.foot")  # perhaps with the id of the first
    assert again.alive
    assert len(play.app.created) == 1


def test_one_that_closes_before_it_is_known(play: Room) -> None:
    handle = play.open(b"wlproxy.work.foot", "title", "closed")

    assert play.said() == [f"host: {handle}.destroy()"]


def test_a_list_that_the_app_has_left(play: Room) -> None:
    handle = play.host.event(play.host_list, "toplevel")
    play.flush()
    play.app.request(play.list, "destroy")
    play.host.event(handle, "app_id", b"wlproxy.work.foot")
    play.host.event(handle, "done")
    play.said()
    play.flush()

    assert play.said() == [f"host: {handle}.destroy()"]


def test_a_window_of_the_vm_is_captured_into_the_guests_pages(play: Room) -> None:
    play.open(b"wlproxy.work.foot")
    handle = play.app.created[-1]
    sources, captures = play.plug(SOURCES), play.plug(CAPTURES)
    [buffer] = play.buffers()

    source = play.app.request(sources, "create_source", handle.id)
    session = play.app.request(captures, "create_session", source.id, 0)
    frame = play.app.request(session, "create_frame")
    play.app.request(frame, "attach_buffer", buffer.id)
    play.app.request(frame, "capture")

    said = play.said()
    assert [line.split(".")[-1].split("(")[0] for line in said[-2:]] == [
        "attach_buffer",
        "capture",
    ]
    assert any(line.startswith("shell: CreateUdmabuf") for line in said)
    assert not any("copied" in line for line in said)
