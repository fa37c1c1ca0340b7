"""Who is measured when: everything once, then everything again, so that noise hits all alike."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from bench.measuring import (
    ADDED,
    P50,
    REAL_APP,
    Sample,
    connect,
    measure,
    measure_app,
    measure_memory,
    measure_start,
    show_window,
    trace,
)
from bench.peers import COMPOSITORS, SOCKET, Peer, Waypipe, direct, waypipe, wlproxy
from bench.processes import BenchError, StalledError
from bench.results import Results
from bench.seats import on_seat
from bench.workloads import WORKLOADS, Workload
from tests.clients.wire import DisconnectedError, WaylandError
from wlproxy.host.errors import HostError

WAYPIPES = ("none", "lz4")
COMPRESSING = "waypipe lz4"
APP_SECONDS, QUICK_APP_SECONDS = 2.0, 0.5


class Measure(Protocol):
    """Measures something of a peer once."""

    def __call__(self, peer: Peer) -> Sample:
        """Return a number for each figure; none, if there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something to measure of each peer, round after round.

    Attributes:
        name: as in the results.
        unit: what is counted.
        about: what it is, in a line.
        measure: measures it.
        workload: if it is one.
        fresh: whether it takes peers that have served nobody.
        needs: programs without which it is left out.
        compositor: which one its peers are to have: one of `COMPOSITORS`.
    """

    name: str
    unit: str
    about: str
    measure: Measure
    workload: Workload | None = None
    fresh: bool = False
    needs: tuple[str, ...] = ()
    compositor: str = "weston"


def items(directory: Path, *, quick: bool) -> Iterator[Item]:
    """List all that can be measured.

    Args:
        directory: each compositor has one in it, of its own name, with its socket.
        quick: fewer units.
    """

    def run_by_unit(each: Workload) -> Item:
        count = each.quick if quick else each.count
        measured = partial(measure, workload=each, count=count)
        return Item(each.name, each.unit, each.about, measured, each)

    yield from map(run_by_unit, WORKLOADS)
    for each in on_seat(str(directory / "sway" / SOCKET)):
        needs = ("sway", *filter(None, [each.app]))
        yield replace(run_by_unit(each), needs=needs, compositor="sway")
    westons = directory / "weston"
    for name, about, open_app in (
        ("idle", "100 apps that are connected", connect),
        ("windows", "100 apps that show 64x64", show_window),
    ):
        memory = partial(measure_memory, open_app=open_app)
        yield Item(name, "app", about, memory, fresh=True)
    start = partial(measure_start, directory=westons)
    yield Item("start", "start", "until apps may come; and `--version`", start)
    seconds = QUICK_APP_SECONDS if quick else APP_SECONDS
    app = partial(measure_app, directory=westons, seconds=seconds)
    about = f"{REAL_APP} draws, at the compositor's pace"
    yield Item("simple-shm", "second", about, app, needs=(REAL_APP,))


QUICK = frozenset(
    {
        *("frames-64", "frames-1080p", "frames-4k", "commits-4k", "sync"),
        *("flood-damage", "flood-sync", "small-damage-4k", "churn-1080p", "visits"),
        *("crowd", "idle", "start", "pointer", "paste-64k"),
    }
)
"""What ``--quick`` measures, unless it is told what to."""
NAMES = tuple(item.name for item in items(Path(), quick=False))


@contextmanager
def peers(results: Results, directory: Path, compositor: str) -> Iterator[list[Peer]]:
    """Start a compositor and all peers that there are; say in the results which are not.

    Args:
        results: where that is said.
        directory: each compositor has one in it, of its own name.
        compositor: one of `COMPOSITORS`.

    Raises:
        BenchError: there is no compositor, or wlproxy does not start.
    """
    own = directory / compositor
    own.mkdir(mode=0o700)
    with ExitStack() as up:
        process = up.enter_context(COMPOSITORS[compositor](own))
        found = [
            up.enter_context(direct(own, process)),
            up.enter_context(wlproxy(own, process)),
        ]
        for compression in WAYPIPES:
            try:
                peer = up.enter_context(waypipe(compression, own, process))
            except BenchError as exc:
                results.missing[f"waypipe {compression}"] = str(exc)
            else:
                found.append(peer)
        yield found


def run(results: Results, names: Collection[str], rounds: int, *, quick: bool) -> None:
    """Measure, and put the samples into the results.

    Args:
        results: added to.
        names: of what is to be measured.
        rounds: how often.
        quick: fewer units each time.

    Raises:
        BenchError: nothing can be measured here.
    """
    with own_directory() as directory, ExitStack() as up:
        chosen = []
        for item in items(directory, quick=quick):
            if item.name not in names:
                continue
            lacking = [each for each in item.needs if not shutil.which(each)]
            if lacking:
                results.missing[item.name] = f"there is no {' and no '.join(lacking)}"
                continue
            results.about[item.name] = (item.unit, item.about)
            chosen.append(item)
        found = {
            each: up.enter_context(peers(results, directory, each))
            for each in dict.fromkeys(item.compositor for item in chosen)
        }
        for number in range(rounds):
            for item in chosen:
                _say(f"round {number + 1} of {rounds}: {item.name}")
                _measure_item(results, item, found[item.compositor], number)
        for item in chosen:
            if item.workload is not None and item.workload.traced:
                _trace(results, item.workload, found[item.compositor])


@contextmanager
def own_directory() -> Iterator[Path]:
    """Make a directory for the compositors' own, which may be those of another user."""
    with TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


def _measure_item(
    results: Results, item: Item, found: Sequence[Peer], number: int
) -> None:
    if item.fresh:
        with (
            own_directory() as directory,
            peers(results, directory, item.compositor) as others,
        ):
            taken = _measure_each(results, item, others, number)
    else:
        taken = _measure_each(results, item, found, number)
    for name, sample in taken.items():
        results.add(item.name, name, sample)


def _measure_each(
    results: Results, item: Item, found: Sequence[Peer], number: int
) -> dict[str, Sample]:
    """Measure all peers, beginning with another one in each round.

    A waypipe that stalls is left out from then on, which is said in the results.

    Raises:
        BenchError: one of them has failed.
    """
    # What the one before has left in the caches is not always the same one's.
    taken = {}
    for peer in rotated(found, number):
        if _pair(item.name, peer) in results.missing:
            continue
        try:
            taken[peer.name] = item.measure(peer)
        except StalledError as exc:
            if not isinstance(peer, Waypipe):
                raise
            results.missing[_pair(item.name, peer)] = str(exc)
        except (WaylandError, DisconnectedError, TimeoutError, HostError) as exc:
            raise BenchError(f"{item.name}, {peer.name}: {exc!r}") from exc
    if item.workload is not None and not item.workload.paced:
        add_differences(taken)
    return taken


def _pair(name: str, peer: Peer) -> str:
    return f"{name} through {peer.name}"


def _trace(results: Results, workload: Workload, found: Sequence[Peer]) -> None:
    """Count system calls: once, for noise does not change them."""
    _say(f"system calls: {workload.name}")
    for peer in found:
        if _pair(workload.name, peer) in results.missing:
            continue
        # lz4 is no matter of system calls, and these take their time.
        for side in peer.ends if peer.name != COMPRESSING else ():
            try:
                results.add(workload.name, peer.name, trace(peer, workload, side))
            except BenchError as exc:
                results.missing["system calls"] = str(exc)
                return


def rotated(found: Sequence[Peer], number: int) -> list[Peer]:
    """Return all of them, beginning with another one each time."""
    first = number % len(found)
    return [*found[first:], *found[:first]]


def add_differences(taken: dict[str, Sample]) -> None:
    """Say how much longer things took than directly, in the samples of one round."""
    least = taken.get("direct", {}).get(P50)
    if least is None:
        return
    for name, sample in taken.items():
        if name != "direct" and P50 in sample:
            sample[ADDED] = sample[P50] - least


def _say(text: str) -> None:
    print(text, flush=True)
