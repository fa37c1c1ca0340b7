"""What is done through each peer with input: it takes a compositor with a seat, which is sway.

The pointer is a virtual one (zwlr_virtual_pointer_v1).  What moves it is connected to the
compositor itself, whatever peer the app is behind.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import cycle, repeat
from pathlib import Path
from typing import Final

from bench.client import PATIENCE
from bench.clipboard import (
    AT_ONCE,
    LARGE,
    large_pastes,
    pasting_beside,
    pasting_through,
    small_pastes,
)
from bench.pointer import Mouse, PointedApp
from bench.processes import BenchError, started
from bench.workloads import WARM_UP, Run, Workload, timed
from tests.clients.wire import Connection

TERMINAL: Final = "foot"
ALONE: Final = ("-o", "tweak.max-shm-pool-size-mb=0")
"""Has each of foot's buffers begin with its file: `bench.proxy` would have others copied."""
LIST: Final = "gtk4-demo"
LIST_ENVIRON: Final = {
    "GDK_BACKEND": "wayland",
    "GSK_RENDERER": "cairo",
    "GTK_A11Y": "none",
    "GSETTINGS_BACKEND": "memory",
}
"""Has it draw as it would without a GPU, and talk to nobody but the compositor."""
TOPLEVELS: Final = "zwlr_foreign_toplevel_manager_v1"
NOTCH_SECONDS: Final = 1 / 60
"""Between two notches of the wheel: a frame of sway's."""
TURN: Final = 100
"""Notches until the wheel is turned the other way."""


@contextmanager
def motions(compositor: str, display: str) -> Iterator[Run]:
    """Move the pointer, and wait until the app has read that it has moved."""
    with Mouse(compositor) as mouse, PointedApp(display) as app:

        def step() -> None:
            next_one = app.motions + 1
            mouse.move(next_one)
            app.wait_motion(next_one)

        timed(step, 10 * WARM_UP)
        yield partial(timed, step)


@contextmanager
def scrolling(display: str) -> Iterator[Run]:
    """Have a terminal print a large file, and end; a unit is a thousand lines of it."""
    environ = {**os.environ, "WAYLAND_DISPLAY": display}

    def run(units: int) -> list[float]:
        words = [TERMINAL, *ALONE, "sh", "-c", f"seq 1 {units * 1000}"]
        try:
            done = subprocess.run(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired as exc:
            raise TimeoutError(f"{TERMINAL} does not end") from exc
        if done.returncode:
            raise BenchError(f"{TERMINAL} has failed:\n{done.stderr}")
        return []

    run(WARM_UP)
    yield run


@contextmanager
def scrolling_list(compositor: str, display: str) -> Iterator[Run]:
    """Turn the wheel over a long list of GTK 4; a unit is a notch."""
    with (
        Mouse(compositor) as mouse,
        closing(Connection(compositor)) as beside,
        tempfile.TemporaryDirectory() as directory,
    ):
        shown: list[int] = []
        beside.bind(TOPLEVELS, 1, lambda opcode, _data: shown.append(opcode))
        words = (LIST, "--run=listview_words")
        # GTK wants a directory of the user's even if the display is elsewhere.
        environ = {
            **LIST_ENVIRON,
            "WAYLAND_DISPLAY": display,
            "XDG_RUNTIME_DIR": directory,
        }
        with started(words, Path(directory, "log"), environ) as app:
            app.wait_until(lambda: beside.dispatch(0) and shown, f"{LIST}'s window")

            ways = cycle((*repeat(1, TURN), *repeat(-1, TURN)))

            def turn() -> None:
                mouse.turn(next(ways))
                time.sleep(NOTCH_SECONDS)

            timed(turn, TURN)
            yield partial(timed, turn)
            if app.ended:
                raise BenchError(f"{LIST} has ended:\n{app.said()}")


def on_seat(compositor: str) -> tuple[Workload, ...]:
    """List the workloads that take a seat.

    Args:
        compositor: the compositor's own display.
    """
    return (
        Workload(
            "pointer",
            "motion",
            "wl_pointer.motion, from the device until the app has it",
            partial(motions, compositor),
            *(1000, 300),
            traced=200,
        ),
        Workload(
            "paste-64k",
            "paste",
            f"a selection of {AT_ONCE >> 10} KiB, until it is pasted beside the peer",
            partial(small_pastes, pasting_beside, compositor),
            *(200, 40),
            traced=40,
        ),
        Workload(
            "paste-in-64k",
            "paste",
            f"a selection of {AT_ONCE >> 10} KiB from beside the peer, until an app has it",
            partial(small_pastes, pasting_through, compositor),
            *(200, 40),
            traced=40,
        ),
        Workload(
            "paste-16m",
            "MiB",
            f"a selection of {LARGE} MiB, until it is pasted beside the peer",
            partial(large_pastes, pasting_beside, compositor),
            *(8 * LARGE, 2 * LARGE),
            traced=LARGE,
            latency=False,
        ),
        Workload(
            "paste-in-16m",
            "MiB",
            f"a selection of {LARGE} MiB from beside the peer, until an app has it",
            partial(large_pastes, pasting_through, compositor),
            *(8 * LARGE, 2 * LARGE),
            traced=LARGE,
            latency=False,
        ),
        Workload(
            "scroll",
            "1,000 lines",
            f"{TERMINAL} starts, prints them, and ends",
            scrolling,
            *(4000, 500),
            latency=False,
            leaves=True,
            app=TERMINAL,
        ),
        Workload(
            "gtk4-list",
            "notch",
            f"the wheel over a long list of {LIST}, 60 notches a second",
            partial(scrolling_list, compositor),
            *(600, 60),
            traced=120,
            latency=False,
            paced=True,
            app=LIST,
        ),
    )
