"""Reads what processes cost: CPU, memory, bytes, system calls; and how busy the machine is.

All of it is the kernel's own accounting.  A process counts with those that it has started,
since waypipe has one for each app.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

CPUCLOCK_SCHED: Final = 2
"""include/linux/posix-timers.h: what the scheduler counted, in ns, kernel time included."""
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
WAITS: Final = ("epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "pselect6")
"""System calls that wait for any of several fds: one is a pass of an event loop."""
ATTACH_SECONDS: Final = 20.0


def cpu_seconds(pid: int) -> float:
    """Read the CPU time of a process, all its threads, those that have ended included.

    Raises:
        OSError: there is no such process.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def descendants(pid: int) -> list[int]:
    """List a process and all that it and its children have started, as far as they live."""
    found = [pid]
    for each in found:  # which grows
        with suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def tree_cpu_seconds(pid: int) -> float:
    """Read the CPU time of a process and its descendants, of the dead ones by ticks.

    Not counted: those whose parent has not waited for them.
    """
    total = 0.0
    for each in descendants(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            reaped = int(fields[13]) + int(fields[14])  # cutime, cstime: proc(5)
            total += cpu_seconds(each) + reaped * TICK
    return total


def _field(path: Path, name: str) -> int:
    """Read a number off one of /proc's files of ``NAME: NUMBER``; 0 if it is not there."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0])
    return 0


def tree_anonymous_bytes(pid: int) -> int:
    """Read the memory that is a tree's own: pages of no file, shared ones in parts."""
    rollups = (Path(f"/proc/{each}/smaps_rollup") for each in descendants(pid))
    return sum(_field(path, "Pss_Anon") for path in rollups) << 10


def tree_bytes_written(pid: int) -> int:
    """Read how much a tree has written by write and writev; sendmsg is not counted."""
    return sum(_field(Path(f"/proc/{each}/io"), "wchar") for each in descendants(pid))


def tree_peak_bytes(pid: int) -> int:
    """Read the most memory that was resident at once, summed over a tree."""
    statuses = (Path(f"/proc/{each}/status") for each in descendants(pid))
    return sum(_field(path, "VmHWM") for path in statuses) << 10


def forget_peaks(pid: int) -> None:
    """Have the peaks of a tree begin anew (proc(5), clear_refs)."""
    for each in descendants(pid):
        with suppress(OSError):
            Path(f"/proc/{each}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class Processors:
    """What all processors together have done since boot, in seconds.

    Attributes:
        total: all of it.
        idle: nothing, or waiting for a disk.
        stolen: not theirs: the hypervisor had others run.
    """

    total: float
    idle: float
    stolen: float

    @classmethod
    def read(cls) -> Self:
        """Read /proc/stat."""
        line = Path("/proc/stat").read_text().partition("\n")[0]
        return cls.parse(line)

    @classmethod
    def parse(cls, line: str) -> Self:
        """Parse the first line of /proc/stat.

        Args:
            line: user, nice, system, idle, iowait, irq, softirq, steal and guests', in ticks.
        """
        numbers = [int(each) * TICK for each in line.split()[1:]]
        idle, stolen = numbers[3] + numbers[4], numbers[7]
        return cls(sum(numbers[:8]), idle, stolen)  # guests' time is in user's already

    def since(self, before: "Processors") -> "Processors":
        """Say what was done since `before`."""
        return Processors(
            self.total - before.total,
            self.idle - before.idle,
            self.stolen - before.stolen,
        )


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """How often what was called."""

    by_name: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_name.values())

    @property
    def passes(self) -> int:
        """Passes of event loops."""
        return sum(self.by_name.get(name, 0) for name in WAITS)


def parse_strace(report: str) -> dict[str, int]:
    """Parse what ``strace -c -U calls,name`` writes: each name's calls."""
    counted = {}
    for line in report.splitlines():
        calls, _, name = line.strip().partition(" ")
        if calls.isdigit() and name.strip() != "total":
            counted[name.strip()] = int(calls)
    return counted


@contextmanager
def counting_system_calls(pids: Iterable[int]) -> Iterator[SystemCalls]:
    """Count processes' system calls: what is yielded has them once the block has ended.

    Raises:
        TimeoutError: strace may not trace them.
        FileNotFoundError: there is no strace.
    """
    counted: dict[str, int] = {}
    pids = list(pids)
    with TemporaryDirectory(prefix="strace-") as directory:
        report = Path(directory, "report")
        words = ["strace", "-f", "-c", "-U", "calls,name", "-qq", "-o", str(report)]
        words += [word for pid in pids for word in ("-p", str(pid))]
        with subprocess.Popen(words) as tracer:
            try:
                _wait_traced(pids, tracer)
                yield SystemCalls(counted)
            finally:
                tracer.send_signal(signal.SIGINT)
        counted |= parse_strace(report.read_text())


def _wait_traced(pids: Sequence[int], tracer: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + ATTACH_SECONDS
    while any(
        _field(Path(f"/proc/{pid}/status"), "TracerPid") != tracer.pid for pid in pids
    ):
        if tracer.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError("strace does not trace it")
        time.sleep(0.01)
