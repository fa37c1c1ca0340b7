"""App, agent, proxy, compositor and domain are killed, each while pages are mapped.

The compositor is stopped meanwhile, where it is not what is killed, so that it holds what it has
mapped; and the domain uses all memory that it has free, so that pages that were let go would be written over.
"""

import signal
import time

import pytest

from lab import nested, xen_guest
from tests.clients import pattern
from tests.integration.harness import PatternClient, eventually
from tests.xen import gntdev
from tests.xen.chain.stage import PATIENCE, Shown, Stage, stopped
from tests.xen.domain import USE_ALL_MEMORY, Domain, domids

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

SIZE, PAGES = (320, 240), 75
OTHER_SIZE = 256, 192
OTHER_BYTES = 256 * 192 * 4
PICTURE = pattern.image(*SIZE, 1)


@pytest.fixture
def other(stage: Stage) -> Shown:
    """Have another domain shown on the same compositor."""
    return stage.show("pv", "tiles")


def check_held(shown: Shown) -> None:
    """Check that the compositor, which is stopped, has the right bytes."""
    assert gntdev.has_mapped(shown.compositor.pid(), PICTURE)


def goes_on(other: Shown, client: PatternClient, frame: int) -> None:
    other.show_again(client, OTHER_SIZE, frame)


def test_an_app_is_killed(shown: Shown, other: Shown) -> None:
    survivor = other.show(OTHER_SIZE)
    friend = shown.show((64, 64))
    app = shown.show(SIZE)
    with stopped(shown.compositor.pid()):
        app.call("kill", signal=signal.SIGKILL)
        shown.domain.python(USE_ALL_MEMORY)
        check_held(shown)
        assert shown.domain.counts()[1] >= PAGES
    eventually(lambda: len(shown.proxy.status()["clients"]) == 1, "it has gone")
    eventually(lambda: shown.domain.counts()[1] < PAGES, "it is let go", PATIENCE)
    assert not gntdev.has_mapped(shown.compositor.pid(), PICTURE)

    friend.show("window", "one", 2)
    friend.kill()
    goes_on(other, survivor, 2)
    survivor.kill()
    other.settle()


def test_the_agent_is_killed(shown: Shown, other: Shown, stage: Stage) -> None:
    survivor = other.show(OTHER_SIZE)
    app = shown.show(SIZE)
    with stopped(shown.compositor.pid()):
        shown.side.stop_agent(signal.SIGKILL)
        app.kill()
        shown.domain.python(USE_ALL_MEMORY)
        check_held(shown)
        # The module alone keeps them, for as long as they are mapped.
        _, refs, _, closed = shown.domain.counts()
        assert refs == closed == PAGES
    # No console tells that it has gone; the next one does.
    stage.side("pvh")
    shown.settle(OTHER_BYTES)

    goes_on(other, survivor, 3)
    shown.show(SIZE, 4).kill()
    survivor.kill()
    other.settle()


def test_the_proxy_is_killed(shown: Shown, other: Shown, stage: Stage) -> None:
    survivor = other.show(OTHER_SIZE)
    app = shown.show(SIZE)
    with stopped(shown.compositor.pid()):
        shown.proxy.process.kill()
        shown.proxy.process.wait()
        app.kill()
        shown.domain.python(USE_ALL_MEMORY)
        check_held(shown)
    eventually(
        lambda: not gntdev.has_mapped(shown.compositor.pid(), PICTURE), "it is unmapped"
    )
    goes_on(other, survivor, 2)
    following = stage.show("pvh", "tiles")
    assert following.proxy.pid != shown.proxy.pid

    following.show(SIZE, 3).kill()
    following.settle(OTHER_BYTES)
    goes_on(other, survivor, 4)
    survivor.kill()
    other.settle()


def test_the_compositor_is_killed(shown: Shown, other: Shown, stage: Stage) -> None:
    apps = shown.show(SIZE), other.show(OTHER_SIZE)
    shown.compositor.kill()
    for each in (shown, other):
        # Its mappings have gone with it.
        eventually(lambda at=each: at.domain.counts()[1] <= 1, "let go", PATIENCE)  # type: ignore[misc]
    assert all(mapped == 0 for _, mapped in gntdev.users().values())
    for app in apps:
        app.kill()
    stage.compositor("tiles")
    for each, size in ((shown, SIZE), (other, OTHER_SIZE)):
        each.proxy.wait_state("serving", PATIENCE)
        each.show(size, 2).kill()
        each.settle()


def test_the_domain_is_destroyed(other: Shown, stage: Stage) -> None:
    survivor = other.show(OTHER_SIZE)
    machine = xen_guest.domu("pvh", directory=nested.RUN / "victim")
    stage.domains["victim"] = Domain(machine)
    victim = stage.show("victim", "tiles")
    victim.show(SIZE)
    domid = victim.domain.domid
    with stopped(victim.compositor.pid()):
        victim.domain.close()
        check_held(victim)
        # Its memory is kept as long as anybody has it.
        assert domid in domids()
        check_held(victim)
    deadline = time.monotonic() + PATIENCE
    while domid in domids():
        assert time.monotonic() < deadline, gntdev.users()
        time.sleep(0.2)
    goes_on(other, survivor, 2)
    survivor.kill()
    stage.forget("victim")
    assert other.domain.domid in domids()
    other.settle()
