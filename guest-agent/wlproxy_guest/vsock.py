"""A wire by vsock: the agent listens, and the host connects.

Whether the host does so by AF_VSOCK or by a Unix socket of its VMM's makes no difference here:
both come from the host's context id.  Anybody on the host may connect by AF_VSOCK, but nobody in
this guest, nor in another, passes for the host.
"""

import errno
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.wire import (
    TRY_AGAIN,
    NoWireError,
    Wire,
    WireSource,
    wait_until,
)

HOST: Final = socket.VMADDR_CID_HOST
MAX_PORT: Final = 0xFFFF_FFFE

log = logging.getLogger(__name__)


class VsockPort:
    """A port of this machine's vsock.

    It is listened at only while there is no host: whoever connects to an agent that has one is
    refused by the kernel at once.
    """

    __slots__ = ("_hosts", "_port")

    def __init__(self, port: int, hosts: Sequence[int] = (HOST,)) -> None:
        """Listen at a port, for connections from these context ids."""
        self._port = port
        self._hosts = hosts

    def __str__(self) -> str:
        return f"vsock port {self._port}"

    async def open(self) -> Wire:
        """See `WireSource`.

        Raises:
            NoWireError: the kernel has no vsock, or not for us.
        """
        while True:
            try:
                with self._listen() as listener:
                    return await self._accept(listener)
            except (OSError, MemoryError) as exc:
                log.error("%s: %s", self, str(exc) or "no memory")  # noqa: TRY400 - an answer, not a bug
            await trio.sleep(TRY_AGAIN)

    def _listen(self) -> socket.socket:
        try:
            listener = socket.socket(
                socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
            )
        except OSError as exc:
            if exc.errno != errno.EAFNOSUPPORT:
                raise
            raise NoWireError(
                f"{self}: the kernel has none ({exc.strerror}), or the agent's unit does not"
                " let it: see vsock.conf"
            ) from exc
        with closed_on_error(listener):
            listener.bind((socket.VMADDR_CID_ANY, self._port))
            listener.listen(1)
        return listener

    async def _accept(self, listener: socket.socket) -> Wire:
        await trio.lowlevel.checkpoint()
        while True:
            with suppress(BlockingIOError, ConnectionError):  # it has gone already
                connected, (cid, _) = listener.accept()
                with closed_on_error(connected):
                    if cid in self._hosts:
                        return Wire(OwnedFd(connected.detach()))
                connected.close()
                log.warning("%s: context %d, which is no host, is refused", self, cid)
            await wait_until(trio.lowlevel.wait_readable, listener.fileno())


class FirstOf:
    """The first of several wires that has a host."""

    __slots__ = ("_sources",)

    def __init__(self, *sources: WireSource) -> None:
        self._sources = sources

    def __str__(self) -> str:
        return " or ".join(map(str, self._sources))

    async def open(self) -> Wire:
        """See `WireSource`.

        Raises:
            NoWireError: none of them can have a host any more.
        """
        found: list[Wire] = []
        reasons: list[str] = []

        async def look(source: WireSource, nursery: trio.Nursery) -> None:
            try:
                found.append(await source.open())
            except NoWireError as exc:
                reasons.append(str(exc))
                if len(reasons) < len(self._sources):
                    log.warning("%s", exc)
                return
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:  # noqa: TID251
                for source in self._sources:
                    nursery.start_soon(look, source, nursery)
        except BaseException:
            for wire in found:
                wire.close()
            raise
        if not found:
            raise NoWireError("; ".join(reasons))
        for late in found[1:]:
            late.close()
        return found[0]


def parse_port(text: str) -> VsockPort:
    """Read what `--vsock` takes.

    Raises:
        ValueError: it is no port.
    """
    port = int(text)
    if not 0 < port <= MAX_PORT:
        raise ValueError(f"{port} is no port of a vsock")
    return VsockPort(port)
