"""Clients in the guest that break the rules end alone, while another one goes on."""

import signal
from collections.abc import Iterator

import pytest

from tests.integration import harness
from tests.integration.harness import (
    WESTON_PIXMAN,
    ClientError,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest(group="pixels"), pytest.mark.timeout(240)]

MIB = 1 << 20


@pytest.fixture(scope="module")
def proxy(proxy_slot: ProxySlot) -> Proxy:
    """A proxy without clients."""
    running = proxy_slot.use(WESTON_PIXMAN)
    running.wait_no_clients()
    return running


@pytest.fixture(scope="module")
def steady(proxy: Proxy, guest_side: GuestSide) -> Iterator[PatternClient]:
    """A well-behaved client that animates all the while."""
    client = guest_side.client()
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * 128 * 128 * 4)
    for index in (0, 1):
        client.call(
            "buffer",
            buffer=f"b{index}",
            pool="pool",
            width=128,
            height=128,
            offset=index * 128 * 128 * 4,
        )
    client.call("animate", surface="window", buffers=["b0", "b1"])
    eventually(
        lambda: client.call("animation", surface="window")["shown"] > 5, "it animates"
    )
    yield client
    client.kill()


@pytest.fixture(autouse=True)
def nobody_else_is_hurt(
    proxy: Proxy, steady: PatternClient, guest_side: GuestSide
) -> Iterator[None]:
    """The proxy lives, the steady client animates, nothing is left of the others."""
    eventually(lambda: len(proxy.status()["clients"]) == 1, "only the steady one")
    process, fds = proxy.process, harness.fd_count(proxy.pid)
    agent = guest_side.agent
    assert agent is not None
    agent_fds = guest_side.fd_count(agent)
    yield
    assert process.poll() is None, proxy.log()[-4000:]
    eventually(lambda: len(proxy.status()["clients"]) == 1, "the hostile one is gone")
    eventually(lambda: harness.fd_count(proxy.pid) <= fds, "its fds are closed")
    eventually(
        lambda: 0 < guest_side.fd_count(agent) <= agent_fds, "the agent's fds of it"
    )
    shown = steady.call("animation", surface="window")["shown"]
    eventually(
        lambda: steady.call("animation", surface="window")["shown"] > shown + 5,
        "the steady one goes on",
    )


@pytest.mark.parametrize(
    "data",
    [
        "ff" * 64,
        "0100000000000700",  # a message that is shorter than its header
        "01000000ffff0000",  # size 0
        "0100000063000800",  # an opcode that wl_display does not have
        "0900000000000800",  # an object that nobody made
        "010000000100080001000000",  # get_registry without its argument
        "01000000000010000000000001000000",  # too long for its arguments
    ],
)
def test_garbage_is_answered_with_an_error(client: PatternClient, data: str) -> None:
    client.call("connect")
    client.call("raw", data=data)
    error = client.call("expect_disconnect")
    assert "WaylandError" in error or "Disconnected" in error


def test_half_a_message_and_then_nothing(client: PatternClient) -> None:
    client.call("connect")
    client.call("raw", data="0100000000000c00")
    client.call("kill", signal=signal.SIGKILL)


def test_half_a_message_with_an_fd(client: PatternClient) -> None:
    """The fd comes with the first bytes; it must not stay behind with them."""
    client.call("connect")
    client.call("raw", data="0300000000001000", fds=("memfd",), repeat=1)
    client.call("kill", signal=signal.SIGKILL)


def test_many_fds_that_no_message_owns(client: PatternClient) -> None:
    client.call("connect")
    with pytest.raises(ClientError, match=r"wayland|disconnected"):
        client.call("syncs_with_fds", count=100, fds=("memfd",) * 20)


def test_ten_thousand_objects(client: PatternClient) -> None:
    """Nothing forbids them; they go when the client goes."""
    client.call("connect")
    client.call("many_objects", count=10_000)
    client.call("kill", signal=signal.SIGKILL)


@pytest.mark.parametrize("kind", ["pipe", "null", "directory"])
def test_a_pool_of_something_that_is_no_memory(
    client: PatternClient, kind: str
) -> None:
    client.call("connect")
    error = client.expect_error("wrong_pool", kind=kind)
    assert error.kind == "wayland", error


@pytest.mark.parametrize("size", [0, -1, -(1 << 31)])
def test_a_pool_of_no_size(client: PatternClient, size: int) -> None:
    client.call("connect")
    error = client.expect_error("wrong_pool", kind="memfd", size=size)
    assert error.kind == "wayland", error


@pytest.mark.parametrize("claim", [1 * MIB, 1 << 30, (1 << 31) - 1])
def test_a_pool_that_is_larger_than_its_file(client: PatternClient, claim: int) -> None:
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=4096, claim=claim)
    client.call("buffer", buffer="b", pool="pool", width=256, height=256)
    error = client.expect_error("show", surface="window", buffer="b")
    assert error.kind == "wayland", error
    assert "ends before its buffer" in error.text


@pytest.mark.parametrize(
    "geometry",
    [
        {"width": 0, "height": 1, "stride": 4},
        {"width": 16, "height": -1, "stride": 64},
        {"width": 16, "height": 16, "stride": 60},
        {"width": 16, "height": 16, "stride": (1 << 31) - 1},
        {"width": 16, "height": 16, "stride": 64, "offset": 3073},
        {"width": 16, "height": 16, "stride": 64, "offset": -64},
        {"width": 16, "height": (1 << 31) - 1, "stride": 64},
    ],
)
def test_a_buffer_that_is_not_in_its_pool(
    client: PatternClient, geometry: dict[str, int]
) -> None:
    client.call("connect")
    client.call("pool", pool="pool", size=4096)
    error = None
    try:
        client.call("buffer", buffer="b", pool="pool", **geometry)
        client.call("roundtrip")
    except ClientError as raised:
        error = raised
    assert error is not None
    assert error.kind == "wayland", error


def test_a_client_that_never_reads(
    proxy: Proxy, steady: PatternClient, client: PatternClient
) -> None:
    """It stops itself by its credit; memory stays where it was."""
    before = harness.rss(proxy.pid)
    harness.stall(proxy, client)
    shown = steady.call("animation", surface="window")["shown"]
    eventually(
        lambda: steady.call("animation", surface="window")["shown"] > shown + 30,
        "the steady one goes on",
    )
    assert len(proxy.status()["clients"]) == 2, "it is still there, and stalled"
    assert harness.rss(proxy.pid) < before + 32 * MIB
    client.call("kill", signal=signal.SIGKILL)
