"""`python -m bench.xen`: what a buffer costs once, and each frame of it, by grants or by udmabuf.

It boots two machines of the lab, one after the other: in dom0 of the one with Xen it measures grants
and udmabuf, and in the ordinary one udmabuf with a guest of KVM's.  Either can be had alone:

    python -m lab xen --timeout 1800 -- python3 -m bench.xen
    python -m lab run --guest --timeout 1800 -- python3 -m bench.xen

It prints tables of medians, in milliseconds.  All of it is emulated there: what can be compared is
the one with the other.
"""

import argparse
import fcntl
import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.document import add_into, print_table
from bench.processes import BenchError
from lab import xen_guest
from lab.guest import Guest
from tests.integration import harness
from tests.integration.harness import GuestSide, Proxy
from tests.xen.chain.stage import LARGE, Stage, add_buffer
from tests.xen.domain import Domain
from tests.xen.gntdev import GrantFile, expand
from wlproxy.host.desktop.udmabuf_device import (
    DEFAULT_DEVICE,
    UdmabufDevice,
    UdmabufItem,
)
from wlproxy.transport.fds import OwnedFd

SIZES: Final = {"64x64": (64, 64), "1920x1080": (1920, 1080), "3840x2160": LARGE}
ROUNDS: Final = 5
FRAMES: Final = 20
PAGE: Final = 4096
WAIT: Final = 600.0
"""Seconds for the frames of one animation."""

SCRATCH: Final = Path(__file__).resolve().parents[1] / "build" / "bench-xen"
"""Where the lab leaves what its machines' jobs have written: `KEPT`, and logs."""
KEPT: Final = "costs.md"
LIMIT: Final = "1800"
"""Seconds for each machine's job, the domU's boot and the agent's start included."""
DEFAULT_KIND: Final = "pvh"
MARK: Final = "bench.xen"
"""Where the tables go in a document."""

Row = dict[str, float]
"""What is measured -> milliseconds."""

LOCATE = """
import json, mmap, os, sys, time
sys.path.insert(0, {tree!r})
from wlproxy_guest.locating.locators import make_locator
locator = make_locator()
locator.find_features()
fd = os.memfd_create("buffer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
os.ftruncate(fd, {size})
with mmap.mmap(fd, {size}) as pages:
    for at in range(0, {size}, 4096): pages[at] = 1
times = []
for _ in range({rounds}):
    began = time.perf_counter()
    found = locator.locate(fd, 0, {size}, 1 << 40)
    located = time.perf_counter()
    found.pin.close()
    times.append((located - began, time.perf_counter() - located))
print(json.dumps(times))
"""
"""Runs in the guest: the agent's own way to tell where a buffer is, by grants or by addresses."""


@contextmanager
def timed(row: dict[str, list[float]], name: str) -> Iterator[None]:
    """Note how long something took."""
    began = time.perf_counter()
    yield
    row.setdefault(name, []).append((time.perf_counter() - began) * 1000)


def in_the_guest(guest: Guest, size: int) -> Row:
    """Measure what the agent does once for a buffer."""
    code = LOCATE.format(tree=harness.GUEST_TREE, size=size, rounds=ROUNDS)
    done = guest.run(["python3", "-c", code], timeout=WAIT)
    assert done.ok, done.stderr.decode(errors="replace")
    located, closed = zip(*json.loads(done.stdout), strict=True)
    return {
        "guest: pin, and grant or look up": statistics.median(located) * 1000,
        "guest: let go": statistics.median(closed) * 1000,
    }


def size_of(name: str) -> int:
    """Say how many bytes of pages a buffer of a size has."""
    width, height = SIZES[name]
    return -(-width * height * 4 // PAGE) * PAGE


def map_and_read(row: dict[str, list[float]], fd: int, size: int) -> None:
    """Map what a fd stands for, as a compositor does, and read all of it twice."""
    target = memoryview(bytearray(size))
    target[:] = bytes(size)  # none of its pages is new to us
    with timed(row, "host: mmap"):
        mapped = mmap.mmap(fd, size)
    pages = memoryview(mapped)
    with timed(row, "host: first frame read"):
        target[:] = pages
    with timed(row, "host: next frame read"):
        target[:] = pages
    pages.release()
    with timed(row, "host: munmap"):
        mapped.close()


def grants(domain: Domain, size: int) -> Row:
    """Measure what dom0 does once for a buffer that is granted."""
    row: dict[str, list[float]] = {}
    runs = domain.python(f"""
at, fd = device(), memfd({size})
fill(fd, {size}, 1)
granted, result = grant(at, fd, 0, {size})
""")
    refs = expand(runs)
    for _ in range(ROUNDS):
        with timed(row, "host: make the fd"):
            file = GrantFile(refs, domain.domid)
        with file:
            map_and_read(row, file.fileno(), size)
    domain.python("for each in granted, fd, at: os.close(each)")
    return {name: statistics.median(times) for name, times in row.items()}


def udmabufs(size: int) -> Row:
    """Measure what the host does once for a buffer that is a file's pages."""
    row: dict[str, list[float]] = {}
    number = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with UdmabufDevice() as device, OwnedFd(number) as ram:
        os.ftruncate(number, size)
        seal_against_shrinking(number)
        with mmap.mmap(number, size) as pages:
            for at in range(0, size, PAGE):
                pages[at] = 1
        for _ in range(ROUNDS):
            with timed(row, "host: make the fd"):
                fd = device.create([UdmabufItem(ram.fileno(), 0, size)])
            with fd:
                map_and_read(row, fd.fileno(), size)
    return {name: statistics.median(times) for name, times in row.items()}


def seal_against_shrinking(fd: int) -> None:
    """Seal a memfd, as udmabuf asks for."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)


def frames(side: GuestSide, proxy: Proxy, size: tuple[int, int]) -> Row:
    """Measure frames of two buffers in turn, which nobody draws into."""
    client = side.client()
    client.call("toplevel", surface="window")
    for name in ("one", "two"):
        add_buffer(client, name, size)
        client.call("show", surface="window", buffer=name, timeout=WAIT)
    assert side.agent is not None
    before = harness.cpu_seconds(proxy.pid), side.cpu_seconds(side.agent)
    client.call(
        "animate", surface="window", buffers=["one", "two"], frames=FRAMES, draw=False
    )
    said = client.call("animation", surface="window", wait=True, timeout=WAIT)
    after = harness.cpu_seconds(proxy.pid), side.cpu_seconds(side.agent)
    (surface,) = proxy.surfaces()
    assert (surface["mode"], proxy.copied()) == ("A", 0), surface
    client.kill()
    proxy.wait_no_clients()
    return {
        "a frame, until its callback": statistics.median(said["gaps"]) / 1e6,
        "a frame: CPU of the proxy": (after[0] - before[0]) * 1000 / FRAMES,
        "a frame: CPU of the agent": (after[1] - before[1]) * 1000 / FRAMES,
    }


def table(title: str, rows: Mapping[str, Row]) -> str:
    """Write a table in Markdown: a line for each thing that was measured."""
    names = list(next(iter(rows.values())))
    lines = [f"| {title} | {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
    for name in names:
        cells = " | ".join(f"{row[name]:.2f}" for row in rows.values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def measure(
    side: GuestSide, proxy: Proxy, host: Callable[[int], Row], guest: Guest
) -> dict[str, Row]:
    """Measure each size."""
    rows = {}
    for name, geometry in SIZES.items():
        size = size_of(name)
        rows[name] = in_the_guest(guest, size) | host(size)
        rows[name] |= frames(side, proxy, geometry)
    return rows


def on_xen(kind: str) -> str:
    """Measure grants of a domU; returns tables."""
    domain = Domain(xen_guest.domu(kind))
    stage = Stage({kind: domain})
    try:
        shown = stage.show(kind, "weston")
        rows = measure(
            shown.side, shown.proxy, lambda size: grants(domain, size), shown.guest
        )
    finally:
        stage.close()
        domain.close()
    return tables(kind, rows)


def tables(kind: str, rows: Mapping[str, Row]) -> str:
    """Write what was measured of a domU, and beside it what udmabuf takes in the same dom0."""
    written = table(f"grants, {kind} domU, ms", rows)
    if DEFAULT_DEVICE.exists():
        same = {name: udmabufs(size_of(name)) for name in rows}
        written += f"\n\n{table('udmabuf in the same dom0, ms', same)}"
    return written


def on_kvm() -> str:
    """Measure udmabufs of the lab's guest; returns a table."""
    compositor = harness.start_weston(harness.OUT, "bench", size=LARGE)
    with Guest() as guest:
        side = GuestSide(guest)
        side.ship()
        side.start_agent()
        proxy = harness.start_proxy(compositor, harness.OUT)
        try:
            proxy.wait_state("serving")
            rows = measure(side, proxy, udmabufs, guest)
        finally:
            proxy.stop()
            side.stop_agent()
            compositor.kill()
    return table("udmabuf, KVM guest, ms", rows)


def in_the_lab(kinds: Sequence[str]) -> str:
    """Measure in the lab's machine with Xen, then in the ordinary one; returns all tables.

    Raises:
        BenchError: a machine's job failed.
    """
    machines = {"xen": ["xen"], "kvm": ["run", "--guest"]}
    written = []
    for name, words in machines.items():
        out = SCRATCH / name
        (out / KEPT).unlink(missing_ok=True)
        command = [sys.executable, "-m", "lab", *words, "--timeout", LIMIT]
        command += ["--out", str(out), "--", "python3", "-m", "bench.xen"]
        command += kinds if name == "xen" else []
        status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        if status != 0:
            raise BenchError(f"{' '.join(command)}: status {status}")
        written.append((out / KEPT).read_text())
    return "\n".join(written)


def main(arguments: list[str] | None = None) -> int:
    """Measure whatever this machine has, or in the lab if it is none of its machines."""
    parser = argparse.ArgumentParser(prog="python -m bench.xen", description=__doc__)
    parser.add_argument(
        "kinds",
        nargs="*",
        metavar="KIND",
        help=f"of domU: {', '.join(xen_guest.KINDS)}; {DEFAULT_KIND} if none is named",
    )
    add_into(parser, MARK)
    chosen = parser.parse_args(arguments)
    kinds = chosen.kinds or [DEFAULT_KIND]
    if unknown := set(kinds).difference(xen_guest.KINDS):
        parser.error(f"no kind of domU: {', '.join(sorted(unknown))}")

    def make() -> str:
        if not os.environ.get("WLPROXY_LAB"):
            return in_the_lab(kinds)
        made = [on_xen(kind) for kind in kinds] if xen_guest.in_dom0() else [on_kvm()]
        text = "\n\n".join(made) + "\n"
        (harness.OUT / KEPT).write_text(text)
        return text

    return print_table(make, chosen.into, MARK)


if __name__ == "__main__":
    sys.exit(main())
