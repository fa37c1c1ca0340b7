"""`python -m bench.screen_floor`: what an update of a screen costs a process that does nothing with it.

As for the viewer, there is something to pass on from QEMU, and a moment later from the compositor, with a pause before the
next: by epoll alone, and by trio (`bench.floor`).  At this rate the processor's caches have forgotten the
process each time, which most of it is.
"""

import statistics
import time
from pathlib import Path
from typing import Final

from bench.floor import EVENT, RECEIVE_SIZE, REQUEST, WAYS, Way, between

UPDATES: Final = 100
ROUNDS: Final = 3
FRAME, REST = 0.012, 0.016
"""Seconds from an update to its frame, and to the next update."""


def measure(way: Way, updates: int = UPDATES) -> float:
    """Return how much CPU an update takes, in seconds."""
    with between(way, 1) as (pid, [(qemu, compositor)]):
        time.sleep(20 * REST)  # until it waits
        before = _cpu(pid)
        for _ in range(updates):
            qemu.send(REQUEST)
            time.sleep(FRAME)
            compositor.recv(RECEIVE_SIZE)
            compositor.send(EVENT)
            time.sleep(REST)
            qemu.recv(RECEIVE_SIZE)
        return (_cpu(pid) - before) / updates


def _cpu(pid: int) -> float:
    """Read a process's CPU time, in seconds (schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def main() -> None:
    """Print what each way takes."""
    for name, way in WAYS.items():
        took = statistics.median(measure(way) for _ in range(ROUNDS))
        print(f"{name}: {took * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
