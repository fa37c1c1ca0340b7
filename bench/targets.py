"""What wlproxy is to reach, and how near it came in a run: the short table before the long ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bench import measuring
from bench.measuring import side
from bench.peers import APP_SIDE, COMPOSITOR_SIDE
from bench.results import Results, Summary

SUBJECT: Final = "wlproxy"
RIVAL: Final = "waypipe none"
BASELINE: Final = "direct"


@dataclass(frozen=True, slots=True)
class Reached:
    """A number that was reached, or two; and whether it is sure."""

    numbers: tuple[float, ...]
    noisy: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Something to reach.

    Attributes:
        what: what is counted or compared.
        most: the target, in words.
        reached: looks it up; None: it was not measured.
    """

    what: str
    most: str
    reached: Callable[[Results], Reached | None]


def _ratio(above: Summary | None, below: Summary | None) -> Reached | None:
    if above is None or below is None or not below.median:
        return None
    return Reached((above.median / below.median,), above.noisy or below.noisy)


def _against(
    workload: str, figure: str, other: str
) -> Callable[[Results], Reached | None]:
    """Compare wlproxy with another peer."""

    def look(results: Results) -> Reached | None:
        ours = results.get(workload, SUBJECT, figure)
        return _ratio(ours, results.get(workload, other, figure))

    return look


def _itself(workload: str, *figures: str) -> Callable[[Results], Reached | None]:
    """Look figures up."""

    def look(results: Results) -> Reached | None:
        found = [results.get(workload, SUBJECT, figure) for figure in figures]
        there = [each for each in found if each is not None]
        if len(there) < len(figures):
            return None
        # Counts have one sample, which no noise has changed.
        noisy = any(each.noisy and each.low != each.high for each in there)
        return Reached(tuple(each.median for each in there), noisy)

    return look


def _more(workload: str, than: str) -> Callable[[Results], Reached | None]:
    """Compare wlproxy's CPU for one unit and another."""

    def look(results: Results) -> Reached | None:
        more = results.get(workload, SUBJECT, measuring.CPU)
        return _ratio(more, results.get(than, SUBJECT, measuring.CPU))

    return look


def _later(workload: str, than: str) -> Callable[[Results], Reached | None]:
    """Compare the slowest hundredth of one workload and another, in milliseconds."""

    def look(results: Results) -> Reached | None:
        late = results.get(workload, SUBJECT, measuring.P99)
        usual = results.get(than, SUBJECT, measuring.P99)
        if late is None or usual is None:
            return None
        noisy = late.noisy or usual.noisy
        return Reached(((late.median - usual.median) / 1000,), noisy)

    return look


def _sides(figure: str) -> tuple[str, str]:
    return side(figure, APP_SIDE), side(figure, COMPOSITOR_SIDE)


TARGETS: Final = (
    Target(
        "pixel bytes copied per 4K frame",
        "0",
        _itself("frames-4k", measuring.COPIED),
    ),
    Target(
        "CPU per 64x64 frame, against waypipe",
        "1.5, then 1.0",
        _against("frames-64", measuring.CPU, RIVAL),
    ),
    Target(
        "system calls per 64x64 frame, agent and proxy",
        "8 and 9",
        _itself("frames-64", *_sides(measuring.CALLS)),
    ),
    Target(
        "loop passes per 64x64 frame, agent and proxy",
        "3 and 3",
        _itself("frames-64", *_sides(measuring.PASSES)),
    ),
    Target(
        "CPU per 4K frame, against waypipe",
        "1/60 (0.017), then 1/100 (0.01)",
        _against("frames-4k", measuring.CPU, RIVAL),
    ),
    Target("CPU per frame, 4K against 64x64", "1.2", _more("frames-4k", "frames-64")),
    Target(
        "frames per second at 4K, against direct",
        "at least 0.95",
        _against("frames-4k", measuring.RATE, BASELINE),
    ),
    Target(
        "added to a sync, against what waypipe adds",
        "2.0, then 1.0",
        _against("sync", measuring.ADDED, RIVAL),
    ),
    Target(
        "CPU of a flooded message, µs",
        "4, then 1",
        _itself("flood-region", measuring.CPU),
    ),
    Target(
        "CPU of a flooded damage, µs",
        "4, then 1",
        _itself("flood-damage", measuring.CPU),
    ),
    Target(
        "CPU per sync, with 60,000 objects against few",
        "1.2",
        _more("sync-60k-objects", "sync"),
    ),
    Target(
        "CPU per sync, beside 200 apps against alone",
        "1.2",
        _more("sync-200-apps", "sync"),
    ),
    Target(
        "p99 of a sync beside a new buffer of 95 MiB, against alone, ms more",
        "2",
        _later("sync-beside-95m", "sync"),
    ),
    Target("memory of an idle app, KiB", "32", _itself("idle", measuring.CLIENT_KIB)),
    Target(
        "`wlproxy run` until ready, ms", "400", _itself("start", measuring.READY_MS)
    ),
    Target(
        "CPU of `wlproxy --version`, ms",
        "150",
        _itself("start", measuring.VERSION_CPU_MS),
    ),
)


def reached(results: Results) -> Iterator[tuple[Target, Reached]]:
    """Look up what was measured."""
    for target in TARGETS:
        if (found := target.reached(results)) is not None:
            yield target, found
