"""Pools as real toolkits make them, and what they leave behind: nothing."""

import re
import signal
from collections.abc import Callable
from typing import Any

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

pytestmark = [pytest.mark.guest(group="windows"), pytest.mark.timeout(240)]

MIB = 1 << 20

TRACE = "/run/foot.strace"
# -D: what is started is foot, not strace.
STRACE = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none"]
STRACE += ["-e", "trace=fallocate", "-o", TRACE]
PUNCHED = re.compile(r"FALLOC_FL_PUNCH_HOLE, 0, (\d+)")
PROBE = 1
"""Length of the hole by which foot finds out whether it can punch any."""


@pytest.fixture
def proxy(proxy_slot: ProxySlot) -> Proxy:
    """A proxy without clients."""
    running = proxy_slot.use(WESTON_PIXMAN)
    running.wait_no_clients()
    return running


def test_buffers_that_are_never_shown_cost_nothing(
    proxy: Proxy, client: PatternClient
) -> None:
    """A cursor theme: dozens of buffers, none of them populated by looking at them."""
    created = proxy.status()["metrics"]["udmabufs_created"]
    client.call("connect")
    client.call("pool", pool="theme", size=64 * 48 * 48 * 4)
    for index in range(64):
        offset = index * 48 * 48 * 4
        client.call(
            "buffer",
            buffer=f"cursor{index}",
            pool="theme",
            width=48,
            height=48,
            offset=offset,
        )
    client.call("roundtrip")

    metrics = proxy.status()["metrics"]
    assert metrics["udmabufs_created"] == created
    assert metrics["udmabufs_alive"] == 0
    assert client.call("blocks", pool="theme") == 0


def test_showing_one_buffer_populates_no_other(
    proxy: Proxy, client: PatternClient
) -> None:
    """A pool of 512 MiB, half the guest's memory, as foot makes it."""
    client.call("toplevel", surface="window")
    client.call("pool", pool="huge", size=512 * MIB)
    size = 640 * 480 * 4
    for index, offset in enumerate((300 * MIB + 64, 301 * MIB, 410 * MIB + 4)):
        name = f"b{index}"
        client.call(
            "buffer", buffer=name, pool="huge", width=640, height=480, offset=offset
        )
        client.show("window", name, index)
        proxy.compositor.wait_shows(640, 480, index)

    assert proxy.copied() == 0
    assert client.call("blocks", pool="huge") <= 3 * (size + 2 * 4096)


def test_a_range_is_shown_again_after_a_hole_was_punched(
    proxy: Proxy, client: PatternClient
) -> None:
    """foot scrolls: new buffers over old ranges, whose pages are others by then."""
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=4 * MIB)
    for frame in range(4):
        # Each of them overlaps the one before by half.
        offset = frame % 2 * 320 * 120 * 4
        client.call(
            "buffer", buffer="b", pool="pool", width=320, height=240, offset=offset
        )
        client.show("window", "b", frame)
        proxy.compositor.wait_shows(320, 240, frame)
        client.call("destroy_buffer", buffer="b")
        client.call("punch", pool="pool", offset=0, length=4 * MIB)
    assert proxy.copied() == 0


def test_a_client_that_dies_leaves_nothing_behind(
    proxy: Proxy, guest_side: GuestSide, new_client: Callable[[], PatternClient]
) -> None:
    assert guest_side.agent is not None
    first = new_client()  # so that what is made once is made
    show_some(first)
    first.call("kill", signal=signal.SIGKILL)
    proxy.wait_no_clients()
    proxy_fds = harness.fd_count(proxy.pid)
    agent_fds = guest_side.fd_count(guest_side.agent)
    shared = guest_side.meminfo("Shmem")

    for _ in range(3):
        client = new_client()
        show_some(client)
        assert proxy.status()["metrics"]["udmabufs_alive"] == 4
        assert guest_side.meminfo("Shmem") > shared + 3 * MIB
        client.call("kill", signal=signal.SIGKILL)
        proxy.wait_no_clients()

    eventually(
        lambda: proxy.status()["metrics"]["udmabufs_alive"] == 0, "no udmabuf is open"
    )
    assert harness.fd_count(proxy.pid) <= proxy_fds
    eventually(
        lambda: guest_side.fd_count(guest_side.agent or 0) <= agent_fds, "pins are gone"
    )
    eventually(
        lambda: guest_side.meminfo("Shmem") < shared + MIB // 2, "pages are freed"
    )


def show_some(client: PatternClient) -> None:
    """Show four buffers of a pool on four surfaces, and keep them."""
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=4 * 512 * 512 * 4)
    for index in range(4):
        surface = "window" if index == 0 else f"sub{index}"
        if index:
            client.call("subsurface", surface=surface, parent="window", x=9 * index)
        client.call(
            "buffer",
            buffer=surface,
            pool="pool",
            width=512,
            height=512,
            offset=index * 512 * 512 * 4,
        )
        client.call("draw", buffer=surface, frame=index)
        client.call("show", surface=surface, buffer=surface, wait=False)
    client.call("show", surface="window", buffer="window")


def test_foot_scrolls_in_a_sparse_pool(
    proxy_slot: ProxySlot, sway: Compositor, guest_side: GuestSide
) -> None:
    """The guest has the memory of what foot touches, and not of its pools: where its
    window was before it scrolled there are holes, and what was pinned there is free.

    On sway: foot will not do without a seat.
    """
    proxy = proxy_slot.use(sway)
    proxy.wait_no_clients()
    before = guest_side.meminfo("Shmem")
    # Foot scrolls in its pool only by less than half of its lines at once.
    script = "for i in $(seq 30); do seq 5; sleep 0.3; done"
    script += "; touch /run/foot-scrolled; sleep 600"
    guest_side.guest.run(["rm", "-f", "/run/foot-scrolled"])
    words = [*STRACE, "foot", "sh", "-c", script]
    foot = guest_side.app(*words, log="/run/foot.log")
    try:
        guest_side.wait_app(
            foot,
            "/run/foot.log",
            lambda: guest_side.guest.run(["test", "-e", "/run/foot-scrolled"]).ok,
            120,
        )
        (surface,) = eventually(lambda: shown_by_foot(proxy), "foot's window")
        command = f"stat -L -c '%s %b' /proc/{foot}/fd/* | grep -E '^[0-9]{{7}}'"
        found = guest_side.guest.run(["sh", "-c", command]).stdout.decode()
        used = guest_side.meminfo("Shmem") - before
        traced = guest_side.guest.get(TRACE).decode()
    finally:
        guest_side.guest.kill(foot, signal.SIGKILL)
    proxy.wait_no_clients()

    frame = surface["width"] * surface["height"] * 4
    pools = [tuple(map(int, line.split())) for line in found.splitlines()]
    holes = [int(each) for each in PUNCHED.findall(traced)]
    scrolled = [length for length in holes if length > PROBE]
    print(f"pools: {pools}, frame: {frame}, holes: {holes}, used: {used}")
    assert surface["frames"] > 5
    assert surface["mode"] == "A"
    assert pools, "this foot makes no sparse pool"
    assert {size for size, _blocks in pools} == {512 * MIB}
    assert scrolled, "this foot punches no holes"
    assert all(blocks * 512 < frame + MIB for _size, blocks in pools)
    assert used < sum(blocks * 512 for _size, blocks in pools) + 4 * MIB
    assert proxy.copied() == 0
    eventually(lambda: guest_side.meminfo("Shmem") < before + MIB, "foot's memory")


def shown_by_foot(proxy: Proxy) -> list[dict[str, Any]]:
    """Return foot's window, once it is shown."""
    return [each for each in proxy.surfaces() if each["app_id"].endswith("foot")]
