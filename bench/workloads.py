"""What is done through each peer, in the order of importance.

A workload is prepared (connected, a window shown, caches warm), and then run for so many units.
Only the run is measured.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

from bench.client import App, Canvas
from tests.clients.wire import Connection, encode

Run = Callable[[int], Sequence[float]]
"""Does so many units; returns seconds that single ones took, if that is of interest."""
Prepare = Callable[[str], AbstractContextManager[Run]]
"""Connects to a display."""

SMALL: Final = 64
"""Width and height of a small frame, and of small damage."""
VGA: Final = (640, 480)
HD: Final = (1920, 1080)
UHD: Final = (3840, 2160)
LARGE: Final = (5000, 4980)
"""95 MiB."""
BESIDE: Final = 40
"""Syncs for each buffer of that size: about as long as it takes to show it."""
AT_ONCE: Final = 1000
"""Messages that are sent before any answer is read."""
WARM_UP: Final = 5
"""Units that are not measured: caches, first use, Python's own adaptation."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that apps do.

    Attributes:
        name: on the command line and in tables.
        unit: what is counted.
        about: what it is, in a line.
        prepare: connects, and returns what runs it.
        count: units of a round.
        quick: units of a round of ``--quick``.
        traced: units while system calls are counted; 0: they are not.
        latency: whether the time of a unit is of interest.
        paced: whether a unit waits for the compositor's clock: then its time says only who is
            too slow for that.
        leaves: whether apps have gone when it is over, and what for is to be waited for.
        app: the program that is the app, if that is none of ours.
    """

    name: str
    unit: str
    about: str
    prepare: Prepare
    count: int
    quick: int
    traced: int = 0
    latency: bool = True
    paced: bool = False
    leaves: bool = False
    app: str = ""


def timed(step: Callable[[], None], times: int) -> list[float]:
    """Do something so often; return the seconds that each time took."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    return taken


@contextmanager
def frames(width: int, height: int, display: str) -> Iterator[Run]:
    """Show one frame after another, all of it new each time."""
    number, damage = count(1), (0, 0, width, height)
    with App(display) as app:
        canvas = Canvas(app.wire, app.shm, width, height)

        def step() -> None:
            canvas.fill(next(number))
            app.frame(canvas, damage)

        timed(step, WARM_UP)
        yield partial(timed, step)


@contextmanager
def commits(width: int, height: int, display: str) -> Iterator[Run]:
    """Commit a frame, all of it new, and wait until the compositor has it."""
    number, damage = count(1), (0, 0, width, height)
    with App(display) as app:
        canvas = Canvas(app.wire, app.shm, width, height)
        app.frame(canvas, damage)

        def run(units: int) -> list[float]:
            taken = []
            for _ in range(units):
                canvas.fill(next(number))
                taken += timed(lambda: app.commit(canvas, damage), 1)
            return taken

        run(WARM_UP)
        yield run


@contextmanager
def small_damage(display: str) -> Iterator[Run]:
    """Change a small square of a large window, each time another one."""
    number, (width, height) = count(1), UHD
    with App(display) as app:
        canvas = Canvas(app.wire, app.shm, width, height)
        canvas.fill(0)
        app.frame(canvas, (0, 0, width, height))

        def step() -> None:
            value = next(number)
            place = value * SMALL
            x, y = place % (width - SMALL), place // width * SMALL % (height - SMALL)
            canvas.fill_square(x, y, SMALL, value % 255 + 1)
            app.frame(canvas, (x, y, SMALL, SMALL))

        timed(step, WARM_UP)
        yield partial(timed, step)


@contextmanager
def syncs(display: str) -> Iterator[Run]:
    """Ask the compositor whether it is there, and wait for the answer."""
    with App(display) as app:
        timed(app.sync, 10 * WARM_UP)
        yield partial(timed, app.sync)


@contextmanager
def flood(request: str, display: str) -> Iterator[Run]:
    """Send one request again and again, and wait only at the end."""
    with App(display) as app:
        message = {
            "damage": encode(app.surface, 2, "iiii", 0, 0, SMALL, SMALL),
            "set_opaque_region": encode(app.surface, 4, "u", app.region),
        }[request]

        def run(units: int) -> list[float]:
            app.flood(message, units)
            return []

        run(1000)
        yield run


@contextmanager
def churn(width: int, height: int, display: str) -> Iterator[Run]:
    """Show each frame in a buffer of its own, and destroy the one before."""
    number, damage = count(1), (0, 0, width, height)
    with App(display) as app, ExitStack() as last:

        def step() -> None:
            canvas = Canvas(app.wire, app.shm, width, height)
            canvas.fill(next(number))
            app.frame(canvas, damage)
            last.pop_all().close()
            last.callback(canvas.destroy)

        timed(step, WARM_UP)
        yield partial(timed, step)


@contextmanager
def first_use(width: int, height: int, display: str) -> Iterator[Run]:
    """Make a buffer, commit it, and wait until the compositor has it."""
    number, damage = count(1), (0, 0, width, height)
    with App(display) as app, ExitStack() as last:

        def run(units: int) -> list[float]:
            taken = []
            for _ in range(units):
                canvas = Canvas(app.wire, app.shm, width, height)
                canvas.fill(next(number))
                taken += timed(partial(app.commit, canvas, damage), 1)
                last.pop_all().close()
                last.callback(canvas.destroy)
            return taken

        run(WARM_UP)
        yield run


@contextmanager
def resizes(display: str) -> Iterator[Run]:
    """Show each frame in a buffer of another size, as while a window is resized."""
    number = count(1)
    with App(display) as app, ExitStack() as last:

        def step() -> None:
            value = next(number)
            width, height = VGA[0] + 8 * (value % 40), VGA[1] + 6 * (value % 40)
            canvas = Canvas(app.wire, app.shm, width, height)
            canvas.fill(value)
            app.frame(canvas, (0, 0, width, height))
            last.pop_all().close()
            last.callback(canvas.destroy)

        timed(step, WARM_UP)
        yield partial(timed, step)


@contextmanager
def syncs_among_objects(objects: int, display: str) -> Iterator[Run]:
    """Do as `syncs`, while the app has many objects."""
    with App(display) as app:
        for _ in range(objects // AT_ONCE):
            app.make_regions(AT_ONCE)
        timed(app.sync, 10 * WARM_UP)
        yield partial(timed, app.sync)


@contextmanager
def syncs_among_apps(apps: int, display: str) -> Iterator[Run]:
    """Do as `syncs`, while many other apps are connected."""
    with ExitStack() as leaving, App(display) as app:
        for _ in range(apps):
            leaving.callback(Connection(display).close)
        timed(app.sync, 10 * WARM_UP)
        yield partial(timed, app.sync)


@contextmanager
def syncs_beside_pool(display: str) -> Iterator[Run]:
    """Do as `syncs`, while another app shows buffers of 95 MiB that nobody has seen before."""
    number, corner = count(1), (0, 0, 1, 1)
    with App(display) as app, App(display) as other:

        def run(units: int) -> list[float]:
            taken = []
            for _ in range(units // BESIDE):
                canvas = Canvas(other.wire, other.shm, *LARGE)
                canvas.fill(next(number))
                shown = other.begin_commit(canvas, corner)
                taken += timed(app.sync, BESIDE)
                other.end_frame(shown)
                canvas.destroy()
            return taken

        run(BESIDE)
        yield run


@contextmanager
def flood_of_syncs(display: str) -> Iterator[Run]:
    """Ask for many syncs at once: a request and two events each."""
    with App(display) as app:

        def run(units: int) -> list[float]:
            for _ in range(units // AT_ONCE):
                app.flood_syncs(AT_ONCE)
            return []

        run(AT_ONCE)
        yield run


@contextmanager
def first_windows(display: str) -> Iterator[Run]:
    """Connect, make a window, and wait until the compositor has its first frame."""
    with ExitStack() as last:

        def step() -> None:
            app = last.enter_context(App(display))
            canvas = Canvas(app.wire, app.shm, SMALL, SMALL)
            canvas.fill(1)
            app.commit(canvas, (0, 0, SMALL, SMALL))

        def run(units: int) -> list[float]:
            taken = []
            for _ in range(units):
                taken += timed(step, 1)
                last.pop_all().close()
            return taken

        run(WARM_UP)
        yield run


@contextmanager
def visits(display: str) -> Iterator[Run]:
    """Connect, ask what there is, and leave."""

    def step() -> None:
        Connection(display).close()

    timed(step, WARM_UP)
    yield partial(timed, step)


@contextmanager
def crowd(apps: int, display: str) -> Iterator[Run]:
    """Have many apps show small frames at once; a unit is a frame of one of them."""
    number, damage = count(1), (0, 0, SMALL, SMALL)
    with ExitStack() as leaving:
        there = []
        for _ in range(apps):
            app = leaving.enter_context(App(display))
            there.append((app, Canvas(app.wire, app.shm, SMALL, SMALL)))

        def run(units: int) -> list[float]:
            for _ in range(units // apps):
                waiting = []
                for app, canvas in there:
                    canvas.fill(next(number))
                    waiting.append((app, app.begin_frame(canvas, damage)))
                for app, callback in waiting:
                    app.end_frame(callback)
            return []

        run(apps)
        yield run


WORKLOADS: Final = (
    Workload(
        "frames-64",
        "frame",
        "64x64, all of it new",
        partial(frames, SMALL, SMALL),
        *(80, 24),
        traced=50,
        paced=True,
    ),
    Workload(
        "frames-480p",
        "frame",
        "640x480, all of it new",
        partial(frames, *VGA),
        *(30, 12),
        paced=True,
    ),
    Workload(
        "frames-1080p",
        "frame",
        "1920x1080, all of it new",
        partial(frames, *HD),
        *(30, 12),
        paced=True,
    ),
    Workload(
        "frames-4k",
        "frame",
        "3840x2160, all of it new",
        partial(frames, *UHD),
        *(30, 10),
        traced=15,
        paced=True,
    ),
    Workload(
        "commits-64",
        "commit",
        "64x64, until the compositor has it",
        partial(commits, SMALL, SMALL),
        *(300, 60),
    ),
    Workload(
        "commits-4k",
        "commit",
        "3840x2160, until the compositor has it",
        partial(commits, *UHD),
        *(40, 8),
    ),
    Workload(
        "sync",
        "round trip",
        "wl_display.sync",
        syncs,
        *(1000, 300),
        traced=200,
    ),
    Workload(
        "flood-damage",
        "message",
        "wl_surface.damage, as fast as it is taken",
        partial(flood, "damage"),
        *(100_000, 20_000),
        traced=10_000,
        latency=False,
    ),
    Workload(
        "flood-region",
        "message",
        "wl_surface.set_opaque_region, as fast as it is taken",
        partial(flood, "set_opaque_region"),
        *(100_000, 20_000),
        latency=False,
    ),
    Workload(
        "small-damage-4k",
        "frame",
        "64x64 of 3840x2160",
        small_damage,
        *(30, 12),
        paced=True,
    ),
    Workload(
        "churn-1080p",
        "frame",
        "1920x1080, each in a new buffer",
        partial(churn, *HD),
        *(30, 10),
        traced=20,
        paced=True,
    ),
    Workload(
        "first-use-1080p",
        "buffer",
        "a new buffer, until the compositor has it",
        partial(first_use, *HD),
        *(30, 8),
    ),
    Workload(
        "first-use-4k",
        "buffer",
        "a new buffer, until the compositor has it",
        partial(first_use, *UHD),
        *(20, 4),
    ),
    Workload(
        "resize",
        "frame",
        "640x480 to 952x714, each in a buffer of another size",
        resizes,
        *(20, 10),
        paced=True,
    ),
    Workload(
        "flood-sync",
        "sync",
        "wl_display.sync, 1000 at once: a request and two events",
        flood_of_syncs,
        *(20_000, 3000),
        latency=False,
    ),
    Workload(
        "sync-60k-objects",
        "round trip",
        "wl_display.sync of an app with 60,000 objects",
        partial(syncs_among_objects, 60_000),
        *(500, 100),
    ),
    Workload(
        "sync-200-apps",
        "round trip",
        "wl_display.sync beside 200 apps that are connected",
        partial(syncs_among_apps, 200),
        *(500, 100),
    ),
    Workload(
        "sync-beside-95m",
        "round trip",
        "wl_display.sync, while another app's new buffer of 95 MiB is located",
        syncs_beside_pool,
        *(400, 80),
    ),
    Workload(
        "first-window",
        "app",
        "connects, and shows 64x64, until the compositor has it",
        first_windows,
        *(40, 10),
        leaves=True,
    ),
    Workload(
        "visits",
        "app",
        "connects, looks around, leaves",
        visits,
        *(200, 40),
        leaves=True,
    ),
    Workload(
        "crowd",
        "frame",
        "64x64, of 100 apps at once",
        partial(crowd, 100),
        *(1000, 300),
        latency=False,
        paced=True,
    ),
)
"""Those that are measured by the unit; `measuring` has a few that are not."""
