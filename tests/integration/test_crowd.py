"""Fifty clients at once, each animating, and one that reads nothing any more."""

import statistics
from collections.abc import Callable, Sequence

import pytest

from tests.integration import harness
from tests.integration.harness import (
    Compositor,
    GuestSide,
    PatternClient,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest(group="windows"), pytest.mark.timeout(400)]

CLIENTS = 50
MIB = 1 << 20


def slowest(frames: Sequence[int]) -> float:
    """Return how many frames a client of the slowest tenth has shown."""
    return statistics.mean(sorted(frames)[: len(frames) // 10])


def test_fifty_clients_and_one_that_stalls(
    proxy_slot: ProxySlot,
    sway: Compositor,
    guest_side: GuestSide,
    new_client: Callable[[], PatternClient],
) -> None:
    # It tiles: all of them can be seen, and so get their frame callbacks.
    proxy = proxy_slot.use(sway)
    proxy.wait_no_clients()
    agent = guest_side.agent
    assert agent is not None
    fds, agent_fds = harness.fd_count(proxy.pid), guest_side.fd_count(agent)
    crowd = new_client()
    crowd.call("crowd", count=CLIENTS, timeout=200)
    assert len(proxy.surfaces()) == CLIENTS
    crowd.call("crowd_watch", seconds=1)  # they are under way

    calm = crowd.call("crowd_watch", seconds=6)
    memory, agent_memory = harness.rss(proxy.pid), guest_side.rss(agent)
    stalled = new_client()
    harness.stall(proxy, stalled)
    busy = crowd.call("crowd_watch", seconds=6)
    grown = harness.rss(proxy.pid) - memory
    agent_grown = guest_side.rss(agent) - agent_memory

    stalled.kill()
    eventually(
        lambda: len(proxy.status()["clients"]) == CLIENTS, "the stalled one is gone"
    )
    again = crowd.call("crowd_watch", seconds=6)

    for frames in (calm, busy, again):
        print(f"frames of each in 6 s: {sorted(frames)}")
    print(f"bytes grown: proxy {grown}, agent {agent_grown} above {agent_memory}")
    assert min(calm) > 0
    assert min(busy) > 0, "one of the crowd stood still"
    # Measured before and after, as the machine may have more to do than this.
    assert sum(busy) > min(sum(calm), sum(again)) * 0.7
    assert slowest(busy) > min(slowest(calm), slowest(again)) * 0.7
    # Nobody goes short for the sake of the others.
    assert slowest(busy) > statistics.median(busy) * 0.5
    assert grown < 32 * MIB
    assert agent_grown < 16 * MIB
    assert proxy.copied() == 0

    crowd.kill()
    proxy.wait_no_clients()
    eventually(lambda: harness.fd_count(proxy.pid) <= fds, "every fd is closed")
    assert guest_side.guest.alive(agent)
    eventually(
        lambda: guest_side.fd_count(agent) <= agent_fds, "and every one of the agent's"
    )
