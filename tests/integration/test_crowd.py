"""Fifty clients at once, each animating, one of which reads nothing any more."""

import statistics
from collections.abc import Callable

import pytest

from tests.integration import harness
from tests.integration.harness import (
    Compositor,
    GuestSide,
    PatternClient,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(400)]

CLIENTS = 50
MIB = 1 << 20


def test_fifty_clients_and_one_that_stalls(
    proxy_slot: ProxySlot,
    sway: Compositor,
    guest_side: GuestSide,
    new_client: Callable[[], PatternClient],
) -> None:
    # It tiles: all of them can be seen, and so get their frame callbacks.
    proxy = proxy_slot.use(sway)
    proxy.wait_no_clients()
    fds = harness.fd_count(proxy.pid)
    crowd = new_client()
    crowd.call("crowd", count=CLIENTS, timeout=200)
    assert len(proxy.surfaces()) == CLIENTS
    crowd.call("crowd_watch", seconds=1)  # they are under way

    calm = crowd.call("crowd_watch", seconds=6)
    memory = harness.rss(proxy.pid)
    stalled = new_client()
    harness.stall(proxy, stalled)
    busy = crowd.call("crowd_watch", seconds=6)
    grown = harness.rss(proxy.pid) - memory

    print(f"frames of each in 6 s: {sorted(calm)} then {sorted(busy)}; grown {grown}")
    assert min(calm) > 0
    assert min(busy) > 0, "one of the crowd stood still"
    assert statistics.median(busy) > statistics.median(calm) * 0.7
    assert grown < 32 * MIB
    assert proxy.copied() == 0

    crowd.kill()
    stalled.kill()
    proxy.wait_no_clients()
    eventually(lambda: harness.fd_count(proxy.pid) <= fds, "every fd is closed")
    assert guest_side.agent is not None
    assert guest_side.guest.alive(guest_side.agent)
