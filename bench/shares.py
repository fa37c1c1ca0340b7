"""`python -m bench.shares`: whose the CPU time of a sync and of a small frame is.

Prints a table of both ends of wlproxy: what of it is the kernel's, and in whose functions the rest
is spent, by samples (`sampled`).  It needs no peer to compare with, and a machine at rest.
"""

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.counting import TICK
from bench.document import add_into, print_table
from bench.peers import (
    APP_SIDE,
    COMPOSITOR_SIDE,
    SIDES,
    Peer,
    samples,
    weston,
    wlproxy,
)
from bench.processes import BenchError, wait_until
from bench.report import aligned, number
from bench.workloads import WORKLOADS, Workload

MARK: Final = "shares"
"""Where the table goes in a document: ``<!-- shares -->``, and its end."""
MEASURED: Final = {"sync": 24_000, "commits-64": 20_000}
"""Workload -> units: seconds of each, so that there are a thousand samples or more."""
QUICK: Final = 100
"""What ``--quick`` divides the units by."""
ROOMS: Final = {
    "wlproxy/relay/": "relay",
    "wlproxy/protocol/": "protocol",
    "wlproxy/transport/": "transport",
    "wlproxy/host/": "the shell",
    "wlproxy_guest/": "the shell",
    "trio/": "trio",
    "outcome/": "trio",
}
"""Part of a path -> whose it is."""
OTHERS: Final = "Python's library and others"
ENDS: Final = {APP_SIDE: "agent", COMPOSITOR_SIDE: "proxy"}


@dataclass(frozen=True, slots=True)
class Share:
    """Whose the CPU time of one end is.

    Attributes:
        title: of which workload, and which end.
        microseconds: of each unit.
        kernel: of it all, 0 to 1.
        rooms: whose -> of the samples, 0 to 1.
        samples: how many there were.
    """

    title: str
    microseconds: float
    kernel: float
    rooms: Mapping[str, float]
    samples: int


def room_of(path: str) -> str:
    """Say whose a source file is."""
    return next((room for part, room in ROOMS.items() if part in path), OTHERS)


def shares(places: Mapping[str, int]) -> dict[str, float]:
    """Add up samples of source files, by whose they are; together 1, or nothing at all."""
    rooms: Counter[str] = Counter()
    for path, count in places.items():
        rooms[room_of(path)] += count
    return {room: count / rooms.total() for room, count in rooms.items()}


def cpu_ticks(pid: int) -> tuple[int, int]:
    """Read the CPU time of a process, as itself and in the kernel (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def measure_shares(
    peer: Peer, end: str, path: Path, workload: Workload, units: int
) -> Share:
    """Run a workload while one end of wlproxy is looked at.

    Args:
        peer: wlproxy.
        end: which side.
        path: where that writes its samples.
        workload: what is run.
        units: how much of it.

    Raises:
        BenchError: it does not say what it has seen, or has seen nothing.
    """
    pid = peer.ends[end]
    with workload.prepare(peer.display) as run:
        os.kill(pid, signal.SIGUSR1)
        before = cpu_ticks(pid)
        run(units)
        user, kernel = (b - a for a, b in zip(before, cpu_ticks(pid), strict=True))
        os.kill(pid, signal.SIGUSR2)
        wait_until(path.exists, "the samples are written")
    places = json.loads(path.read_text())
    path.unlink()
    if not places or not user + kernel:
        raise BenchError(f"{workload.name}: too short for a sample")
    microseconds = (user + kernel) * TICK * 1e6 / units
    return Share(
        f"{workload.name}, {ENDS[end]}",
        microseconds,
        kernel / (user + kernel),
        shares(places),
        sum(places.values()),
    )


def measure_all(divided_by: int) -> Iterator[Share]:
    """Run wlproxy, and each workload for each end.

    Raises:
        BenchError: nothing can be measured here.
    """
    workloads = {each.name: each for each in WORKLOADS}
    with ExitStack() as up:
        directory = Path(up.enter_context(TemporaryDirectory(prefix="bench-")))
        compositor = up.enter_context(weston(directory))
        peer = up.enter_context(wlproxy(directory, compositor, sampled=True))
        for name, units in MEASURED.items():
            for end in SIDES:
                path = samples(directory, end)
                yield measure_shares(
                    peer, end, path, workloads[name], units // divided_by
                )


def markdown(found: Sequence[Share]) -> str:
    """Write a table: a column for each end of each workload."""
    rooms = list(dict.fromkeys([*ROOMS.values(), OTHERS]))
    rows = [
        ["", *(each.title for each in found)],
        ["CPU, µs per unit", *(number(each.microseconds) for each in found)],
        ["of that in the kernel, %", *(f"{100 * each.kernel:.0f}" for each in found)],
    ]
    for room in rooms:
        cells = [f"{100 * each.rooms.get(room, 0):.0f}" for each in found]
        rows.append([f"in functions of {room}, %", *cells])
    rows.append(["samples", *(str(each.samples) for each in found)])
    return "\n".join(aligned(rows)) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print the table or put it into a document; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.shares", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a few units: does it work?"
    )
    add_into(parser, MARK)
    options = parser.parse_args(arguments)
    part = QUICK if options.quick else 1
    return print_table(lambda: markdown(list(measure_all(part))), options.into, MARK)


if __name__ == "__main__":
    sys.exit(main())
