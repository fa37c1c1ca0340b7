"""Prints progress on standard error: what is being done, and how long it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

START = time.monotonic()


def say(text: str) -> None:
    """Print one line of progress, with the seconds since the program started."""
    print(f"[lab {time.monotonic() - START:6.1f}s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step and, when it has succeeded, the time it took."""
    say(f"{name} ...")
    begin = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - begin:.1f} s")
