"""What time a QEMU's threads have lost, as `Waits` counts it."""

import shutil
from pathlib import Path

from tests.peers.tiny_vm import Waits

SECOND = 1_000_000_000


def test_threads_that_begin_and_end_are_nothing_that_was_waited(tmp_path: Path) -> None:
    tasks = tmp_path / "7" / "task"

    def thread(number: int, waited: float) -> None:
        (tasks / str(number)).mkdir(parents=True, exist_ok=True)
        text = f"1 {int(waited * SECOND)} 3\n"
        (tasks / str(number) / "schedstat").write_text(text)

    thread(7, 1)
    thread(8, 14)
    waits = Waits(7, tmp_path)
    assert waits.grown() == 0
    thread(7, 1.25)
    thread(8, 14.5)
    assert waits.grown() == 0.75
    shutil.rmtree(tasks / "8")
    thread(7, 1.5)
    thread(9, 3)  # before it was seen first
    assert waits.grown() == 0.25
    thread(9, 3.5)
    (tasks / "10").mkdir()  # no number there: gone
    (tasks / "11").mkdir()
    (tasks / "11" / "schedstat").write_text("\n")
    assert waits.grown() == 0.5
    shutil.rmtree(tmp_path / "7")
    assert waits.grown() == 0
