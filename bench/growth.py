"""How a cost grows with what there is more of, and what a processor can carry: from a run's medians.

A larger machine has more of the same: these are what to multiply.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

from bench import measuring
from bench.client import PIXEL
from bench.measuring import side
from bench.peers import APP_SIDE, COMPOSITOR_SIDE
from bench.results import Results
from bench.targets import SUBJECT, Reached
from bench.workloads import HD, SMALL, UHD

PAGE: Final = 4096
FRAMES: Final = 60
"""Frames per second of a window that is animated all the time."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Something that a cost grows with, or how much of it a processor carries.

    Attributes:
        what: in words, with the unit.
        found: works it out; None: it was not measured.
    """

    what: str
    found: Callable[[Results], Reached | None]


def _slope(
    workload: str, than: str, units: float
) -> Callable[[Results], Reached | None]:
    """Divide how much more CPU one workload takes than another by what there is more of."""

    def look(results: Results) -> Reached | None:
        more = results.get(workload, SUBJECT, measuring.CPU)
        less = results.get(than, SUBJECT, measuring.CPU)
        if more is None or less is None:
            return None
        slope = (more.median - less.median) * 1000 / units  # of microseconds
        return Reached((slope,), more.noisy or less.noisy)

    return look


def _carried(workload: str, each_second: float) -> Callable[[Results], Reached | None]:
    """Divide a second of a processor by what a unit takes of it, at each end."""

    def look(results: Results) -> Reached | None:
        ends = [
            results.get(workload, SUBJECT, side(measuring.CPU, end))
            for end in (APP_SIDE, COMPOSITOR_SIDE)
        ]
        there = [end for end in ends if end is not None and end.median]
        if len(there) < len(ends):
            return None
        carried = tuple(1e6 / each_second / end.median for end in there)
        return Reached(carried, any(end.noisy for end in there))

    return look


GROWTHS: Final = (
    Growth(
        "a page more of a buffer that is shown for the first time, ns",
        _slope(
            "first-use-4k", "first-use-1080p", (prod(UHD) - prod(HD)) * PIXEL / PAGE
        ),
    ),
    Growth(
        "1,000 pixels more of a frame, ns",
        _slope("frames-4k", "frames-64", (prod(UHD) - SMALL**2) / 1000),
    ),
    Growth(
        "1,000 live objects more, for a sync, ns",
        _slope("sync-60k-objects", "sync", 60),
    ),
    Growth(
        "an app more that does nothing, for another's sync, ns",
        _slope("sync-200-apps", "sync", 200),
    ),
    Growth(
        f"windows of 64x64 at {FRAMES} frames/s, per processor of agent and of proxy",
        _carried("frames-64", FRAMES),
    ),
    Growth(
        f"the same of 3840x2160 at {FRAMES} frames/s", _carried("frames-4k", FRAMES)
    ),
    Growth(
        "syncs each second, per processor of agent and of proxy", _carried("sync", 1)
    ),
    Growth("apps that connect and leave each second", _carried("visits", 1)),
)


def grown(results: Results) -> Iterator[tuple[Growth, Reached]]:
    """Work out what was measured."""
    for growth in GROWTHS:
        if (found := growth.found(results)) is not None:
            yield growth, found
