"""Where processes run: on this machine, or in the guest.

The same few things can be done in both, most of them by a shell, so that whoever breaks
processes and counts what they hold need not know where they are.
"""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lab.guest import Guest, GuestError, GuestLostError

Environment = Mapping[str, str | None]


class Place(Protocol):
    """Somewhere that processes run."""

    name: str

    def spawn(self, argv: Sequence[str], env: Environment, log: str) -> int:
        """Start a program, its output at the end of `log`; returns its pid."""

    def spawn_module(
        self, module: str, argv: Sequence[str], env: Environment, log: str
    ) -> int:
        """Start ``python3 -m MODULE ARGV``; returns its pid."""

    def signal(self, pid: int, number: int) -> None:
        """Send a signal; negative pids are groups.  Nobody there: nothing happens."""

    def alive(self, pid: int) -> bool:
        """Whether a process runs; a zombie does not."""

    def status(self, pid: int) -> int:
        """Return how a process that was started here, and has ended, has ended."""

    def shell(self, script: str) -> str:
        """Run a script as root, whatever comes of it; returns its output."""

    def exchange(self, path: str, line: bytes, timeout: float) -> bytes:
        """Write a line into the FIFO PATH.in and return what comes out of PATH.out.

        Raises:
            TimeoutError: nothing does.
            GuestError: there is no guest any more.
        """


class Here:
    """This machine.  What was started here ends with it."""

    name = "here"

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def spawn(self, argv: Sequence[str], env: Environment, log: str) -> int:
        environment = {**os.environ, **env}
        with Path(log).open("ab") as file:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                env={k: v for k, v in environment.items() if v is not None},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._children[process.pid] = process
        return process.pid

    def spawn_module(
        self, module: str, argv: Sequence[str], env: Environment, log: str
    ) -> int:
        return self.spawn([sys.executable, "-m", module, *argv], env, log)

    def signal(self, pid: int, number: int) -> None:
        child = self._children.get(pid)
        if child is not None and child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def alive(self, pid: int) -> bool:
        if (child := self._children.get(pid)) is not None:
            return child.poll() is None
        with contextlib.suppress(OSError, IndexError):
            text = Path(f"/proc/{pid}/stat").read_text()
            return text.rpartition(")")[2].split()[0] not in "ZX"
        return False

    def status(self, pid: int) -> int:
        return self._children[pid].wait(30)

    def shell(self, script: str) -> str:
        done = subprocess.run(
            ["sh", "-c", script],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.stdout.decode(errors="replace")

    def exchange(self, path: str, line: bytes, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        answers = os.open(f"{path}.out", os.O_RDONLY | os.O_NONBLOCK)
        try:
            commands = os.open(f"{path}.in", os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(commands, line)
            finally:
                os.close(commands)
            return _read_to_end(answers, deadline)
        finally:
            os.close(answers)

    def end_all(self) -> None:
        """Kill whatever was started here and still runs, and what that started."""
        for pid, child in self._children.items():
            if child.poll() is None:  # else the number may be somebody else's
                # Each began a session; apps are in groups of their own.
                subprocess.run(["pkill", "-KILL", "-s", str(pid)], check=False)
                child.wait()
        self._children.clear()


def _read_to_end(fd: int, deadline: float) -> bytes:
    """Read what the next writer of a FIFO writes."""
    received = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError("no answer")
        data = os.read(fd, 65536)
        if not data:
            return received
        received += data


class InGuest:
    """The guest."""

    name = "guest"

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def spawn(self, argv: Sequence[str], env: Environment, log: str) -> int:
        return self._guest.spawn(argv, env=env, log=log)

    def spawn_module(
        self, module: str, argv: Sequence[str], env: Environment, log: str
    ) -> int:
        return self._guest.spawn_module(module, *argv, env=env, log=log)

    def signal(self, pid: int, number: int) -> None:
        try:
            self._guest.kill(pid, number)
        except GuestLostError:
            raise
        except GuestError:  # it has ended
            pass

    def alive(self, pid: int) -> bool:
        return self._guest.alive(pid)

    def status(self, pid: int) -> int:
        return self._guest.wait(pid)

    def shell(self, script: str) -> str:
        return self._guest.run(["sh", "-c", script]).stdout.decode(errors="replace")

    def exchange(self, path: str, line: bytes, timeout: float) -> bytes:
        self._guest.put(f"{path}.in", line)
        try:
            return self._guest._call(  # noqa: SLF001 - no public one waits so long
                "get", path=f"{path}.out", answer_in=timeout
            ).blob
        except GuestError as exc:
            self._guest.run(["true"])  # or else it is the guest that does not answer
            raise TimeoutError(str(exc)) from exc
