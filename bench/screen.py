"""`python -m bench.screen`: what a window of a machine's screen costs, beside gvncviewer.

Both show the same guest, in turn in each round, on a headless sway: `wlproxy screen` by D-Bus, gvncviewer by the same
QEMU's VNC.  The guest fills its whole screen at 60 Hz, or only when a key is pressed; without
KVM, which a floppy's boot sector does not need.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from bench.counting import descendants, tree_cpu_seconds
from bench.document import add_into, print_table
from bench.peers import MODULES, SOCKET, sway, version
from bench.processes import Started, started, wait_until
from bench.report import aligned, number
from bench.screen_guest import VNC, machine
from bench.screen_output import Output

MARK: Final = "screen"
HERE: Final = Path(__file__).resolve().parents[1]
SIZES: Final = ((1920, 1080), (640, 480))
SWAY: Final = """\
xwayland disable
default_border none
output * mode 1920x1080
"""
SETTLE: Final = 2.0
"""Seconds from a window's first picture until it is measured."""
KEYS: Final = 20
"""Presses in each round."""
PAUSE: Final = 0.15
"""Seconds between two, and as many more as random times of a screen's frame need."""

OURS, THEIRS, NOBODY = "wlproxy screen", "gvncviewer", "no viewer"
Figures = dict[str, float]

ROWS: Final = (
    ("viewer_us", "viewer, CPU for each update, µs"),
    ("viewer", "viewer, CPU, ms a second"),
    ("qemu", "QEMU without the guest's processor, CPU, ms a second"),
    ("compositor", "sway, CPU, ms a second"),
    ("updates", "updates a second"),
    ("frames", "frames a second"),
    ("copied", "bytes copied by the viewer, a second"),
    ("idle", "wake-ups of the viewer a second while nothing changes"),
    ("latency", "from a key to the pixel, median, ms"),
    ("latency_90", "the same, 9 of 10 take no longer, ms"),
)


@contextmanager
def wlproxy(directory: Path, tree: Path = HERE) -> Iterator[Started]:
    """Show the machine by D-Bus, as the code in some checkout does."""
    environ = {**MODULES, "XDG_RUNTIME_DIR": str(directory), "PYTHONPATH": str(tree)}
    words = [sys.executable, "-P", "-m", "bench.screen_viewer"]
    words += [str(directory / "qmp"), str(directory / SOCKET)]
    with started(words, directory / "viewer.log", environ) as viewer:
        viewer.wait_until(lambda: "ready" in viewer.said(), "wlproxy is up")
        yield viewer


@contextmanager
def gvncviewer(directory: Path) -> Iterator[Started]:
    """Show it by VNC."""
    environ = {
        "XDG_RUNTIME_DIR": str(directory),
        "WAYLAND_DISPLAY": SOCKET,
        "GDK_BACKEND": "wayland",
        "GTK_A11Y": "none",
        "GSETTINGS_BACKEND": "memory",
    }
    words = [THEIRS, f"127.0.0.1:{VNC}"]
    with started(words, directory / "vnc.log", environ) as viewer:
        yield viewer


def counts_of(viewer: Started) -> Mapping[str, int]:
    """Ask our viewer what it has counted.

    Raises:
        BenchError: it has ended.
    """
    lines = viewer.log.read_text().count("\n")
    os.kill(viewer.pid, signal.SIGUSR1)
    wait_until(lambda: viewer.log.read_text().count("\n") > lines, "counts", viewer)
    counts: dict[str, int] = json.loads(viewer.log.read_text().splitlines()[-1])
    return counts


def qemu_seconds(pid: int) -> float:
    """Read the CPU time of QEMU's threads but for the guest's processor (sched(7), schedstat)."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            if not (task / "comm").read_text().startswith("CPU "):
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def wake_ups(pid: int) -> int:
    """Read how often a process and its children have waited, and gone on."""
    total = 0
    for each in descendants(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total


def measure_video(
    viewer: Started | None, qemu: Started, compositor: Started, seconds: float
) -> Figures:
    """Measure while the whole screen changes."""
    ours = viewer is not None and "viewer" in viewer.log.name
    read: dict[str, Callable[[], float]] = {
        "qemu": partial(qemu_seconds, qemu.pid),
        "compositor": partial(tree_cpu_seconds, compositor.pid),
    }
    if viewer is not None:
        read["viewer"] = partial(tree_cpu_seconds, viewer.pid)
    counted = counts_of(viewer) if viewer is not None and ours else {}
    before = {name: each() for name, each in read.items()}
    start = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    found = {name: (each() - before[name]) * 1e3 / took for name, each in read.items()}
    if viewer is not None and ours:
        now = counts_of(viewer)
        for name in ("updates", "frames", "copied"):
            found[name] = (now[name] - counted[name]) / took
        found["viewer_us"] = found["viewer"] * 1e3 / max(found["updates"], 1)
    return found


def measure_still(viewer: Started, output: Output, seconds: float) -> Figures:
    """Measure while nothing changes, then press keys."""
    before, start = wake_ups(viewer.pid), time.monotonic()
    time.sleep(seconds)
    found = {"idle": (wake_ups(viewer.pid) - before) / (time.monotonic() - start)}
    output.seconds_to_change()
    times = []
    for press in range(KEYS):
        time.sleep(PAUSE + press * 0.0037)
        times.append(output.seconds_to_change() * 1e3)
    found["latency"] = statistics.median(times)
    found["latency_90"] = sorted(times)[KEYS * 9 // 10 - 1]
    return found


def measure_round(directory: Path, seconds: float) -> dict[tuple[str, int], Figures]:
    """Measure every viewer with every guest, once; by its name and the screen's width."""
    found: dict[tuple[str, int], Figures] = {}
    viewers = {OURS: wlproxy, THEIRS: gvncviewer}
    with sway(directory, SWAY) as compositor:
        for width, height in SIZES:
            with machine(directory, width, height, video=True) as qemu:
                time.sleep(SETTLE)  # the firmware
                none = measure_video(None, qemu, compositor, seconds)
                found[NOBODY, width] = none
                for name, show in viewers.items():
                    with show(directory) as viewer:
                        time.sleep(SETTLE)
                        sample = measure_video(viewer, qemu, compositor, seconds)
                        found[name, width] = sample
        width, height = SIZES[0]
        middle = (width // 2, height // 2)
        with (
            machine(directory, width, height, video=False),
            Output(str(directory / SOCKET), middle) as output,
        ):
            for name, show in viewers.items():
                with show(directory) as viewer:
                    time.sleep(2 * SETTLE)
                    found[name, width] |= measure_still(viewer, output, seconds)
    return found


def compare(other: Path, rounds: int, seconds: float) -> str:
    """Measure the viewer of another checkout and this one's in turns; say what an update takes."""
    found: dict[Path, list[float]] = {other.resolve(): [], HERE: []}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with (
            sway(directory, SWAY) as compositor,
            machine(directory, *SIZES[0], video=True) as qemu,
        ):
            for _, tree in itertools.product(range(rounds), found):
                with wlproxy(directory, tree) as viewer:
                    time.sleep(SETTLE)
                    sample = measure_video(viewer, qemu, compositor, seconds)
                    found[tree].append(sample["viewer_us"])
    ratios = [ours / its for its, ours in zip(*found.values(), strict=True)]
    before, now = map(statistics.median, found.values())
    ratio = statistics.median(ratios)
    return f"{before:.0f} µs there, {now:.0f} µs here, {ratio:.2f} times in pairs\n"


def medians(
    rounds: list[dict[tuple[str, int], Figures]],
) -> dict[tuple[str, int], Figures]:
    """Return the median of each figure."""
    found: dict[tuple[str, int], Figures] = {}
    for key in rounds[0]:
        names = rounds[0][key]
        found[key] = {
            name: statistics.median(each[key][name] for each in rounds)
            for name in names
        }
    return found


def markdown(found: dict[tuple[str, int], Figures]) -> str:
    """Write a table: a column for each viewer and size."""
    keys = sorted(found, key=lambda key: (key[0] != OURS, key[0] == NOBODY, -key[1]))
    heights = dict(SIZES)
    rows = [[""] + [f"{name}, {width} x {heights[width]}" for name, width in keys]]
    for figure, title in ROWS:
        cells = [
            number(found[key][figure]) if figure in found[key] else "" for key in keys
        ]
        rows.append([title, *cells])
    return "\n".join(aligned(rows)) + "\n"


def measure(rounds: int, seconds: float) -> str:
    """Measure so many rounds, and write the table of their medians.

    Args:
        rounds: how many.
        seconds: of each measurement.

    Raises:
        BenchError: something cannot be measured.
        OSError: likewise.
    """
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            found.append(measure_round(Path(directory), seconds))
    return markdown(medians(found))


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print the table or put it into a document; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.screen", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of each measurement"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="only compare what an update takes there and here",
    )
    add_into(parser, MARK)
    options = parser.parse_args(arguments)
    make = measure if options.beside is None else partial(compare, options.beside)
    status = print_table(
        partial(make, options.rounds, options.seconds), options.into, MARK
    )
    if not status:
        print(f"{version(['sway', '--version'])}, load {os.getloadavg()[0]:.1f}")
    return status


if __name__ == "__main__":
    sys.exit(main())
