"""`wlproxy-guest-launcher`: connected to the agent for as long as the user's session lasts.

Each request gets a process of its own, which goes on when this one, or the agent, ends.
"""

import argparse
import array
import locale
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from wlproxy import __version__
from wlproxy.protocol.channel.launching import PIPES
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.journal import is_journal
from wlproxy_guest.launcher.command import Pipes, serve_and_exit
from wlproxy_guest.launcher.passing import PASSED, REFUSED, SOCKET
from wlproxy_guest.launcher.surroundings import (
    Surroundings,
    display_of,
    surroundings,
)

RETRY: Final = 1.0
"""Seconds until the agent is looked for again."""


class RefusedError(Exception):
    """The agent does not want this launcher; the message says why."""


class Options(argparse.Namespace):
    """What the command line said."""

    agent: Path
    display: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until killed, or refused; return the exit status."""
    options = parse(arguments)
    around = surroundings(os.environ, options.display or display_of(os.environ))
    with suppress(locale.Error):  # names of apps are in the user's language
        locale.setlocale(locale.LC_MESSAGES, "")
    # Whoever serves a request is nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    told = False
    while True:
        try:
            with connect(options.agent) as agent:
                told = False
                _say(6, f"connected to the agent at {options.agent}")
                serve_agent(agent, around)
            _say(6, "the agent has gone")
        except RefusedError as exc:
            _say(3, f"the agent turned this launcher away: {exc}")
            return 1
        except OSError as exc:
            if not told:
                _say(
                    4,
                    f"waiting for the agent at {options.agent} ({exc.strerror}): does it"
                    " run, and does its unit let launchers connect (exec.conf)?",
                )
            told = True
        time.sleep(RETRY)


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line; exits on a wrong one, as argparse does."""
    return make_parser().parse_args(arguments, namespace=Options())


def make_parser() -> argparse.ArgumentParser:
    """Say what the command line may have."""
    parser = argparse.ArgumentParser(
        prog="wlproxy-guest-launcher",
        description="Starts, as this user, what `wlproxy exec` on the host asks for.",
    )
    parser.add_argument(
        "--agent",
        type=Path,
        default=SOCKET,
        metavar="SOCKET",
        help="where the agent lets launchers connect (default: %(default)s)",
    )
    parser.add_argument(
        "--display",
        metavar="SOCKET",
        help="WAYLAND_DISPLAY of what is started (default: wlproxy-0 if that is in"
        " $XDG_RUNTIME_DIR, else /run/wlproxy/wayland-0)",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def connect(path: Path) -> socket.socket:
    """Connect to the agent.

    Raises:
        OSError: it is not there, or does not let anybody in.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def serve_agent(agent: socket.socket, around: Surroundings) -> None:
    """Start what the agent passes pipes for, until it hangs up.

    Raises:
        RefusedError: it does not want us.
        OSError: the connection broke, or there are too many fds.
    """
    while True:
        passed = array.array("i")
        room = socket.CMSG_SPACE(len(PIPES) * passed.itemsize)
        said, rights, _, _ = agent.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                passed.frombytes(
                    content[: len(content) // passed.itemsize * passed.itemsize]
                )
        with ExitStack() as closing:
            pipes = [closing.enter_context(OwnedFd(fd)) for fd in passed]
            if said == REFUSED:
                raise RefusedError(agent.recv(4096).decode(errors="replace"))
            if said == PASSED and len(pipes) == len(PIPES):
                _serve_aside(agent, Pipes(*pipes), around)
            elif not said:
                return


def _serve_aside(agent: socket.socket, pipes: Pipes, around: Surroundings) -> None:
    """Have a process of its own serve a request; without one, its pipes break."""
    with suppress(OSError):
        if os.fork() == 0:
            agent.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            serve_and_exit(pipes, around)


def _say(priority: int, text: str) -> None:
    prefix = f"<{priority}>" if is_journal(sys.stderr) else ""
    print(f"{prefix}wlproxy-guest-launcher: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
