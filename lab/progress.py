"""Waits for slow things as long as they make progress, instead of until a time is up.

A machine that has a tenth of a processor takes ten times as long to boot, but it boots.  So
the limit is on how long nothing may move, and time counts only while the machine could run.
Meanwhile a person is told what is being waited for, and how long it took last time.

This module runs in the machines too, and imports only the standard library.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from lab.errors import LabError

STANDSTILL = 120.0
"""Seconds without a sign: booted alone, no stage of any machine is silent for 20."""
REPORT = 20.0
"""Seconds between two lines about what is waited for."""


class StandstillError(LabError):
    """Nothing has moved for too long."""


class Progress:
    """One thing that is waited for.

    Ask `check` again and again; it raises once there has been no sign for long enough.
    """

    def __init__(
        self,
        what: str,
        sign: Callable[[], object],
        *,
        say: Callable[[str], None],
        standstill: float = STANDSTILL,
        usual: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to wait.

        Args:
            what: what is waited for, for people.
            sign: anything that changes as long as there is progress.
            say: prints a line.
            standstill: seconds that the sign may stay the same.
            usual: how long it took last time, in seconds.
            clock: seconds; one that stands still while nothing could run.
        """
        self._what = what
        self._sign = sign
        self._say = say
        self._standstill = standstill
        self._usual = f"; last time it took {usual:.0f} s" if usual is not None else ""
        self._clock = clock
        self._began = self._moved = self._said = clock()
        self._last = sign()

    @property
    def elapsed(self) -> float:
        """Seconds since it began, by its clock."""
        return self._clock() - self._began

    def check(self) -> None:
        """Look for progress.

        Raises:
            StandstillError: there has been none for too long.
        """
        now = self._clock()
        sign = self._sign()
        if sign != self._last:
            self._last, self._moved = sign, now
        if now - self._moved > self._standstill:
            raise StandstillError(
                f"{self._what}: nothing has moved for {self._standstill:.0f} s"
            )
        if now - self._said >= REPORT:
            self._said = now
            self._say(f"waiting for {self._what}: {self.elapsed:.0f} s{self._usual}")


def file_size(path: Path) -> int:
    """Say how much was written to a file so far; 0 if it is not there yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def runnable_clock(pid: int) -> Callable[[], float]:
    """Make a clock that goes on only while a process's threads get a processor.

    From what passes, the time is taken off that its threads were ready to run and had to
    wait (/proc/PID/task/TID/schedstat, the second number, in nanoseconds): that of the
    one that waited longest.  Without these files it is an ordinary clock.
    """
    waited = 0.0
    longest = 0.0
    before: dict[str, int] = {}

    def clock() -> float:
        nonlocal waited, longest, before
        now = _delays(pid)
        # Between two looks, each thread lost what its own number grew by.
        grown = [now[thread] - before.get(thread, now[thread]) for thread in now]
        waited += max(grown, default=0) / 1e9
        before = now
        # A clock does not go back, however coarse the kernel's numbers are.
        longest = max(longest, time.monotonic() - waited)
        return longest

    return clock


def _delays(pid: int) -> dict[str, int]:
    found = {}
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
                found[thread] = int(text.split()[1])
    return found


class Durations:
    """How long things took last time, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self, what: str) -> float | None:
        """Say how long something took, in seconds; None if that is not known."""
        return self._read().get(what)

    def note(self, what: str, seconds: float) -> None:
        """Keep how long something took."""
        known = {**self._read(), what: round(seconds, 1)}
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(known, indent=1, sort_keys=True))
        fresh.replace(self._path)

    def _read(self) -> dict[str, float]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
