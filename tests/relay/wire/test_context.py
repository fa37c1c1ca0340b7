"""The context: what filters say to both sides, and the proxy's own globals."""

from tests.relay.playbook import ZERO_COPY
from tests.relay.shell import guest_memory
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import FIRST_SERVER_ID
from wlproxy.relay.quotas import Quotas, Shares
from wlproxy.relay.wire.context import Context, Global, RelayConfig, Shared


def context() -> Context:
    shared = Shared(RelayConfig(), guest_memory(), Quotas(1 << 30))
    return Context(1, "app(1)", shared, ZERO_COPY, Shares(shared.quotas))


def test_a_global_of_its_own_is_bound_once() -> None:
    ours = context()
    assert ours.own_global("wl_shm", 1) is None
    ours.globals = {3: Global("wl_seat", 9), 4: Global("wl_shm", 2)}

    shm = ours.own_global("wl_shm", 1)
    seat = ours.own_global("wl_seat", 99)

    assert shm is not None
    assert seat is not None
    assert (shm.version, seat.version) == (1, 9)
    assert ours.own_global("wl_shm", 1) is shm
    assert (shm.host_id, seat.host_id) == (3, 4)  # after the registry


def test_the_guest_hears_of_ids_that_it_allocated() -> None:
    ours = context()
    mine = ours.objects.add_guest(2, INTERFACES["wl_surface"], 1)
    offer = ours.objects.add_host(
        FIRST_SERVER_ID, INTERFACES["wl_data_offer"], 1, visible=True
    )

    ours.delete_guest_id(offer)
    assert ours.outbox.take() == []
    ours.delete_guest_id(mine)
    assert len(ours.outbox.take()) == 1


def test_errors_are_about_what_the_guest_knows() -> None:
    ours = context()
    own = ours.objects.add_own(INTERFACES["wl_shm"], 1)
    mine = ours.objects.add_guest(2, INTERFACES["wl_surface"], 1)

    assert mine.error(3, "no").object_id == 2
    assert own.error(3, "no").object_id == 1
