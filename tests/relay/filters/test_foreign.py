"""xdg-foreign: only windows of the VM can be named, by names that are good for the VM alone."""

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.relay.names import MAX_EXPORTS

HANDLE = b"0c1f-the-handle-of-the-host"


class Room(Stage):
    """An app that exports its window, and imports.

    Attributes:
        verb: how its requests go on.
    """

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version
        self.verb = "_toplevel" if version == "v2" else ""
        self.exporter = self.plug(f"zxdg_exporter_{version}")
        self.importer = self.plug(f"zxdg_importer_{version}")
        self.said()

    def export(self) -> Thing:
        return self.app.request(self.exporter, "export" + self.verb, self.surface.id)

    def tell(self, handle: bytes = HANDLE) -> str:
        """Have the compositor tell the newest handle; return what the app was told."""
        exported = self.host_thing(f"zxdg_exported_{self.version}", -1)
        self.host.event(exported, "handle", handle)
        self.flush()
        [told] = self.said_by("app")
        return told.split("'")[1]

    def import_(self, name: bytes) -> Thing:
        self.said()
        return self.app.request(self.importer, "import" + self.verb, name)


@pytest.fixture(params=["v1", "v2"])
def play(request: pytest.FixtureRequest) -> Room:
    return Room(request.param)


def test_a_window_of_the_vm_can_be_imported_by_its_name(play: Room) -> None:
    play.export()
    name = play.tell()

    imported = play.import_(name.encode())
    play.app.request(imported, "set_parent_of", play.new_surface().id)

    heard = play.said_by("host")
    assert f"{HANDLE.decode()!r})" in heard[0]
    assert heard[-1].split(".")[1].startswith("set_parent_of(")
    host_imported = play.host_thing(f"zxdg_imported_{play.version}")
    play.host.event(host_imported, "destroyed")
    play.flush()
    assert play.said_by("app") == [f"{imported}.destroyed()"]


def test_the_handle_of_the_host_is_never_told(play: Room) -> None:
    play.export()

    name = play.tell()

    assert HANDLE.decode() not in name
    assert not any(HANDLE in each.message.encode() for each in play.traces)


@pytest.mark.parametrize("guess", [HANDLE, b"", b"\xff\xfe", b"0" * 32, b"x" * 4000])
def test_what_is_no_window_of_the_vm_is_nobodys(play: Room, guess: bytes) -> None:
    play.export()
    play.tell()

    imported = play.import_(guess)
    assert play.said() == [f"app: {imported}.destroyed()"]
    play.app.request(imported, "set_parent_of", play.surface.id)
    play.app.request(imported, "destroy")
    assert play.said() == [f"app: wl_display@1.delete_id({imported.id})"]
    assert play.closed is None


def test_a_name_ends_with_the_export(play: Room) -> None:
    exported = play.export()
    name = play.tell()

    play.app.request(exported, "destroy")

    imported = play.import_(name.encode())
    assert play.said() == [f"app: {imported}.destroyed()"]


def test_a_handle_that_comes_too_late_is_nobodys(play: Room) -> None:
    exported = play.export()
    play.deliver = False
    play.host.event(play.host_thing(f"zxdg_exported_{play.version}"), "handle", b"late")
    play.app.request(exported, "destroy")
    play.said()
    play.flush()

    assert not [line for line in play.said_by("app") if ".handle(" in line]
    [table] = play.relay.known("Exports")
    assert table["named"] == []


def test_who_exports_without_end_gets_objects_that_do_nothing(play: Room) -> None:
    play.deliver = False
    for _ in range(MAX_EXPORTS):
        play.export()
    play.said()

    idle = play.export()

    assert play.said_by("host") == []
    assert "too many windows are exported" in play.warnings()[-1]
    play.app.request(idle, "destroy")
    assert play.said() == [f"app: wl_display@1.delete_id({idle.id})"]
    assert play.closed is None


def test_nothing_is_left_of_an_app_that_goes(play: Room) -> None:
    play.export()
    play.tell()

    play.leave()

    [table] = play.relay.known("Exports")
    assert (table["named"], table["counts"]) == ([], [])
