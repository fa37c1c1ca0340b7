"""Measures what a workload costs a peer, once: a sample has a number for each figure.

Figures are named by what they count and its unit; those of one side end with its name.
Where a peer has nothing to count (a direct connection has no ends), the figure is left out.
"""

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.client import App, Canvas
from bench.counting import (
    Processors,
    counting_system_calls,
    cpu_seconds,
    descendants,
    forget_peaks,
    tree_anonymous_bytes,
    tree_cpu_seconds,
    tree_peak_bytes,
)
from bench.peers import MODULES, SIDES, Peer
from bench.processes import BenchError, started
from bench.workloads import SMALL, WARM_UP, Workload
from tests.clients.wire import Connection

Sample = dict[str, float]

CPU: Final = "cpu_us"
"""What a unit takes: both sides together, and each by its name."""
RATE: Final = "per_second"
P50, P99 = "p50_us", "p99_us"
"""How long a unit took, as the app sees it."""
ADDED: Final = "added_p50_us"
"""How much longer than with nothing between."""
COPIED: Final = "pixel_bytes_copied"
BETWEEN: Final = "bytes_between"
PEAK: Final = "peak_mib"
CALLS, PASSES = "system_calls", "loop_passes"
OTHERS, STEAL, IDLE = "others_percent", "steal_percent", "idle_percent"
"""How busy the machine was with something else, and how idle."""
CLIENT_KIB, NOBODY_KIB = "client_kib", "nobody_kib"
"""Memory that each app adds, and what there is without any."""
READY_MS, READY_CPU_MS, VERSION_CPU_MS = "ready_ms", "ready_cpu_ms", "version_cpu_ms"
APP_CPU_MS: Final = "cpu_ms_per_second"

NOISE: Final = (OTHERS, STEAL, IDLE)
IDLE_APPS: Final = 100
REAL_APP: Final = "weston-simple-shm"
SETTLE_SECONDS: Final = 0.3
"""Until what follows the last app's coming or going is over."""
LONG_ENOUGH: Final = 0.2
"""Seconds that /proc/stat, which counts in hundredths, can say something about."""


def side(figure: str, name: str) -> str:
    """Name a figure of one side."""
    return f"{figure}.{name}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What had been used up at a moment.

    Attributes:
        time: seconds.
        ends: CPU seconds of each side.
        ours: CPU seconds of this process and all that it has started: peers, compositor.
        processors: all of the machine's.
    """

    time: float
    ends: Mapping[str, float]
    ours: float
    processors: Processors

    @classmethod
    def take(cls, peer: Peer) -> Self:
        """Read it all."""
        ends = {name: tree_cpu_seconds(pid) for name, pid in peer.ends.items()}
        ours = tree_cpu_seconds(os.getpid())
        return cls(time.perf_counter(), ends, ours, Processors.read())


@dataclass(frozen=True, slots=True)
class Totals:
    """What a peer counts itself.  To ask costs CPU time: only while none is counted.

    Attributes:
        copied: pixel bytes.
        between: bytes between the ends.
    """

    copied: int | None
    between: int | None

    @classmethod
    def ask(cls, peer: Peer) -> Self:
        """Ask it."""
        return cls(peer.pixel_bytes_copied(), peer.bytes_between())

    def since(self, before: "Totals", units: int) -> Sample:
        """Say what a unit added."""
        sample: Sample = {}
        if before.copied is not None and self.copied is not None:
            sample[COPIED] = (self.copied - before.copied) / units
        if before.between is not None and self.between is not None:
            sample[BETWEEN] = (self.between - before.between) / units
        return sample


def noise(before: Reading, after: Reading) -> Sample:
    """Say how busy the machine was with something else; nothing, if that was too short."""
    spent = after.processors.since(before.processors)
    if after.time - before.time < LONG_ENOUGH:
        return {}
    busy = spent.total - spent.idle - spent.stolen
    return {
        OTHERS: 100 * max(busy - (after.ours - before.ours), 0) / spent.total,
        STEAL: 100 * spent.stolen / spent.total,
        IDLE: 100 * spent.idle / spent.total,
    }


def cpu_costs(before: Reading, after: Reading, units: int) -> Sample:
    """Say what CPU a unit took of each end, and of both."""
    spent = {name: after.ends[name] - before.ends[name] for name in after.ends}
    if not spent:
        return {}
    sample = {side(CPU, name): took / units * 1e6 for name, took in spent.items()}
    return {CPU: sum(sample.values()), **sample}


def measure(peer: Peer, workload: Workload, count: int) -> Sample:
    """Run a workload once."""
    peer.wait_quiet()
    with workload.prepare(peer.display) as run:
        if workload.leaves:
            time.sleep(SETTLE_SECONDS)
        for pid in peer.ends.values():
            forget_peaks(pid)
        asked = Totals.ask(peer)
        before = Reading.take(peer)
        began = time.perf_counter()
        taken = run(count)
        lasted = time.perf_counter() - began
        if workload.leaves:
            time.sleep(SETTLE_SECONDS)
        after = Reading.take(peer)
        sample = {
            RATE: count / lasted,
            **cpu_costs(before, after, count),
            **noise(before, after),
            **Totals.ask(peer).since(asked, count),
        }
        for name, pid in peer.ends.items():
            sample[side(PEAK, name)] = tree_peak_bytes(pid) / (1 << 20)
    if workload.latency:
        sample[P50] = statistics.median(taken) * 1e6
        sample[P99] = statistics.quantiles(taken, n=100, method="inclusive")[-1] * 1e6
    return sample


def trace(peer: Peer, workload: Workload, side_name: str) -> Sample:
    """Run a workload once more, slowly, while one side's system calls are counted.

    Raises:
        BenchError: they cannot be counted here.
    """
    if not shutil.which("strace"):
        raise BenchError("system calls are not counted: apt-get install strace")
    peer.wait_quiet()
    with workload.prepare(peer.display) as run:
        pids = descendants(peer.ends[side_name])
        try:
            with counting_system_calls(pids) as counted:
                run(workload.traced)
        except TimeoutError as exc:
            raise BenchError(f"system calls are not counted: {exc}") from exc
    return {
        side(CALLS, side_name): counted.total / workload.traced,
        side(PASSES, side_name): counted.passes / workload.traced,
    }


Open = Callable[[str], Callable[[], None]]
"""Has an app connect to a display; returns what has it leave."""


def connect(display: str) -> Callable[[], None]:
    """Connect, and do nothing."""
    return Connection(display).close


def show_window(display: str) -> Callable[[], None]:
    """Connect, show a small window, and do nothing more."""
    app = App(display)
    canvas = Canvas(app.wire, app.shm, SMALL, SMALL)
    canvas.fill(1)
    app.commit(canvas, (0, 0, SMALL, SMALL))
    return app.close


def measure_memory(peer: Peer, open_app: Open) -> Sample:
    """Have many apps that do nothing; return the memory that one takes.

    Args:
        peer: fresh: what it had for apps that have gone, it would use again.
        open_app: starts one.
    """
    for _ in range(WARM_UP):
        open_app(peer.display)()
    time.sleep(SETTLE_SECONDS)
    before = _anonymous(peer)
    with ExitStack() as apps:
        for _ in range(IDLE_APPS):
            apps.callback(open_app(peer.display))
        time.sleep(SETTLE_SECONDS)
        after = _anonymous(peer)
    sample: Sample = {}
    for name in peer.ends:
        sample[side(CLIENT_KIB, name)] = (after[name] - before[name]) / IDLE_APPS / 1024
        sample[side(NOBODY_KIB, name)] = before[name] / 1024
    if sample:
        for figure in (CLIENT_KIB, NOBODY_KIB):
            sample[figure] = sum(sample[side(figure, name)] for name in peer.ends)
    return sample


def _anonymous(peer: Peer) -> dict[str, int]:
    return {name: tree_anonymous_bytes(pid) for name, pid in peer.ends.items()}


def measure_start(peer: Peer, directory: Path) -> Sample:
    """Start the compositor's side once more, and have the program print its version."""
    sample: Sample = {}
    began = time.perf_counter()
    starting = peer.start_another(directory)
    if starting is not None:
        with starting as program:
            sample[READY_MS] = (time.perf_counter() - began) * 1e3
            sample[READY_CPU_MS] = cpu_seconds(program.pid) * 1e3
    if peer.version_command:
        sample[VERSION_CPU_MS] = _cpu_of(peer.version_command) * 1e3
    return sample


def _cpu_of(words: Sequence[str]) -> float:
    process = subprocess.Popen(
        words, env={**os.environ, **MODULES}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


@contextmanager
def running_app(peer: Peer, directory: Path) -> Iterator[None]:
    """Run a real app for as long as the block lasts."""
    environ = {"WAYLAND_DISPLAY": peer.display, "XDG_RUNTIME_DIR": str(directory)}
    with started([REAL_APP], directory / "app.log", environ):
        time.sleep(SETTLE_SECONDS)
        yield


def measure_app(peer: Peer, directory: Path, seconds: float) -> Sample:
    """Run a real app, which draws at the compositor's pace, for some seconds."""
    if not peer.ends:
        return {}
    peer.wait_quiet()
    with running_app(peer, directory):
        before = Reading.take(peer)
        time.sleep(seconds)
        after = Reading.take(peer)
    lasted = after.time - before.time
    sample = noise(before, after)
    for name in SIDES:
        spent = after.ends[name] - before.ends[name]
        sample[side(APP_CPU_MS, name)] = spent / lasted * 1e3
    sample[APP_CPU_MS] = sum(sample[side(APP_CPU_MS, name)] for name in SIDES)
    return sample
