"""lab.proc: numbers from /proc."""

import os
import threading
from pathlib import Path

from lab.proc import cpu_seconds

STAT = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 13 9 9 20 0 3 0 100 0 0"


def test_the_name_may_hold_anything() -> None:
    assert cpu_seconds(STAT) == 2.63


def test_threads_that_have_ended_count() -> None:
    def stat() -> float:
        return cpu_seconds(Path(f"/proc/{os.getpid()}/stat").read_text())

    def work() -> None:
        while stat() < before + 0.05:
            sum(range(10_000))

    before = stat()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert stat() >= before + 0.05
