"""The status sockets: each sends one JSON document to whoever connects, then closes.

The first says how everything is, for people and scripts on this host; the other, beside it,
says all that the core knows, for those who look for a bug.  What is in them is made in `server`;
how it looks in a terminal is the command line's business.  A third, beside these, is that of `wlproxy screen`,
which is a process of its own: what it says is a part of the first's document to whoever reads both.
"""

import errno
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import trio

from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import (
    dump_path,
    is_alive,
    listen_at,
    screen_path,
    status_directory,
)
from wlproxy.transport.closable import closed_on_error

SEND_SECONDS = 2.0
"""For a reader to take the document; then the next one is served."""

PAUSE = 2.0
"""Seconds until somebody who could not be let in is looked for again."""

READ_SECONDS = 5.0
"""For the proxy to give it."""

MAX_DOCUMENT = 16 << 20

Json: TypeAlias = (
    "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
)


@dataclass(frozen=True, slots=True)
class StatusSocket:
    """A listening socket and where it is."""

    listener: trio.socket.SocketType
    path: Path

    def close(self) -> None:
        """Stop listening and remove it: first the latter, lest it is another's by then."""
        self.path.unlink(missing_ok=True)
        self.listener.close()


@dataclass(frozen=True, slots=True)
class StatusSockets:
    """Both sockets of a proxy: for its status, and for a dump of its state."""

    status: StatusSocket
    dump: StatusSocket

    def close(self) -> None:
        """Stop listening and remove them."""
        self.dump.close()
        self.status.close()


def running_names(environ: Mapping[str, str]) -> list[str]:
    """List the VMs whose proxies run, ignoring the sockets of killed ones.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set.
    """
    return _alive(environ, ".sock")


def shown_names(environ: Mapping[str, str]) -> list[str]:
    """List the VMs that have a proxy, or whose screens are shown.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set.
    """
    return sorted({*_alive(environ, ".sock"), *_alive(environ, ".screen")})


def _alive(environ: Mapping[str, str], suffix: str) -> list[str]:
    return sorted(
        path.stem
        for path in status_directory(environ).glob(f"*{suffix}")
        if is_alive(path, socket.SOCK_STREAM)
    )


def listen_status(path: Path) -> StatusSockets:
    """Make the sockets; those that a dead proxy left are replaced.

    Raises:
        HostError: a proxy of this name runs already, or they cannot be made.
    """
    status = _listen(path)
    with closed_on_error(status):
        return StatusSockets(status, _listen(dump_path(path)))


def _listen(path: Path) -> StatusSocket:
    problem = "cannot make the status socket"
    with HostError.explaining(problem, tried=f"bind {path}"):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    listener = listen_at(
        path, socket.SOCK_STREAM, problem, f"a proxy for {path.stem} is running already"
    )
    return StatusSocket(trio.socket.from_stdlib_socket(listener), path)


async def serve_status(
    sockets: StatusSockets, status: Callable[[], Json], dump: Callable[[], Json]
) -> None:
    """Send the current document to everyone who connects, one after the other."""
    async with trio.open_nursery() as nursery:  # noqa: TID251 - it ends with both
        nursery.start_soon(_serve, sockets.status, status)
        nursery.start_soon(_serve, sockets.dump, dump)


def listen_screen(path: Path) -> StatusSocket:
    """Make the socket of `wlproxy screen`.

    Args:
        path: of the VM's status socket.

    Raises:
        HostError: another one shows the VM's screen, or it cannot be made.
    """
    return _listen(screen_path(path))


async def serve_screen(sock: StatusSocket, status: Callable[[], Json]) -> None:
    """Send the current document to everyone who connects, one after the other."""
    await _serve(sock, status)


async def _serve(sock: StatusSocket, snapshot: Callable[[], Json]) -> None:
    while True:
        stream = await next_asker(sock.listener)
        with trio.move_on_after(SEND_SECONDS):
            async with stream:
                document = json.dumps(snapshot(), default=str).encode() + b"\n"
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(document)


async def next_asker(listener: trio.socket.SocketType) -> trio.SocketStream:
    """Wait for the next one who connects, and for a fd for him if none is left."""
    while True:
        try:
            connection, _ = await listener.accept()
        except OSError as exc:  # he has left already, or no fd is left
            if exc.errno not in (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE):
                raise
            await trio.sleep(PAUSE)
        else:
            return trio.SocketStream(connection)


def read_all(path: Path) -> dict[str, Json]:
    """Ask a proxy how it is, and whoever shows the VM's screen.  Blocks.

    Args:
        path: of the VM's status socket.

    Raises:
        HostError: there is neither, or one does not answer.
    """
    beside = screen_path(path)
    if not is_alive(beside, socket.SOCK_STREAM):
        return read_status(path)
    screen = read_status(beside)
    if not is_alive(path, socket.SOCK_STREAM):
        return screen
    return read_status(path) | {"screen": screen.get("screen")}


def read_status(path: Path) -> dict[str, Json]:
    """Ask a proxy how it is.  Blocks.

    Raises:
        HostError: there is none, or it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(READ_SECONDS)
        try:
            connection.connect(str(path))
            with connection.makefile("rb") as answer:
                document = json.loads(answer.read(MAX_DOCUMENT))
        except (OSError, ValueError) as exc:
            raise HostError(
                f"no proxy answers for {path.stem}",
                tried=f"connect {path}",
                errno=getattr(exc, "errno", None) or 0,
                remedy="Is `wlproxy run` running, or `wlproxy screen`, with this --name, as "
                "this user?",
            ) from exc
    if not isinstance(document, dict):
        raise HostError(f"what answers at {path} is no wlproxy")
    return document
