"""A `microvm`: no PCI, virtio devices in memory (virtio-mmio), and its own map of the RAM.

The lab's guest boots anew, with the options that `wlproxy qemu-args` prints for it.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import nested
from lab.guest import Guest
from tests.integration import harness
from tests.integration.harness import (
    CHANNEL,
    WESTON_PIXMAN,
    GuestSide,
    ProxySlot,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(400)]

WIDTH, HEIGHT = 333, 200


def printed_options(memory_mib: int) -> tuple[str, ...]:
    """What a user would paste."""
    words = [sys.executable, "-m", "wlproxy", "qemu-args", "--machine", "microvm"]
    words += ["--memory", f"{memory_mib}M", "--channel", str(CHANNEL)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return tuple(shlex.split(done.stdout.replace("\\\n", " ")))


@pytest.fixture(scope="module")
def side() -> Iterator[GuestSide]:
    machine = nested.in_lab()
    machine = machine.replace(
        described=printed_options(machine.memory_mib),
        bus="device",
        gpu="virtio-gpu-device",
    )
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


def test_a_window_is_shown_without_a_copy(slot: ProxySlot, side: GuestSide) -> None:
    assert not side.guest.run(["test", "-e", "/sys/bus/pci/devices/0000:00:00.0"]).ok
    proxy = slot.use(WESTON_PIXMAN)
    assert "of the machine type on QEMU's command line" in proxy.log()
    client = side.client()
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=WIDTH * HEIGHT * 4)
    client.call("buffer", buffer="b", pool="pool", width=WIDTH, height=HEIGHT)
    for frame in (1, 2):
        client.show("window", "b", frame)
        proxy.compositor.wait_shows(WIDTH, HEIGHT, frame)
    assert proxy.surface()["mode"] == "A", proxy.surface()["reason"]
    assert proxy.copied() == 0
    client.kill()
    proxy.wait_no_clients()
