"""Starts the programs that are measured, and ends them."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
LOOK_AGAIN: Final = 0.002
"""Seconds between looks: no more than what the start of a program can be off by."""
SHOWN: Final = 2000
"""Characters of a log that go into an error."""


class BenchError(Exception):
    """Something cannot be measured; the message says why, and what helps."""


class StalledError(BenchError):
    """A peer does not do what others do; what they do can be measured without it."""


class Started:
    """A program that runs.

    Attributes:
        pid: its process.
        log: the file that its output goes to.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self.pid = process.pid
        self.log = log

    def wait_until(self, done: Callable[[], object], what: str) -> None:
        """Look until something is so.

        Raises:
            BenchError: it is not in time, or the program has ended.
        """
        wait_until(done, what, self)

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-SHOWN:]

    def stop(self) -> None:
        """End it."""
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def started(
    words: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Started]:
    """Run a program for as long as the block lasts; it does not outlive this process.

    Args:
        words: its command line.
        log: what its output is added to.
        environ: what differs from our environment.
    """
    # Not whatever compositor the user has.
    own = {k: v for k, v in os.environ.items() if k not in _DISPLAYS}
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *words],
            env={**own, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    program = Started(process, log)
    try:
        yield program
    finally:
        program.stop()


_DISPLAYS: Final = ("WAYLAND_DISPLAY", "WAYLAND_SOCKET")


def wait_until(
    done: Callable[[], object], what: str, program: Started | None = None
) -> None:
    """Look until something is so, and a program runs.

    Raises:
        BenchError: it is not in time, or the program has ended.
    """
    deadline = time.monotonic() + START_SECONDS
    while not done():
        late = time.monotonic() > deadline
        if late or (program is not None and program.ended):
            said = f":\n{program.said()}" if program is not None else ""
            raise BenchError(f"{what}: {'not in time' if late else 'ended'}{said}")
        time.sleep(LOOK_AGAIN)
