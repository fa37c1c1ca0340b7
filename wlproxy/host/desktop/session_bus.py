"""Talks on the user's D-Bus session bus, for one task at a time.

Nothing here has a time limit: who asks has one.  Fds that come along are not taken.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import trio

from wlproxy.protocol.dbus.connection import Connection
from wlproxy.protocol.dbus.messages import Message, MessageKind
from wlproxy.protocol.dbus.values import Value

BUS: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"

ADDRESS: Final = "DBUS_SESSION_BUS_ADDRESS"

RECEIVED_AT_ONCE: Final = 4096
"""Bytes; a message that is larger than `protocol.dbus` takes is refused when its header says so."""

MAX_SKIPPED: Final = 10_000
"""Messages that are not for us, after which nobody is listened to any more."""


class BusError(Exception):
    """There is no bus, or it or a service on it says no."""


def bus_socket(environ: Mapping[str, str]) -> str:
    """Return where the session bus listens: a path, or a name in the abstract namespace after a NUL.

    (D-Bus specification, "Server Addresses"; the default is that of systemd.)

    Args:
        environ: DBUS_SESSION_BUS_ADDRESS and XDG_RUNTIME_DIR are read from it.

    Raises:
        BusError: the environment does not tell, or tells what is no path.
    """
    addresses = environ.get(ADDRESS, "")
    for address in addresses.split(";"):
        transport, _, keys = address.partition(":")
        values = dict(each.partition("=")[::2] for each in keys.split(","))
        if transport == "unix" and "path" in values:
            path = unquote(values["path"])
            if "\0" in path:
                raise BusError(f"no path: {path!r} (DBUS_SESSION_BUS_ADDRESS)")
            return path
        if transport == "unix" and "abstract" in values:
            return "\0" + unquote(values["abstract"])
    directory = environ.get("XDG_RUNTIME_DIR", "")
    if addresses or not Path(directory).is_absolute():
        raise BusError("there is no session bus (DBUS_SESSION_BUS_ADDRESS)")
    return str(Path(directory, "bus"))


async def connect_bus(where: str) -> "SessionBus":
    """Connect to the bus that listens there, and say hello.

    Raises:
        BusError: the bus does not let us in.
        OSError: nobody listens there.
        DBusError: it is no bus.
        trio.BrokenResourceError: it hung up.
    """
    connection = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await connection.connect(where)
        bus = SessionBus(trio.SocketStream(connection))
        await bus.call(BUS, BUS_PATH, f"{BUS}.Hello")
    except BaseException:
        connection.close()
        raise
    return bus


class SessionBus:
    """A connection to it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        """Nothing is said yet."""
        self._stream = stream
        self._peer = Connection[object](os.getuid())
        self._skipped = 0

    async def call(
        self,
        destination: str,
        path: str,
        method: str,
        signature: str = "",
        body: tuple[Value, ...] = (),
    ) -> Message[object]:
        """Call a method and return what it answers, as `begin` and `answer`."""
        return await self.answer(
            await self.begin(destination, path, method, signature, body)
        )

    async def begin(
        self,
        destination: str,
        path: str,
        method: str,
        signature: str = "",
        body: tuple[Value, ...] = (),
    ) -> int:
        """Call a method; return what its answer is known by.

        Args:
            destination: whose.
            path: of the object.
            method: its interface and name, with a dot between them.
            signature: types of the arguments.
            body: the arguments.

        Raises:
            trio.BrokenResourceError: the connection is no more.
        """
        serial = self._peer.call(path, method, signature, body, destination=destination)
        await self._send()
        return serial

    async def answer(self, serial: int) -> Message[object]:
        """Wait for the answer to a call; what comes before it is skipped.

        Raises:
            BusError: the answer is an error; otherwise as `next_message`.
        """
        while (message := await self.next_message()).fields.reply_to != serial:
            pass
        if message.kind is MessageKind.ERROR:
            raise BusError(f"the session bus: {message.fields.error_name}")
        return message

    async def tell(
        self,
        destination: str,
        path: str,
        method: str,
        signature: str,
        body: tuple[Value, ...],
    ) -> None:
        """Call a method whose answer nobody waits for; otherwise as `begin`."""
        self._peer.call(
            path, method, signature, body, destination=destination, wants_reply=False
        )
        await self._send()

    async def next_message(self) -> Message[object]:
        """Wait for whatever comes next.

        Raises:
            BusError: the bus hung up, or goes on talking.
            DBusError: what it says is none of D-Bus's.
            trio.BrokenResourceError: the connection is no more.
        """
        while (message := self._peer.next_message()) is None:
            data = await self._stream.receive_some(RECEIVED_AT_ONCE)
            if not data:
                raise BusError("the session bus hung up")
            self._peer.receive(bytes(data))
            await self._send()
        self._skipped += 1
        if self._skipped > MAX_SKIPPED:
            raise BusError("the session bus talks, and of nothing that we asked for")
        return message

    def close(self) -> None:
        """Hang up."""
        self._stream.socket.close()

    async def _send(self) -> None:
        for out in self._peer.take_output():
            await self._stream.send_all(out.data)
