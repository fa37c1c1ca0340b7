"""What commands have in common that serve a Unix socket in a loop, until a signal ends them."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import listen_at


def exit_at_signals() -> None:
    """Have the process exit, with status 0, where a signal finds it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _exit)


def _exit(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


@contextmanager
def listening(
    path: Path, kind: socket.SocketKind, problem: str, busy: str
) -> Iterator[socket.socket]:
    """Listen at a path, which is removed at the end.  Arguments as `listen_at`'s.

    Raises:
        HostError: somebody listens there, or the socket cannot be made.
    """
    listener = listen_at(path, kind, problem, busy)
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)
        listener.close()


@contextmanager
def listening_for(
    uid: int, path: Path, problem: str, busy: str
) -> Iterator[socket.socket]:
    """Likewise, for connections of a user's programs; root's are let in as well.

    Raises:
        HostError: likewise; or the user cannot be let in.
    """
    with listening(path, socket.SOCK_STREAM, problem, busy) as listener:
        with HostError.explaining("cannot let the user in", tried=f"chown {path}"):
            os.chown(path, uid, -1)
        yield listener
