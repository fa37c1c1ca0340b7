"""Fixtures of the real path: a guest with an agent, a proxy, clients."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import delegation
from lab.guest import Guest
from tests.integration import harness
from tests.integration.harness import (
    Compositor,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once what failed: jobs in the lab are long, and may be cut short."""
    if report.failed and delegation.in_lab():
        print(f"\n{report.nodeid} ({report.when}):\n{report.longreprtext[-3000:]}\n")


@pytest.fixture(scope="session")
def guest_side() -> Iterator[GuestSide]:
    """The guest of the lab, with the agent running in it."""
    with Guest() as guest:
        side = GuestSide(guest)
        side.ship()
        side.start_agent()
        yield side
        (harness.OUT / "agent.log").write_text(side.agent_log())


@pytest.fixture(scope="session")
def proxy_slot(guest_side: GuestSide) -> Iterator[ProxySlot]:
    """At most one proxy; the logs are kept."""
    slot = ProxySlot(harness.OUT)
    yield slot
    slot.stop()


@pytest.fixture(scope="session")
def sway() -> Iterator[Compositor]:
    """A headless sway."""
    compositor = harness.start_sway(Path("/run/sway"))
    yield compositor
    compositor.kill()


@pytest.fixture(scope="module", params=["weston-pixman", "weston-gl", "sway"])
def compositor(request: pytest.FixtureRequest) -> Compositor:
    """Each of the compositors."""
    match request.param:
        case "weston-pixman":
            return harness.WESTON_PIXMAN
        case "weston-gl":
            return harness.WESTON_GL
        case _:
            found: Compositor = request.getfixturevalue("sway")
            return found


@pytest.fixture
def proxy(proxy_slot: ProxySlot, compositor: Compositor) -> Proxy:
    """A proxy without options, for each of the compositors, without clients."""
    running = proxy_slot.use(compositor)
    running.wait_no_clients()
    return running


@pytest.fixture
def new_client(guest_side: GuestSide) -> Iterator[Callable[[], PatternClient]]:
    """Starts pattern clients, which end with the test."""
    made: list[PatternClient] = []

    def start() -> PatternClient:
        made.append(guest_side.client())
        return made[-1]

    yield start
    for client in made:
        client.kill()


@pytest.fixture
def client(new_client: Callable[[], PatternClient]) -> PatternClient:
    """One pattern client."""
    return new_client()
