"""Either end stops and comes back: old clients are told, new ones work at once."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration import harness
from tests.integration.harness import (
    WESTON_PIXMAN,
    Compositor,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
    eventually,
)
from tests.open_fds import open_fds

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]

NewClient = Callable[[], PatternClient]


def show_one(proxy: Proxy, client: PatternClient, frame: int) -> None:
    """Show a frame, and look at it."""
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=320 * 200 * 4)
    client.call("buffer", buffer="one", pool="pool", width=320, height=200)
    client.show("window", "one", frame)
    proxy.compositor.wait_shows(320, 200, frame)
    assert proxy.surface()["mode"] == "A"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_proxy_is_stopped_and_started(
    proxy_slot: ProxySlot,
    guest_side: GuestSide,
    new_client: NewClient,
    number: signal.Signals,
) -> None:
    proxy = proxy_slot.use(WESTON_PIXMAN)
    proxy.wait_no_clients()
    agent = guest_side.agent
    assert agent is not None
    fds = guest_side.fd_count(agent)
    old = new_client()
    show_one(proxy, old, 1)
    assert guest_side.fd_count(agent) > fds

    status = proxy.stop(number)
    assert status == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert "WaylandError" in (ended := old.call("expect_disconnect"))
    words = "proxy was stopped" if number == signal.SIGTERM else "the host"
    assert words in ended
    # With nobody at the other end, and once nobody can still be looking at the pages.
    eventually(
        lambda: 0 < guest_side.fd_count(agent) <= fds, "the agent's fds are closed"
    )

    proxy = proxy_slot.use(WESTON_PIXMAN)
    show_one(proxy, new_client(), 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_agent_is_stopped_and_started(
    proxy_slot: ProxySlot,
    guest_side: GuestSide,
    new_client: NewClient,
    number: signal.Signals,
) -> None:
    proxy = proxy_slot.use(WESTON_PIXMAN)
    proxy.wait_no_clients()
    fds = harness.fd_count(proxy.pid)
    old = new_client()
    show_one(proxy, old, 1)
    sessions = proxy.status()["metrics"]["sessions"]

    guest_side.stop_agent(number)
    try:
        told = number == signal.SIGTERM
        words = "the agent was stopped" if told else "Disconnected"
        assert words in old.call("expect_disconnect")
    finally:
        guest_side.start_agent()
    # Nobody told the proxy of a killed one: it finds out when the new agent speaks up.
    eventually(
        lambda: proxy.status()["metrics"]["sessions"] > sessions, "a new session"
    )
    proxy.wait_state("serving")
    proxy.wait_no_clients()
    show_one(proxy, new_client(), 2)

    assert proxy.process.poll() is None
    new_fds = harness.fd_count(proxy.pid)
    assert new_fds <= fds + 8, "the old session's fds are still open"


@pytest.fixture
def own_weston(tmp_path: Path) -> Iterator[Compositor]:
    """A weston that may be killed."""
    compositor = harness.start_weston(tmp_path, "wl-own")
    yield compositor
    compositor.kill()


def test_the_compositor_is_killed_and_started(
    proxy_slot: ProxySlot,
    guest_side: GuestSide,
    own_weston: Compositor,
    new_client: NewClient,
    tmp_path: Path,
) -> None:
    proxy = proxy_slot.use(own_weston)
    proxy.wait_no_clients()
    assert guest_side.agent is not None
    agent_fds = guest_side.fd_count(guest_side.agent)
    proxy_fds = harness.fd_count(proxy.pid)
    old = new_client()
    show_one(proxy, old, 1)

    own_weston.kill()
    assert "has closed the connection" in old.call("expect_disconnect")
    own_weston.process = harness.start_weston(tmp_path, "wl-own").process
    eventually(lambda: "the compositor is back" in proxy.log(), "it notices")
    proxy.wait_state("serving")
    proxy.wait_no_clients()
    show_one(proxy, new := new_client(), 2)

    new.kill()
    proxy.wait_no_clients()
    assert proxy.process.poll() is None
    eventually(
        lambda: harness.fd_count(proxy.pid) <= proxy_fds, "the proxy's fds are closed"
    )
    eventually(
        lambda: guest_side.fd_count(guest_side.agent or 0) <= agent_fds,
        "the agent's fds are closed",
    )
    proxy_slot.stop()


def test_the_proxy_waits_for_a_compositor_that_is_gone(
    proxy_slot: ProxySlot, own_weston: Compositor, client: PatternClient, tmp_path: Path
) -> None:
    """An app that comes meanwhile is not left hanging."""
    proxy = proxy_slot.use(own_weston)
    own_weston.kill()
    eventually(lambda: "the compositor has gone" in proxy.log(), "it notices")
    error = client.expect_error("connect")
    assert error.kind in ("disconnected", "wayland"), error

    own_weston.process = harness.start_weston(tmp_path, "wl-own").process
    eventually(lambda: "the compositor is back" in proxy.log(), "it notices")
    proxy.wait_state("serving")
    client.call("reconnect")
    show_one(proxy, client, 3)
    proxy_slot.stop()


@pytest.mark.timeout(400)
def test_qemu_is_killed_and_booted_again(
    proxy_slot: ProxySlot, guest_side: GuestSide, new_client: NewClient
) -> None:
    proxy = proxy_slot.use(WESTON_PIXMAN)
    proxy.wait_no_clients()
    fds = harness.fd_count(proxy.pid)
    show_one(proxy, new_client(), 1)

    guest_side.guest.power_off()
    proxy.wait_state("waiting for QEMU")
    assert proxy.status()["clients"] == []
    assert proxy.status()["metrics"]["udmabufs_alive"] == 0
    links = open_fds(proxy.pid).values()
    assert not [each for each in links if each.startswith(("/memfd:", "/dmabuf:"))]
    maps = Path(f"/proc/{proxy.pid}/maps").read_text()
    assert "memory-backend-memfd" not in maps, "dead RAM is still mapped"

    guest_side.guest.boot()
    guest_side.rebooted()
    proxy.wait_state("serving", timeout=120)
    show_one(proxy, new := new_client(), 2)
    new.kill()
    proxy.wait_no_clients()
    eventually(lambda: harness.fd_count(proxy.pid) <= fds, "the old guest's fds")
