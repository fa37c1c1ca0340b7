"""A socket between two peers that passes on what they say, and writes it down."""

import array
import contextlib
import os
import select
import socket
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.peers.spoken import Conversation, describe

FDS = 28
"""How many libwayland sends at once, at most."""


@dataclass(eq=False)
class _Connection:
    number: int = 0
    """Counts those that said something; 0 until then."""
    conversation: Conversation = field(default_factory=Conversation)
    said: dict[str, list[str]] = field(
        default_factory=lambda: {"requests": [], "events": []}
    )


class Tap:
    """Listens in place of a server."""

    def __init__(self, path: Path, server: Path, client: str, beyond: str) -> None:
        """Nothing runs yet.

        Args:
            path: where clients connect to from now on.
            server: where what they say goes.
            client: what the transcript calls a client.
            beyond: what it calls the server.
        """
        self.path = path
        self._server = server
        self._client, self._beyond = client, beyond
        self._speaking: list[_Connection] = []

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self.path))
        listening.listen()
        with trio.socket.from_stdlib_socket(listening) as listener:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    connected, _ = await listener.accept()
                    nursery.start_soon(self._serve, connected)

    def begin(self) -> None:
        """Count connections from here on, and write nothing down of earlier ones."""
        self._speaking.clear()

    def take(self) -> tuple[list[str], list[str]]:
        """Return what was said since the last call: by the clients, and to them."""
        asked: list[str] = []
        told: list[str] = []
        for connection in self._speaking:
            connection.conversation.nothing_in_half()
            number = f" {connection.number}" if connection.number > 1 else ""
            for kind, lines, title in (
                ("requests", asked, f"{self._client}{number} -> {self._beyond}"),
                ("events", told, f"{self._beyond} -> {self._client}{number}"),
            ):
                said = connection.said[kind]
                if said:
                    lines += [title, *(f"    {line}" for line in said)]
                    said.clear()
        return asked, told

    async def _serve(self, near: trio.socket.SocketType) -> None:
        far = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection = _Connection()
        with near, far:
            try:
                await far.connect(str(self._server))
            except OSError:
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, connection, "requests", near, far)
                nursery.start_soon(self._pass_on, connection, "events", far, near)

    async def _pass_on(
        self,
        connection: _Connection,
        kind: str,
        source: trio.socket.SocketType,
        sink: trio.socket.SocketType,
    ) -> None:
        while True:
            try:
                data, fds = await _receive(source)
            except ConnectionResetError:
                data, fds = b"", []
            if not data:
                if connection.number:
                    connection.said[kind].append(connection.conversation.end(kind))
                # As it was closed here it is closed there: libwayland tells them apart.
                both = hung_up(source.fileno())
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_RDWR if both else socket.SHUT_WR)
                return
            try:
                self._note(connection, kind, data, fds)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    await _send(sink, data, fds)
            finally:
                for fd in fds:
                    os.close(fd)

    def _note(
        self, connection: _Connection, kind: str, data: bytes, fds: list[int]
    ) -> None:
        if not connection.number:
            self._speaking.append(connection)
            connection.number = len(self._speaking)
        # What a pool holds while it is handed over is not yet a picture.
        described = [describe(fd, contents=kind == "events") for fd in fds]
        connection.said[kind] += connection.conversation.hear(kind, data, described)


def hung_up(fd: int) -> bool:
    """Tell a socket whose peer is gone from one whose peer only writes no more."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


async def _receive(source: trio.socket.SocketType) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    room = socket.CMSG_SPACE(FDS * fds.itemsize)
    data, ancillary, _, _ = await source.recvmsg(65536, room)
    for _level, _type, rights in ancillary:
        fds.frombytes(rights)
    return data, list(fds)


async def _send(sink: trio.socket.SocketType, data: bytes, fds: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    while data:
        data = data[await sink.sendmsg([data], rights if fds else []) :]
        fds = []
