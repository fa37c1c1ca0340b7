"""The guest's RAM as the VMM tells of it, with a real QEMU that runs as another user.

The lab's guest boots anew, with the tap's device, two NUMA nodes and slots for memory.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import nested
from lab.guest import Guest
from tests.integration import harness
from tests.integration.harness import (
    WESTON_GL,
    WESTON_PIXMAN,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(400)]

MODES = {"A": WESTON_PIXMAN, "B": WESTON_GL}
USER, GROUP = "nobody", "nogroup"
MIB = 1 << 20
DIMM = 256 * MIB
WIDTH, HEIGHT = 640, 480
FRAMES = 60
NODES = 2
STRIPE = 64 * 4096
"""Bytes that a buffer has on one node before it goes on in the other."""
ONLINE = """\
for state in /sys/devices/system/memory/memory*/state; do
    if grep -q offline $state; then echo online_kernel >$state; fi
done
"""


class Tap:
    """`wlproxy ram-tap`, as a user starts it."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "wlproxy", "ram-tap", "--group", GROUP]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self._table.is_socket, "the tap listens")

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.send(number)
        assert self._process is not None
        return self._process.wait(30)

    def said(self, words: str) -> int:
        return self.log.read_text().count(words)

    @property
    def vmm(self) -> Path:
        return harness.RUNTIME / "wlproxy-vm.ram"

    @property
    def _table(self) -> Path:
        return harness.RUNTIME / "wlproxy" / "vm.ram"


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    # Its user's directory is nobody else's, and this VM is to come in.
    harness.RUNTIME.chmod(0o711)
    tap = Tap(harness.OUT / "ram-tap.log")
    tap.start()
    yield tap
    assert tap.end() == 0
    harness.RUNTIME.chmod(0o700)


@pytest.fixture(scope="module")
def side(tap: Tap) -> Iterator[GuestSide]:
    """A guest whose QEMU tells of its RAM, and runs as somebody else."""
    machine = nested.in_lab()
    options = (
        *("-m", f"{machine.memory_mib},slots=2,maxmem=2G"),
        *("-chardev", f"socket,id=tap,path={tap.vmm},reconnect-ms=1000"),
        *("-device", "vhost-user-blk-pci,chardev=tap"),
        *("-run-with", f"user={USER}"),
    )
    machine = machine.replace(nodes=NODES, options=(*machine.options, *options))
    with Guest(machine) as guest:
        guest.boot()
        side = GuestSide(guest)
        side.ship()
        side.start_agent()
        yield side
        (harness.OUT / "agent.log").write_text(side.agent_log())
        guest.power_off()


@pytest.fixture(scope="module")
def slot(side: GuestSide) -> Iterator[ProxySlot]:
    """The one proxy."""
    slot = ProxySlot(harness.OUT)
    yield slot
    slot.stop()


def open_window(client: PatternClient, **pool: int) -> None:
    length = WIDTH * HEIGHT * 4
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * length, **pool)
    for index in (0, 1):
        shape = {"width": WIDTH, "height": HEIGHT, "offset": index * length}
        client.call("buffer", buffer=f"b{index}", pool="pool", **shape)


def show_four(proxy: Proxy, client: PatternClient) -> None:
    """Enough for a window to be known to take buffers in turn, which mode B is for."""
    for frame in range(1, 5):
        client.show("window", f"b{frame % 2}", frame)
        proxy.compositor.wait_shows(WIDTH, HEIGHT, frame)


def begin_animation(client: PatternClient) -> None:
    buffers = ["b0", "b1"]
    client.call("animate", surface="window", buffers=buffers, frames=FRAMES, draw=False)


def end_animation(client: PatternClient) -> None:
    done = client.call("animation", surface="window", wait=True, timeout=200)
    assert done["shown"] == FRAMES


def free_normal_pages(side: GuestSide) -> int:
    """How many pages of the zone that only plugged memory is in are free."""
    text = side.guest.get("/proc/zoneinfo").decode()
    for zone in text.split("Node ")[1:]:
        if "zone   Normal" in zone.splitlines()[0]:
            return int(zone.split("pages free")[1].split()[0])
    return 0


@pytest.mark.parametrize("mode", sorted(MODES))
def test_windows_are_shown_without_a_copy(
    slot: ProxySlot, side: GuestSide, mode: str
) -> None:
    proxy = slot.use(MODES[mode])
    assert "map as the VMM tells it" in proxy.log()
    assert proxy.status()["confined"].startswith("to its own files")
    assert side.guest.pid is not None
    status = Path(f"/proc/{side.guest.pid}/status").read_text()
    assert "Uid:\t0" not in status, "it was to run as another user"
    client = side.client()
    open_window(client)
    show_four(proxy, client)
    assert proxy.surface()["mode"] == mode, proxy.surface()["reason"]
    assert proxy.copied() == 0
    client.kill()
    proxy.wait_no_clients()


def test_a_window_is_on_two_numa_nodes(slot: ProxySlot, side: GuestSide) -> None:
    """Each of its buffers is in two files, which the VMM has told of."""
    proxy = slot.use(WESTON_PIXMAN)
    client = side.client()
    open_window(client, stripe=STRIPE)
    show_four(proxy, client)
    pages = client.call("nodes", pool="pool")
    per_stripe = STRIPE // 4096
    assert pages == [page // per_stripe % NODES for page in range(len(pages))]
    assert proxy.surface()["mode"] == "A", proxy.surface()["reason"]
    assert proxy.copied() == 0
    client.kill()
    proxy.wait_no_clients()


def test_a_tap_that_is_stopped_or_killed_costs_no_frame(
    slot: ProxySlot, side: GuestSide, tap: Tap
) -> None:
    proxy = slot.use(WESTON_PIXMAN)
    client = side.client()
    open_window(client)
    connected = tap.said("is connected")

    tap.send(signal.SIGSTOP)
    begin_animation(client)
    end_animation(client)
    with side.guest.qmp() as qmp:
        assert qmp("query-status")["running"]
    tap.send(signal.SIGCONT)

    begin_animation(client)
    assert tap.end(signal.SIGKILL) == -signal.SIGKILL
    end_animation(client)
    told = tap.said("the guest's RAM")
    tap.start()
    eventually(lambda: tap.said("is connected") > connected, "QEMU comes back")
    eventually(lambda: tap.said("the guest's RAM") > told, "it tells again")
    eventually(lambda: "RAM is back" in proxy.log(), "the proxy hears")
    show_four(proxy, client)
    assert proxy.status()["metrics"]["sessions"] == 1
    client.kill()
    proxy.wait_no_clients()


def test_memory_is_plugged_while_a_window_is_animated(
    slot: ProxySlot, side: GuestSide, tap: Tap
) -> None:
    """And what an app draws into it is shown, without a copy and in the same session."""
    proxy = slot.use(WESTON_PIXMAN)
    client = side.client()
    open_window(client)
    begin_animation(client)
    with side.guest.qmp() as qmp:
        backend = {"qom-type": "memory-backend-memfd", "id": "more"}
        qmp("object-add", **backend, size=DIMM, share=True)
        qmp("device_add", driver="pc-dimm", id="dimm", memdev="more")
    eventually(lambda: "guest RAM: 1280 MiB now" in proxy.log(), "the proxy hears")
    end_animation(client)

    def online() -> bool:
        assert side.guest.run(["sh", "-c", ONLINE]).ok
        return free_normal_pages(side) * 4096 > DIMM // 2

    eventually(online, "the guest uses it")
    client.kill()
    proxy.wait_no_clients()
    before = free_normal_pages(side)
    other = side.client()
    open_window(other)
    show_four(proxy, other)
    taken = (before - free_normal_pages(side)) * 4096
    assert taken >= 2 * WIDTH * HEIGHT * 4, "its pages are elsewhere"
    assert proxy.surface()["mode"] == "A", proxy.surface()["reason"]
    assert proxy.copied() == 0
    assert proxy.status()["metrics"]["sessions"] == 1
    other.kill()
    proxy.wait_no_clients()
