"""The whole way: an app in a domU, the agent there, the proxy in dom0, a compositor's picture.

The programs are the shipped ones; the agent runs without rights, with `/dev/gem-grant`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from lab import guest_agent, xen_guest
from lab.guest import Guest
from lab.say import say
from tests.integration import harness
from tests.integration.harness import (
    WESTON_PIXMAN,
    GuestSide,
    Proxy,
    eventually,
    start_proxy,
)
from tests.xen.domain import NOTHING, Domain

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a domU may have to be booted, and all is emulated
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

PATIENCE = 240.0
"""Seconds until Python programs are up, in a domU under emulation."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A domU that is shown."""

    domain: Domain
    side: GuestSide
    proxy: Proxy

    @property
    def guest(self) -> Guest:
        """The domU, as the other tests know it."""
        return self.domain.guest

    def window(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for a window that has shown something."""

        def look() -> dict[str, Any] | None:
            found = self.proxy.surfaces()
            return found[0] if found else None

        try:
            found = eventually(look, "a window", patience)
        except AssertionError as error:
            text = (
                f"{error}\n{self.proxy.log()[-3000:]}\n{self.side.agent_log()[-3000:]}"
            )
            raise AssertionError(text) from None
        assert found is not None
        return found


@pytest.fixture(scope="module", params=xen_guest.KINDS)
def running(
    domains: Mapping[str, Domain], request: pytest.FixtureRequest
) -> Iterator[Chain]:
    """Have agent and proxy, which take a minute to come up, and afterwards nothing granted."""
    domain = domains[request.param]
    domain.await_counts(NOTHING)
    side = GuestSide(domain.guest)
    side.ship()
    say(f"{request.param}: agent shipped")
    guest_agent.add_user(domain.guest)
    domain.shell(f"chown {guest_agent.USER} /dev/hvc1")
    side.start_agent("wlproxy_guest", "--port", "/dev/hvc1", privileged=False)
    channel = domain.machine.channel
    proxy = start_proxy(WESTON_PIXMAN, harness.OUT, channel=channel)
    say(f"{request.param}: agent and proxy started")
    try:
        proxy.wait_state("serving", PATIENCE)
        say(f"{request.param}: serving")
        yield Chain(domain, side, proxy)
    finally:
        proxy.stop()
        log = harness.OUT / f"agent-{request.param}.log"
        log.write_text(side.agent_log())
        side.stop_agent()
    domain.await_counts(NOTHING)


@pytest.fixture
def chain(running: Chain) -> Iterator[Chain]:
    """Have agent and proxy without an app, and afterwards nothing granted but the proof."""
    running.proxy.wait_no_clients()
    yield running
    running.proxy.wait_no_clients()
    # What apps had shown is let go; the agent may keep its proof, one page.
    domain = running.domain
    eventually(lambda: domain.counts()[1] <= 1, "all is let go", PATIENCE)


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (1024, 768)])
def test_every_pixel_is_shown_and_none_copied(
    chain: Chain, size: tuple[int, int]
) -> None:
    width, height = size
    client = chain.side.client()
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=width * height * 4, scatter=width)
    client.call("buffer", buffer="one", pool="pool", width=width, height=height)
    for frame in (1, 2, 3):
        client.show("window", "one", frame)
        WESTON_PIXMAN.wait_shows(width, height, frame, timeout=PATIENCE)

    surface = chain.window()
    assert (surface["mode"], surface["bytes_copied"]) == ("A", 0)
    assert (surface["width"], surface["height"]) == size
    assert chain.proxy.copied() == 0
    assert chain.domain.counts()[1] >= width * height * 4 // 4096

    client.kill()


def test_weston_simple_shm(chain: Chain) -> None:
    app = chain.side.app("weston-simple-shm", log="/run/simple-shm.log")
    before = chain.window()["frames"]
    surface = eventually(
        lambda: next(iter(chain.proxy.surfaces(before + 5)), None), "frames", PATIENCE
    )
    picture = WESTON_PIXMAN.capture()
    kind = chain.domain.machine.kind
    picture.save(harness.OUT / f"weston-simple-shm-{kind}.ppm")

    assert surface is not None
    assert (surface["mode"], surface["bytes_copied"]) == ("A", 0)
    assert chain.proxy.copied() == 0
    assert chain.domain.counts()[1] > 0
    # It is neither one colour nor black: rings that move.
    (row,) = picture.rows(0, picture.height // 2, picture.width, 1)
    assert len({row[at : at + 4] for at in range(0, len(row), 4)}) > 20

    chain.side.kill_app(app)
