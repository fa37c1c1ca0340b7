"""One request of the host's, from its line to what became of it: a process of its own.

The command has the pipes for its standard streams itself, so none of its bytes pass here.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from wlproxy.protocol.channel.launch_lines import (
    CANNOT_START,
    MAX_LINE,
    NOT_THERE,
    LineReader,
    Outcome,
    Request,
    read_signal,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.launcher.entries import EntryError, find_entry
from wlproxy_guest.launcher.listing import write_list
from wlproxy_guest.launcher.surroundings import Surroundings

REQUEST_SECONDS: Final = 30.0
"""For the host to say what it wants, once it has the pipes."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """What the agent passed, in its order."""

    request: OwnedFd
    answers: OwnedFd
    stdin: OwnedFd
    stdout: OwnedFd
    stderr: OwnedFd


class NotStartedError(Exception):
    """Nothing was started; the message says why, `status` what a shell would have."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def serve(pipes: Pipes, around: Surroundings) -> None:
    """Do what the host asks for, and tell it what became of that."""
    lines = LineReader()
    try:
        outcome = _serve(pipes, lines, around)
    except NotStartedError as exc:
        outcome = Outcome(error=str(exc), status=exc.status)
    except ChannelError as exc:
        outcome = Outcome(error=f"the launcher does not understand: {exc}")
    if outcome is not None:
        with suppress(OSError):  # nobody asks any more
            os.write(pipes.answers.fileno(), outcome.to_line())


def _serve(pipes: Pipes, lines: LineReader, around: Surroundings) -> Outcome | None:
    wanted = pipes.request.fileno()
    request = _read_request(wanted, lines)
    if request is None:
        return None
    if request.apps:
        with suppress(BrokenPipeError):
            write_list(pipes.stdout.fileno(), around.environ, icons=request.icons)
        return Outcome(exited=0)
    argv, around = _find_argv(request, around)
    if request.detach:
        process = _start(argv, around, (subprocess.DEVNULL, sys.stderr.fileno()))
        _leave(process)
        return Outcome(started=process.pid)
    streams = (pipes.stdin, pipes.stdout, pipes.stderr)
    process = _start(argv, around, [fd.fileno() for fd in streams])
    for fd in streams:
        fd.close()  # else the host would never see their end
    return _attend(process, wanted, lines)


def _find_argv(
    request: Request, around: Surroundings
) -> tuple[Sequence[str], Surroundings]:
    """Say what is to be started, and where.

    Raises:
        NotStartedError: there is no such app, or it does not say how it is started.
    """
    if request.command:
        return request.command, around
    entry = find_entry(request.app, around.environ)
    if entry is None:
        raise NotStartedError(f"there is no app {request.app}", NOT_THERE)
    try:
        argv = entry.argv()
    except EntryError as exc:
        raise NotStartedError(f"{entry.path}: {exc}", CANNOT_START) from exc
    directory = entry.text("Path")
    return argv, replace(around, directory=Path(directory)) if directory else around


def _read_request(fd: int, lines: LineReader) -> Request | None:
    """Wait for the request; None if the host has gone.

    Raises:
        ChannelError: it is none.
    """
    while (fields := lines.next_line()) is None:
        if not select.select([fd], [], [], REQUEST_SECONDS)[0]:
            return None
        data = os.read(fd, MAX_LINE)
        if not data:
            return None
        lines.feed(data)
    return Request.read(fields)


def _start(
    argv: Sequence[str], around: Surroundings, streams: Sequence[int]
) -> "subprocess.Popen[bytes]":
    """Start a command, in a session of its own.

    Raises:
        NotStartedError: it is not there, or cannot be run.
    """
    stdin, stdout, stderr = (*streams, streams[-1])[:3]
    try:
        return subprocess.Popen(  # noqa: S603 - that is what it is for
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=around.environ,
            cwd=around.directory,
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        what = exc.filename or argv[0]  # the program, or the directory
        raise NotStartedError(f"{what}: not found", NOT_THERE) from exc
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        raise NotStartedError(f"{argv[0]}: {why}", CANNOT_START) from exc


def _attend(
    process: "subprocess.Popen[bytes]", request: int, lines: LineReader
) -> Outcome | None:
    """Pass signals on until the command ends; if the host goes first, hang up on it.

    Raises:
        ChannelError: what the host says is no signal.
    """
    poll = select.poll()
    with OwnedFd(os.pidfd_open(process.pid)) as ended:
        poll.register(ended.fileno(), select.POLLIN)
        poll.register(request, select.POLLIN)
        try:
            while ended.fileno() not in (ready := [fd for fd, _ in poll.poll()]):
                if request in ready and not _pass_signals(process.pid, request, lines):
                    break
            else:
                status = process.wait()
                return (
                    Outcome(exited=status) if status >= 0 else Outcome(killed=-status)
                )
        except ChannelError:
            _hang_up(process)
            raise
    _hang_up(process)
    return None


def _pass_signals(pid: int, request: int, lines: LineReader) -> bool:
    """Do as the host says; False if it has gone."""
    data = os.read(request, MAX_LINE)
    if not data:
        return False
    lines.feed(data)
    while (fields := lines.next_line()) is not None:
        _signal(pid, read_signal(fields))
    return True


def _signal(pid: int, number: int) -> None:
    """Send a signal to all that a command has started, while it has not been waited for."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _hang_up(process: "subprocess.Popen[bytes]") -> None:
    _signal(process.pid, signal.SIGHUP)
    _leave(process)


def _leave(process: "subprocess.Popen[bytes]") -> None:
    """Let a process go on that nobody here waits for: whoever adopts it will."""
    process.returncode = 0


def serve_and_exit(pipes: Pipes, around: Surroundings) -> NoReturn:
    """Be the process of one request."""
    status = 1
    try:
        serve(pipes, around)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)
