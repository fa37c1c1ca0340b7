"""Both id spaces of a client: who may use which id when."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from wlproxy.protocol.errors import (
    CompositorError,
    LocalProtocolError,
    WaylandError,
)
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import FIRST_SERVER_ID, DisplayError
from wlproxy.relay.wire import objects
from wlproxy.relay.wire.objects import ObjectTable, ProtocolObject

SURFACE = INTERFACES["wl_surface"]
OFFER = INTERFACES["wl_data_offer"]


def table() -> ObjectTable:
    return ObjectTable(INTERFACES["wl_display"])


def test_the_display_is_there_from_the_start() -> None:
    ids = table()

    assert ids.guest(1) is ids.host(1) is ids.display
    assert list(ids.guest_objects()) == [ids.display]
    assert len(ids) == 2


@pytest.mark.parametrize("guest_id", [0, 1, FIRST_SERVER_ID, 0xFFFFFFFF])
def test_ids_that_are_not_the_guests_to_use(guest_id: int) -> None:
    with pytest.raises(WaylandError, match="in use or invalid") as caught:
        table().add_guest(guest_id, SURFACE, 1)

    assert caught.value.code == DisplayError.INVALID_OBJECT


def test_an_id_in_use_is_not_free() -> None:
    ids = table()
    ids.add_guest(2, SURFACE, 1)

    with pytest.raises(WaylandError, match="in use"):
        ids.add_guest(2, SURFACE, 1)


def test_unknown_ids() -> None:
    with pytest.raises(WaylandError, match="invalid object 7"):
        table().guest(7)
    assert table().host(7) is None


def test_an_object_on_both_sides() -> None:
    ids = table()
    ids.add_own(SURFACE, 1)
    entry = ids.add_guest(40, SURFACE, 4)

    assert ids.give_host_id(entry) == 3
    assert ids.guest(40) is ids.host(3) is entry
    assert repr(entry) == "wl_surface@40/3"
    with pytest.raises(LocalProtocolError):
        ids.give_host_id(entry)


def test_a_host_id_is_free_after_delete_id_and_taken_again_first() -> None:
    ids = table()
    first, _second = ids.add_own(SURFACE, 1), ids.add_own(SURFACE, 1)

    assert ids.delete_host(2) is first
    assert first.host_id == 0
    assert ids.delete_host(2) is None
    assert ids.add_own(SURFACE, 1).host_id == 2
    assert ids.add_own(SURFACE, 1).host_id == 4


@pytest.mark.parametrize("host_id", [0, 1, 99, FIRST_SERVER_ID])
def test_a_delete_id_of_what_it_does_not_apply_to(host_id: int) -> None:
    ids = table()
    ids.add_host(FIRST_SERVER_ID, OFFER, 1, visible=True)

    assert ids.delete_host(host_id) is None
    assert len(ids) == 4


def test_server_ids_of_both_sides_are_dense_and_reused() -> None:
    ids = table()
    unseen = ids.add_host(FIRST_SERVER_ID, OFFER, 3, visible=False)
    seen = ids.add_host(FIRST_SERVER_ID + 1, OFFER, 3, visible=True)

    assert (unseen.guest_id, seen.guest_id) == (0, FIRST_SERVER_ID)
    ids.forget_guest(seen)
    again = ids.add_host(FIRST_SERVER_ID + 1, OFFER, 3, visible=True)
    assert again.guest_id == FIRST_SERVER_ID
    # The compositor reuses an id whose destructor nobody could tell from its name.
    anew = ids.add_host(FIRST_SERVER_ID + 1, OFFER, 3, visible=True)
    assert anew.guest_id == FIRST_SERVER_ID
    assert again.guest_id == 0


@pytest.mark.parametrize("host_id", [1, 2, FIRST_SERVER_ID - 1, FIRST_SERVER_ID + 1])
def test_the_compositor_leaves_no_gaps(host_id: int) -> None:
    with pytest.raises(CompositorError, match="created an object with id"):
        table().add_host(host_id, OFFER, 1, visible=True)


def test_there_are_only_so_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_OBJECTS", 4)
    ids = table()
    for guest_id in (2, 3, 4):
        ids.give_host_id(ids.add_guest(guest_id, SURFACE, 1))
    ids.add_own(SURFACE, 1)

    with pytest.raises(WaylandError, match="over 4 objects"):
        ids.add_guest(5, SURFACE, 1)
    with pytest.raises(WaylandError, match="over 4 objects"):
        ids.add_own(SURFACE, 1)
    for index in range(4):
        ids.add_host(FIRST_SERVER_ID + index, OFFER, 1, visible=False)
    with pytest.raises(WaylandError, match="over 4 objects"):
        ids.add_host(FIRST_SERVER_ID + 4, OFFER, 1, visible=False)


def test_a_host_only_object_becomes_a_guests() -> None:
    ids = table()
    entry = ids.add_guest(2, SURFACE, 1)
    made = ids.add_host(FIRST_SERVER_ID, SURFACE, 1, visible=False)

    ids.adopt_host(entry, made)

    assert ids.host(FIRST_SERVER_ID) is entry
    assert made.host_id == 0
    with pytest.raises(LocalProtocolError):
        ids.adopt_host(entry, made)


def test_an_object_is_split() -> None:
    ids = table()
    entry = ids.add_guest(2, SURFACE, 1)
    ids.give_host_id(entry)

    own = ids.detach_host(entry)

    assert (own.guest_id, own.host_id) == (0, 2)
    assert (entry.guest_id, entry.host_id) == (2, 0)
    assert ids.host(2) is own


class Table(RuleBasedStateMachine):
    """Two-sided ids against two dictionaries and the rules of libwayland's maps."""

    objects = Bundle("objects")
    zombies = Bundle("zombies")
    owned = Bundle("owned")

    def __init__(self) -> None:
        super().__init__()
        self.table = table()
        self.guest: dict[int, ProtocolObject] = {1: self.table.display}
        self.host: dict[int, ProtocolObject] = {1: self.table.display}
        self.next_host = 2
        self.next_server = FIRST_SERVER_ID

    def took(self, entry: ProtocolObject) -> None:
        assert entry.host_id not in self.host
        assert entry.host_id <= self.next_host, "a gap"
        self.next_host = max(self.next_host, entry.host_id + 1)
        self.host[entry.host_id] = entry

    @rule(target=objects, guest_id=st.integers(2, 12))
    def create(self, guest_id: int) -> ProtocolObject | None:
        if guest_id in self.guest:
            with pytest.raises(WaylandError):
                self.table.add_guest(guest_id, SURFACE, 1)
            return None
        entry = self.table.add_guest(guest_id, SURFACE, 1)
        self.guest[guest_id] = entry
        self.table.give_host_id(entry)
        self.took(entry)
        return entry

    @rule(target=owned)
    def own(self) -> ProtocolObject:
        entry = self.table.add_own(SURFACE, 1)
        self.took(entry)
        return entry

    @rule(target=zombies, entry=consumes(objects))
    def delete_id(self, entry: ProtocolObject | None) -> ProtocolObject | None:
        if entry is None or not entry.host_id:
            return None
        del self.host[entry.host_id]
        assert self.table.delete_host(entry.host_id) is entry
        assert entry.guest_id  # until the guest has been told
        return entry

    @rule(entry=consumes(zombies))
    def tell(self, entry: ProtocolObject | None) -> None:
        if entry is not None:
            del self.guest[entry.guest_id]
            self.table.forget_guest(entry)

    @rule(entry=consumes(owned))
    def delete_own(self, entry: ProtocolObject) -> None:
        del self.host[entry.host_id]
        assert self.table.delete_host(entry.host_id) is entry

    @rule(target=owned, entry=objects)
    def split(self, entry: ProtocolObject | None) -> ProtocolObject:
        if entry is None or not entry.host_id or not entry.guest_id:
            own = self.table.add_own(SURFACE, 1)
            self.took(own)
            return own
        own = self.table.detach_host(entry)
        self.host[own.host_id] = own
        self.table.give_host_id(entry)
        self.took(entry)
        return own

    @rule(visible=st.booleans(), reuse=st.integers(0, 3))
    def offer(self, *, visible: bool, reuse: int) -> None:
        host_id = min(FIRST_SERVER_ID + reuse, self.next_server)
        self.next_server = max(self.next_server, host_id + 1)
        old = self.host.get(host_id)
        if old is not None and old.guest_id:
            del self.guest[old.guest_id]
        entry = self.table.add_host(host_id, OFFER, 1, visible=visible)
        self.host[host_id] = entry
        if visible:
            assert FIRST_SERVER_ID <= entry.guest_id < FIRST_SERVER_ID + 4
            assert entry.guest_id not in self.guest
            self.guest[entry.guest_id] = entry

    @invariant()
    def both_sides_agree(self) -> None:
        assert {e.guest_id: e for e in self.table.guest_objects()} == self.guest
        assert len(self.table) == len(self.guest) + len(self.host)
        for guest_id, entry in self.guest.items():
            assert self.table.guest(guest_id) is entry
            assert entry.guest_id == guest_id
        for host_id, entry in self.host.items():
            assert self.table.host(host_id) is entry
            assert entry.host_id == host_id


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
