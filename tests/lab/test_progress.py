"""A wait ends when nothing moves any more, however long something takes that does move."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.progress import (
    Durations,
    Progress,
    StandstillError,
    file_size,
    runnable_clock,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_moves_may_take_for_ever() -> None:
    clock, moves = Clock(), [0]
    said: list[str] = []
    progress = Progress(
        "it",
        lambda: moves[0],
        say=said.append,
        standstill=10,
        usual=12.3,
        clock=clock,
    )
    for _ in range(1000):
        clock.now += 9
        moves[0] += 1
        progress.check()
    assert progress.elapsed == 9000
    assert said[0] == "waiting for it: 27 s; last time it took 12 s"


def test_what_stands_still_is_given_up() -> None:
    clock = Clock()
    said: list[str] = []
    progress = Progress("it", lambda: 1, say=said.append, standstill=10, clock=clock)
    clock.now = 10
    progress.check()
    clock.now = 10.5
    with pytest.raises(StandstillError, match="it: nothing has moved for 10 s"):
        progress.check()
    assert said == []


def test_a_sign_counts_from_when_it_came() -> None:
    clock, moves = Clock(), [0]
    progress = Progress("it", lambda: moves[0], say=print, standstill=10, clock=clock)
    clock.now = 9
    moves[0] = 1
    progress.check()
    clock.now = 19
    progress.check()
    clock.now = 19.5
    with pytest.raises(StandstillError):
        progress.check()


def test_the_size_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "console"
    assert file_size(path) == 0
    path.write_text("abc")
    assert file_size(path) == 3


@pytest.fixture
def busy() -> Iterator[list[int]]:
    """Processes that want one processor, and share it."""
    cpu = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def waited(pid: int) -> float:
    """Seconds that a process of one thread was ready and did not run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def test_time_without_a_processor_does_not_count(busy: list[int]) -> None:
    clock = runnable_clock(busy[0])
    began, began_waiting, start = clock(), waited(busy[0]), time.monotonic()
    while waited(busy[0]) - began_waiting < 0.5:
        os.sched_yield()
    counted = clock() - began
    # Its own number was read before ours: what it waited between the two is less still.
    assert counted <= time.monotonic() - start - 0.5


def test_the_clock_of_nobody_is_an_ordinary_one() -> None:
    clock = runnable_clock(4194305)  # above PID_MAX_LIMIT
    before = time.monotonic()
    assert before <= clock() <= time.monotonic()


def test_how_long_it_took_last_time(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    durations = Durations(path)
    assert durations.last("boot") is None
    durations.note("boot", 12.34)
    Durations(path).note("restore", 0.5)
    assert (durations.last("boot"), durations.last("restore")) == (12.3, 0.5)
    path.write_text("[")
    assert durations.last("boot") is None
    durations.note("boot", 1)
    assert durations.last("boot") == 1
    assert os.listdir(tmp_path) == ["durations.json"]
