"""Zero-copy, seen from outside: system calls and CPU time of proxy and agent per frame."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.integration import harness
from tests.integration.harness import (
    Compositor,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
    eventually,
)

pytestmark = [
    pytest.mark.guest(group="pixels"),
    pytest.mark.timeout(420),
    # One for mode A, one for mode B.
    pytest.mark.parametrize(
        "compositor", ["weston-pixman", "weston-gl"], indirect=True, scope="module"
    ),
]

MOVERS = (
    *("read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg"),
    *("splice", "tee", "vmsplice", "sendfile", "copy_file_range"),
    *("process_vm_readv", "process_vm_writev"),
)
"""Every system call by which a process can move bytes."""

STRACE = ["strace", "-f", "-qq", "-e", "signal=none", "-e", f"trace={','.join(MOVERS)}"]
MOVED = re.compile(r" = (\d+)$", re.MULTILINE)
MAX_BYTES_PER_FRAME = 4096
FRAMES = 24


def animate(client: PatternClient, frames: int, surface: str) -> None:
    """Show frames without drawing anything new: only the path is measured."""
    buffers = [f"{surface}0", f"{surface}1"]
    client.call("animate", surface=surface, buffers=buffers, frames=frames, draw=False)
    done = client.call("animation", surface=surface, wait=True, timeout=200)
    assert done["shown"] == frames


def make_surface(
    client: PatternClient, name: str, x: int, width: int, height: int
) -> None:
    """Make a subsurface with two buffers that covers little, and no other one.

    A compositor need not send frame callbacks for what cannot be seen.
    """
    length = width * height * 4
    client.call("pool", pool=name, size=2 * length)
    for index in (0, 1):
        client.call(
            "buffer",
            buffer=f"{name}{index}",
            pool=name,
            width=width,
            height=height,
            offset=index * length,
        )
    client.call("subsurface", surface=name, parent="window", x=x)
    # The same few pixels on the screen, whatever the buffer: the compositor's work
    # must not decide how many frames there are.
    client.call("viewport", surface=name, source=(0, 0, 64, 64))
    animate(client, 6, name)


@pytest.fixture(scope="module")
def client(compositor: Compositor, guest_side: GuestSide) -> Iterator[PatternClient]:
    """One pattern client of each compositor: its buffers take long to make."""
    del compositor
    client = guest_side.client()
    yield client
    client.kill()


@pytest.fixture(scope="module")
def running(
    compositor: Compositor, proxy_slot: ProxySlot, client: PatternClient
) -> Proxy:
    """A proxy in mode A or B, and a client with a small and a 4K surface."""
    gl = compositor.imports
    proxy = proxy_slot.use(compositor)
    proxy.wait_no_clients()
    client.call("toplevel", surface="window")
    client.call("pool", pool="back", size=1024 * 768 * 4)
    client.call("buffer", buffer="back", pool="back", width=1024, height=768)
    client.call("show", surface="window", buffer="back")
    make_surface(client, "small", 0, 64, 64)
    make_surface(client, "large", 200, 3840, 2160)
    modes = {each["width"]: each["mode"] for each in proxy.surfaces()}
    assert modes == {1024: "A", 64: "B" if gl else "A", 3840: "B" if gl else "A"}
    return proxy


def moved(text: str) -> int:
    """Add up what the system calls of a trace say they moved."""
    return sum(int(each) for each in MOVED.findall(text))


def test_no_pixel_goes_through_a_system_call(
    running: Proxy, client: PatternClient, guest_side: GuestSide, tmp_path: Path
) -> None:
    host_trace, guest_trace = tmp_path / "trace", "/run/agent.trace"
    guest_side.guest.run(["rm", "-f", guest_trace])
    with subprocess.Popen(
        [*STRACE, "-o", str(host_trace), "-p", str(running.pid)]
    ) as host_strace:
        argv = [*STRACE, "-o", guest_trace, "-p", str(guest_side.agent)]
        guest_strace = guest_side.guest.spawn(argv)
        eventually(lambda: traced(running.pid), "the proxy is traced")
        status = f"/proc/{guest_side.agent}/status"
        eventually(
            lambda: b"TracerPid:\t0\n" not in guest_side.guest.get(status),
            "the agent is traced",
        )
        animate(client, FRAMES, "large")
        host_strace.terminate()
        guest_side.guest.kill(guest_strace)
        guest_side.guest.wait(guest_strace)

    by_proxy = moved(host_trace.read_text())
    by_agent = moved(guest_side.guest.get(guest_trace).decode())
    # An empty trace would prove nothing: a commit is some 60 bytes, in and out.
    assert by_proxy > FRAMES * 100
    assert by_agent > FRAMES * 100
    assert (by_proxy + by_agent) / FRAMES < MAX_BYTES_PER_FRAME
    assert running.copied() == 0


def traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


ROUNDS = 9
TIMED_FRAMES = 12
MAX_RATIO = 1.2


def test_a_4k_frame_costs_what_a_small_one_costs(
    running: Proxy, client: PatternClient, guest_side: GuestSide
) -> None:
    """CPU time of proxy and agent: the median of short rounds in turn, as it is noisy."""
    agent = guest_side.agent
    assert agent is not None

    def used() -> float:
        return harness.cpu_seconds(running.pid) + guest_side.cpu_seconds(agent)

    costs: dict[str, list[float]] = {"small": [], "large": []}
    for _ in range(ROUNDS):
        for surface, samples in costs.items():
            before = used()
            animate(client, TIMED_FRAMES, surface)
            samples.append((used() - before) / TIMED_FRAMES)
    report = {name: [f"{1000 * each:.1f}" for each in costs[name]] for name in costs}
    print(f"milliseconds of CPU per frame: {report}")

    # Some 10 ms in these machines; less than a tick would be no measurement.
    assert min(map(min, costs.values())) * TIMED_FRAMES > 0.1
    ratio = median(costs["large"]) / median(costs["small"])
    assert ratio < MAX_RATIO, f"{ratio:.2f}: {report}"
    assert running.copied() == 0
