"""Runs a module, and looks a thousand times in a second of its CPU time where it is.

    python -m bench.sampled FILE MODULE ARGUMENTS...

It begins to look at SIGUSR1, and at SIGUSR2 writes FILE: how often it was in which source file, as
JSON.  A function's system calls count as its own.  The main thread alone is looked at.
"""

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

EVERY: Final = 0.001
"""Seconds of CPU time; the kernel's clock may tick less often."""


def sample_into(path: Path) -> None:
    """Have the signals do what they do."""
    places: Counter[str] = Counter()

    def look(_number: int, frame: FrameType | None) -> None:
        if frame is not None:
            places[frame.f_code.co_filename] += 1

    def begin(_number: int, _frame: FrameType | None) -> None:
        # Or each signal would wake up trio, which costs more than what is looked at.
        signal.set_wakeup_fd(-1)
        places.clear()
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        written = path.with_suffix(".part")
        written.write_text(json.dumps(places))
        written.rename(path)

    signal.signal(signal.SIGPROF, look)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


if __name__ == "__main__":
    _, file, module, *arguments = sys.argv
    sample_into(Path(file))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
