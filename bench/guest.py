"""`python -m bench.guest`: what modes A, B and C cost with a real guest, in the lab.

On the developer's machine this has the lab run it once more in its host VM, and prints the
table of what that leaves.  There it measures, each mode in turn and all of them again: QEMU, virtio-serial,
the agent's look-up of pages and the udmabuf driver are in these figures.

All of it is emulated, the guest twice over, so that no time here is any machine's; one divided by
another of the same table says something.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.counting import tree_cpu_seconds
from bench.document import add_into, put_into
from bench.guest_app import NAME
from bench.machine import describe_machine
from bench.measuring import COPIED, CPU, P50, Sample, side
from bench.peers import APP_SIDE, COMPOSITOR_SIDE, version
from bench.processes import BenchError
from bench.report import aligned, cell, ratio
from bench.results import Results, ResultsError
from bench.workloads import WORKLOADS, Workload
from lab import runner
from lab.delegation import in_lab
from lab.errors import LabError
from lab.guest import Guest, GuestLostError
from lab.guest_agent import has_module
from tests.integration import harness
from tests.integration.harness import Compositor, GuestSide, Proxy, ProxySlot

TREE: Final = Path(__file__).resolve().parents[1]
SCRATCH: Final = TREE / "build" / "bench-guest"
FILE: Final = "results.json"
MARK: Final = "guest"
"""Where the table goes in a document: ``<!-- guest -->``, and its end."""
DIRECTORY: Final = "/run/bench"
"""Where the app's FIFOs are, in the guest."""
MODES: Final = {"A": "pixman", "B": "gl", "C": "pixman"}
"""Mode -> the renderer of the weston it is measured on: A where it is the only choice, C beside it."""
COUNTS: Final = {
    "frames-64": 24,
    "frames-4k": 12,
    "sync": 60,
    "first-use-1080p": 6,
    "first-use-4k": 4,
}
"""Workload -> units of a round."""
MODULE, PAGEMAP = "with gem_locate", "without gem_locate"
ROUNDS: Final = 3
PATIENCE: Final = 300.0
"""Seconds for one command of the app's."""
SECONDS: Final = 1800.0
"""For all of it."""
FIGURES: Final = {
    "CPU of agent and proxy, µs per unit": CPU,
    "CPU of the agent, in the guest, µs per unit": side(CPU, APP_SIDE),
    "CPU of the proxy, µs per unit": side(CPU, COMPOSITOR_SIDE),
    "How long a unit takes, seen by the app, µs (median)": P50,
    "Pixel bytes copied per unit": COPIED,
}


Tell = Callable[..., dict[str, Any]]
"""Has the app in the guest do something; returns what it says, or raises ClientError."""


@contextmanager
def running_app(guest_side: GuestSide) -> Iterator[Tell]:
    """Run the app in the guest, beside its agent."""
    guest = guest_side.guest
    guest.put_directory(TREE / "bench", f"{harness.GUEST_TREE}/bench")
    pid = guest.spawn_module(
        *("bench.guest_app", DIRECTORY, harness.GUEST_DISPLAY, str(guest_side.agent)),
        env={"PYTHONPATH": harness.GUEST_TREE},
        log="/run/bench.log",
    )
    fifos = f"{DIRECTORY}/{NAME}"

    def tell(**command: object) -> dict[str, Any]:
        line = json.dumps(command).encode() + b"\n"
        return dict(harness.call_fifo(guest, fifos, line, PATIENCE))

    try:
        made = ["test", "-p", f"{fifos}.out"]
        harness.eventually(lambda: guest.run(made).ok, "the app in the guest")
        yield tell
    finally:
        guest.kill(pid)


@contextmanager
def westons(
    directory: Path, renderers: Iterable[str]
) -> Iterator[dict[str, Compositor]]:
    """Run a weston for each renderer; its shell lets windows be as large as they like."""
    running: dict[str, Compositor] = {}
    try:
        for renderer in dict.fromkeys(renderers):
            name = f"wl-bench-{renderer}"
            running[renderer] = harness.start_weston(
                directory, name, renderer, "desktop"
            )
        yield running
    finally:
        for each in running.values():
            each.kill()


def measure(tell: Tell, proxy: Proxy, mode: str, workload: str, count: int) -> Sample:
    """Run a workload once, through a proxy of one mode.

    Raises:
        BenchError: it was shown in another mode, or pixels were copied in one that copies none.
    """
    tell(op="prepare", workload=workload)
    copied = proxy.copied()
    before = tree_cpu_seconds(proxy.pid)
    answer = tell(op="run", count=count)
    spent = tree_cpu_seconds(proxy.pid) - before
    copied = proxy.copied() - copied
    shown = {each["mode"] for each in proxy.surfaces()}
    tell(op="leave")
    proxy.wait_no_clients()
    if not shown <= {mode} or (copied and mode != "C"):
        raise BenchError(f"{workload}: shown in {shown}, {copied} pixel bytes copied")
    ends = {APP_SIDE: answer["agent"], COMPOSITOR_SIDE: spent}
    sample = {side(CPU, name): took / count * 1e6 for name, took in ends.items()}
    sample[CPU] = sum(sample.values())
    sample[COPIED] = copied / count
    if not _described(workload).paced:
        sample[P50] = statistics.median(answer["taken"]) * 1e6
    return sample


def _described(workload: str) -> Workload:
    (found,) = (each for each in WORKLOADS if each.name == workload)
    return found


def run(
    guest_side: GuestSide,
    slot: ProxySlot,
    rounds: int,
    counts: Mapping[str, int],
    modes: Mapping[str, str] = MODES,
) -> Results:
    """Measure everything in each mode, and then all of it again.

    Args:
        guest_side: the guest, with an agent that runs.
        slot: where the proxy goes: one after the other, as there is one channel.
        rounds: how often.
        counts: what is measured: workload -> units of a round.
        modes: mode -> the renderer of the weston that it is measured on.
    """
    how = {"rounds": str(rounds)}
    how["began"] = time.strftime("%Y-%m-%d %H:%M %z")
    how["pages"] = MODULE if has_module(guest_side.guest) else PAGEMAP
    results = Results(describe_machine(), how)
    for name in counts:
        described = _described(name)
        results.about[name] = (described.unit, described.about)
    with (
        running_app(guest_side) as tell,
        westons(harness.OUT, modes.values()) as running,
    ):
        for turn in range(rounds):
            for mode, renderer in modes.items():
                proxy = slot.use(running[renderer], "--present", mode.lower())
                for name, count in counts.items():
                    print(f"round {turn + 1} of {rounds}: {mode}: {name}", flush=True)
                    results.add(name, mode, measure(tell, proxy, mode, name, count))
            slot.stop()
    return results


def markdown(results: Results) -> str:
    """Write the table: medians, ranges, and what the modes cost beside each other."""
    machine, options = results.machine, results.options
    emulated = "emulated, the guest twice over (QEMU's TCG)"
    lines = [
        f"* **All is {emulated}: only one figure divided by another says something.**",
        f"* wlproxy {machine['wlproxy']}, its agent root's, {options['pages']}; {machine['weston']}, B on its GL renderer.",
        f"* Run: {options['began']}, {options['rounds']} rounds.",
    ]
    for title, figure in FIGURES.items():
        lines += ["", f"**{title}**", "", *_table(results, figure)]
    lines += ["", "**Units**", ""]
    about = results.about.items()
    lines += [f"* {name}: {what}; per {unit}" for name, (unit, what) in about]
    return "\n".join(lines) + "\n"


def _table(results: Results, figure: str) -> Iterator[str]:
    counted = figure == COPIED
    rows = [["", *MODES, *([] if counted else ["B / A", "C / A"])]]
    for name in results.samples:
        found = {mode: results.get(name, mode, figure) for mode in MODES}
        if not any(found.values()):
            continue
        cells = [cell(each, ranges=not counted) for each in found.values()]
        if not counted:
            cells += [ratio(found[mode], found["A"]) for mode in ("B", "C")]
        rows.append([name, *cells])
    if figure.startswith(CPU) and len(rows) > 1:
        small, large = (
            [results.get(f"frames-{size}", mode, figure) for mode in MODES]
            for size in ("64", "4k")
        )
        both = zip(large, small, strict=True)
        rows.append(["frames, 4K / 64x64", *(ratio(*each) for each in both), "", ""])
    yield from aligned(rows)


def _print(options: argparse.Namespace) -> None:
    """Print the table of results that were kept, or put it into a document."""
    text = markdown(Results.read(options.table))
    if options.into is None:
        print(text, end="")
        return
    put_into(options.into, text, MARK)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.guest", description=__doc__.partition("\n")[0]
    )
    often = f"how often each is measured (default: {ROUNDS})"
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=often)
    only = "measure this; repeatable"
    parser.add_argument("--only", choices=COUNTS, action="append", help=only)
    where = "where the files go (default: build/bench-guest)"
    parser.add_argument("--out", type=Path, default=SCRATCH, metavar="DIR", help=where)
    without = "have the agent find pages by itself, without its kernel module"
    parser.add_argument("--pagemap", action="store_true", help=without)
    table = "measure nothing; print FILE's table"
    parser.add_argument("--table", type=Path, metavar="FILE", help=table)
    add_into(parser, MARK, "with --table: ")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Have it measured in the lab, or measure it there; return the exit status."""
    options = parse(arguments)
    try:
        if options.table is not None:
            _print(options)
            return 0
        if in_lab():
            return _measure_here(options)
        return _measure_in_lab(options)
    except GuestLostError as exc:
        print(f"bench.guest: {exc}", file=sys.stderr)
        return runner.LOST
    except (BenchError, LabError, ResultsError, OSError, ValueError) as exc:
        print(f"bench.guest: {exc}", file=sys.stderr)
        return 1


def _measure_here(options: argparse.Namespace) -> int:
    counts = {each: COUNTS[each] for each in options.only or COUNTS}
    with Guest() as guest:
        guest_side, slot = GuestSide(guest), ProxySlot(harness.OUT)
        guest_side.ship()
        if options.pagemap:
            assert guest.run(["rmmod", "gem_locate"]).ok
        guest_side.start_agent()
        try:
            results = run(guest_side, slot, options.rounds, counts)
        finally:
            slot.stop()
    results.write(harness.OUT / FILE)
    return 0


def _measure_in_lab(options: argparse.Namespace) -> int:
    command = ["python3", "-m", "bench.guest", "--rounds", str(options.rounds)]
    command += [word for each in options.only or () for word in ("--only", each)]
    command += ["--pagemap"] if options.pagemap else []
    job = runner.Job(command, guest=True, timeout=SECONDS, out=options.out)
    if (status := runner.run(job)) != 0:
        return status
    results = Results.read(options.out / FILE)
    # There is no repository in the lab.
    describe = ["git", "-C", str(TREE), "describe", "--always", "--dirty"]
    results.machine["wlproxy"] = version(describe)
    results.write(options.out / FILE)
    (options.out / "results.md").write_text(markdown(results))
    print(markdown(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
