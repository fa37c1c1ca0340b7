"""What is done to a process, and how it is undone."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.chaos.accounting import Usage
from tests.chaos.places import Place

STEP = 256 << 10
"""Bytes of address space for each unit of `slack`."""

NO_LIMIT = "unlimited"


class Fault(Enum):
    """Kinds of faults; the names are the table's."""

    KILL = "kill -9"
    STOP = "SIGSTOP"
    EMFILE = "EMFILE"
    ENOMEM = "ENOMEM"
    ENOSPC = "ENOSPC"


Lift = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Target:
    """A process to break.

    Attributes:
        place: where it is.
        directory: where it writes.
        mounted: whether that is a file system of its own, which can be filled.
        rest: what it holds at rest; `slack` is counted from there, so that what it has
            for its present work is too much already.
    """

    place: Place
    pid: int
    directory: str
    mounted: bool
    rest: Usage


def inject(fault: Fault, target: Target, slack: int) -> Lift:
    """Do it; returns what undoes it.

    Args:
        fault: what to do.
        target: whom to do it to.
        slack: how little it is left: so many fds, so many `STEP`s of memory.
    """
    place, pid = target.place, target.pid
    match fault:
        case Fault.KILL:
            place.signal(pid, signal.SIGKILL)
            return lambda: None
        case Fault.STOP:
            place.signal(pid, signal.SIGSTOP)
            return lambda: place.signal(pid, signal.SIGCONT)
        case Fault.EMFILE:
            return _limit(target, "nofile", target.rest.fds.total() + slack)
        case Fault.ENOMEM:
            return _limit(target, "as", target.rest.address_space + slack * STEP)
        case Fault.ENOSPC if target.mounted:
            filler = f"{target.directory}/filler"
            place.shell(f"cat /dev/zero > {filler}")
            return lambda: void(place.shell(f"rm -f {filler}"))
        case Fault.ENOSPC:
            return _limit(target, "fsize", slack * 4096)


def _limit(target: Target, name: str, value: int) -> Lift:
    """Set a soft limit of a running process."""
    place, pid = target.place, target.pid
    shown = f"prlimit --pid {pid} --{name} --raw --noheadings --output SOFT"
    before = place.shell(f"{shown}; prlimit --pid {pid} --{name}={value}:").strip()
    return lambda: void(
        place.shell(f"prlimit --pid {pid} --{name}={before or NO_LIMIT}:")
    )


def void(_result: object) -> None:
    """Forget a result."""
