"""Keeps the programs of several VMs running, each in a process of its own.

What one of them does to itself (a crash, a flood, all its file descriptors) is nothing to the others,
nor to the supervisor, which reads nothing of what a guest says.  One that fails is started again, after a
pause that grows with each failure.  If the supervisor is killed, its programs are told to stop by the
kernel (PR_SET_PDEATHSIG, prctl(2)), where setpriv(1) is there to ask for it.
"""

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from wlproxy.host.report.vm_log import VmLog
from wlproxy.transport.fds import OwnedFd

FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 60.0
"""Seconds until a program that failed is started again: doubled from the first to the last."""
LASTING: Final = 60.0
"""Seconds after which a program that fails is one that had worked."""
STOP_SECONDS: Final = 10.0
"""For a program to end once it was told to; then it is killed."""


@dataclass(frozen=True, slots=True)
class Job:
    """A program to keep running.

    Attributes:
        vm: whose it is.
        title: what it is, for the log.
        command: the program and its arguments.
        settings: what else it depends on: where that is another, so is the job.
    """

    vm: str
    title: str
    command: tuple[str, ...]
    settings: str = ""


class Supervisor:
    """Runs jobs, and no others."""

    def __init__(self, nursery: trio.Nursery) -> None:
        """Run none yet.

        Args:
            nursery: where they are run; cancelled, it stops them all.
        """
        self._nursery = nursery
        self._running: dict[Job, trio.CancelScope] = {}
        self._turns: dict[tuple[str, str], trio.Lock] = {}
        """One for each name, so that the next waits until the last has ended."""

    @property
    def jobs(self) -> Collection[Job]:
        """Those that are to run now."""
        return self._running.keys()

    def want(self, jobs: Sequence[Job]) -> None:
        """Run these from now on: start what is new, stop what is not among them."""
        for job in [each for each in self._running if each not in jobs]:
            self._running.pop(job).cancel()
        for job in jobs:
            if job not in self._running:
                self._running[job] = trio.CancelScope()
                self._nursery.start_soon(self._keep, job, self._running[job])

    async def _keep(self, job: Job, scope: trio.CancelScope) -> None:
        turn = self._turns.setdefault((job.vm, job.title), trio.Lock())
        with scope:
            async with turn:
                await _keep_running(job)
        if self._running.get(job) is scope:
            del self._running[job]


async def _keep_running(job: Job) -> None:
    """Run a program until it ends by itself; if it fails, once more after a pause."""
    log = VmLog(job.vm)
    pause = FIRST_PAUSE
    while True:
        began = trio.current_time()
        status = await _run(job)
        if status == 0:
            log.info("%s has ended", job.title)
            return
        if trio.current_time() - began >= LASTING:
            pause = FIRST_PAUSE
        why = _described(status)
        log.warning("%s failed (%s); once more in %d s", job.title, why, pause)
        await trio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE)


async def _run(job: Job) -> int:
    """Run a program until it ends; cancelled, stop it and wait for that.  Return its status."""
    # A program that says how it is would say it of the supervisor's service.
    environ = {key: each for key, each in os.environ.items() if key != "NOTIFY_SOCKET"}
    try:
        process = _start(job, environ)
    except OSError as exc:
        VmLog(job.vm).log(logging.ERROR, "%s: %s", job.command[0], exc.strerror)
        return 127
    with process, OwnedFd(os.pidfd_open(process.pid)) as ended:
        try:
            await trio.lowlevel.wait_readable(ended.fileno())
            return process.wait()
        finally:
            if process.poll() is None:
                with trio.CancelScope(shield=True):
                    await _stop(job, process, ended)


def _start(job: Job, environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start a program, from this thread.

    Not as trio would, in another one: PR_SET_PDEATHSIG is about the thread that starts a
    program, and trio's end when they have nothing to do.

    Raises:
        OSError: it cannot be started.
    """
    command = [*_bound_to_us(), *job.command]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environ)  # noqa: S603 - ours


async def _stop(job: Job, process: "subprocess.Popen[bytes]", ended: OwnedFd) -> None:
    process.terminate()
    with trio.move_on_after(STOP_SECONDS):
        await trio.lowlevel.wait_readable(ended.fileno())
        return
    VmLog(job.vm).warning("%s does not stop: it is killed", job.title)
    process.kill()
    await trio.lowlevel.wait_readable(ended.fileno())


def _bound_to_us() -> tuple[str, ...]:
    """What to start a program by, so that it does not outlive us."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def _described(status: int) -> str:
    return f"status {status}" if status > 0 else signal.Signals(-status).name
