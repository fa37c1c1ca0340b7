"""A wire by vsock: the agent listens, and the host connects.

Whether the host does so by AF_VSOCK or by a Unix socket of its VMM's makes no difference here:
both come from the host's context id.  Anybody on the host may connect by AF_VSOCK, but nobody in
this guest, nor in another, passes for the host.
"""

import errno
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from wlproxy.protocol.channel.frames import HEADER_SIZE, RESYNC_PADDING, FrameType
from wlproxy.protocol.channel.hello_scanner import MAX_HANDSHAKE, Scanner
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.wire import (
    TRY_AGAIN,
    HostGoneError,
    NoWireError,
    Wire,
    WireSource,
    wait_until,
)

HOST: Final = socket.VMADDR_CID_HOST
MAX_PORT: Final = 0xFFFF_FFFE
HELLO_SECONDS: Final = 5.0
"""For who connects to say hello; a proxy does at once."""
MAX_STRANGERS: Final = 8
"""Connections that have not said hello; with one more, the oldest is hung up on."""
READ_SIZE: Final = 64 * 1024
MAX_HELLO: Final = HEADER_SIZE + MAX_HANDSHAKE

log = logging.getLogger(__name__)


class VsockPort(WireSource):
    """A port of this machine's vsock.

    From the first look on, it is this agent's for life: were it free while there is a host,
    any process here could take it, and no host would ever get in again.  Who connects
    meanwhile is hung up on.
    """

    __slots__ = ("_hosts", "_listener", "_port")

    def __init__(self, port: int, hosts: Sequence[int] = (HOST,)) -> None:
        """Listen at a port, for connections from these context ids."""
        self._port = port
        self._hosts = hosts
        self._listener: socket.socket | None = None

    def __str__(self) -> str:
        return f"vsock port {self._port}"

    async def open(self) -> Wire:
        """See `WireSource`.  A host is who says hello.

        Raises:
            NoWireError: the kernel has no vsock, or not for us.
        """
        await self._bound()
        wire = await first_wire(self._welcome)
        assert wire is not None, "it looks until there is one"
        return wire

    async def turn_away(self, current: Wire) -> None:
        """See `WireSource`."""
        with suppress(NoWireError):
            while True:
                listener = await self._bound()
                await wait_until(trio.lowlevel.wait_readable, listener.fileno())
                if current.hung_up:  # who comes now may be its successor: for `open`
                    return
                try:
                    connected, (cid, _) = listener.accept()
                except (OSError, MemoryError) as exc:
                    await self._pause(exc)
                    continue
                connected.close()
                log.warning("%s: context %d is turned away: it is in use", self, cid)

    def close(self) -> None:
        """Give the port up.  Again: nothing happens."""
        if self._listener is not None:
            self._listener.close()
        self._listener = None

    async def _welcome(self, first: "FirstWire") -> None:
        """Hear whoever connects, several at a time: who says nothing is in nobody's way."""
        heard: deque[trio.CancelScope] = deque()
        listener = await self._bound()
        while True:
            wire = await self._accept(listener)
            if len(heard) >= MAX_STRANGERS:
                heard.popleft().cancel()
            scope = trio.CancelScope(deadline=trio.current_time() + HELLO_SECONDS)
            heard.append(scope)
            first.nursery.start_soon(self._hear, first, wire, scope, heard)

    async def _hear(
        self,
        first: "FirstWire",
        wire: Wire,
        scope: trio.CancelScope,
        heard: deque[trio.CancelScope],
    ) -> None:
        with scope:
            if await says_hello(wire):
                first.found(wire)
                return
        with suppress(ValueError):  # it was the oldest of too many
            heard.remove(scope)
        log.warning("%s: somebody connects, and does not say hello", self)

    async def _pause(self, exc: OSError | MemoryError) -> None:
        """Let others run; if who connected has not merely gone already, for a while."""
        if isinstance(exc, BlockingIOError | ConnectionError):
            await trio.lowlevel.checkpoint()
            return
        log.error("%s: %s", self, str(exc) or "no memory")
        await trio.sleep(TRY_AGAIN)

    async def _bound(self) -> socket.socket:
        """Return the socket that listens; wait until there is one.

        Raises:
            NoWireError: the kernel has no vsock, or not for us.
        """
        await trio.lowlevel.checkpoint()
        while self._listener is None:
            try:
                self._listener = self._listen()
            except (OSError, MemoryError) as exc:
                why = str(exc) or "no memory"
                if isinstance(exc, PermissionError):
                    why += " (a port below 1024 takes CAP_NET_BIND_SERVICE: see vsock.conf)"
                log.error("%s: %s", self, why)  # noqa: TRY400 - an answer, not a bug
                await trio.sleep(TRY_AGAIN)
        return self._listener

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
            listener.listen(MAX_STRANGERS)
        return listener

    async def _accept(self, listener: socket.socket) -> Wire:
        while True:
            await wait_until(trio.lowlevel.wait_readable, listener.fileno())
            try:
                connected, (cid, _) = listener.accept()
            except (OSError, MemoryError) as exc:
                await self._pause(exc)
                continue
            with closed_on_error(connected):
                if cid in self._hosts:
                    return Wire(OwnedFd(connected.detach()), anybody=True)
            connected.close()
            log.warning("%s: context %d, which is no host, is refused", self, cid)


class FirstOf(WireSource):
    """The first of several wires whose host says hello."""

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
        reasons: list[str] = []

        async def look(source: WireSource, first: FirstWire) -> None:
            try:
                while True:
                    wire = await source.open()
                    if await answers_padding(wire):
                        first.found(wire)
                        return
            except NoWireError as exc:
                reasons.append(str(exc))
                if len(reasons) < len(self._sources):
                    log.warning("%s", exc)

        wire = await first_wire(*(partial(look, source) for source in self._sources))
        if wire is None:
            raise NoWireError("; ".join(reasons))
        return wire

    async def turn_away(self, current: Wire) -> None:
        """See `WireSource`."""
        async with trio.open_nursery() as nursery:  # noqa: TID251
            for source in self._sources:
                nursery.start_soon(source.turn_away, current)


class FirstWire:
    """The first of the wires that several tasks find; it ends their search.

    Attributes:
        nursery: where the tasks are.
        wire: what was found, if anything was.
    """

    __slots__ = ("nursery", "wire")

    def __init__(self, nursery: trio.Nursery) -> None:
        """Let tasks of `nursery` search."""
        self.nursery = nursery
        self.wire: Wire | None = None

    def found(self, wire: Wire) -> None:
        """Take a wire, or close it if it is late."""
        if self.wire is not None:
            wire.close()
            return
        self.wire = wire
        self.nursery.cancel_scope.cancel()


async def first_wire(*searches: Callable[[FirstWire], Awaitable[None]]) -> Wire | None:
    """Search in several ways at once; None if all of them gave up."""
    first: FirstWire | None = None
    try:
        async with trio.open_nursery() as nursery:  # noqa: TID251
            first = FirstWire(nursery)
            for search in searches:
                nursery.start_soon(search, first)
    except BaseException:
        if first is not None and first.wire is not None:
            first.wire.close()
        raise
    return first.wire


async def says_hello(wire: Wire) -> bool:
    """Wait for a host's `Hello`, and leave it there to be received again.

    Returns:
        False if the host hung up; the wire is closed then, as it is on any exception.
    """
    scanner = Scanner(FrameType.HELLO)
    received = b""
    with closed_on_error(wire):
        while True:
            try:
                data = await wire.receive(READ_SIZE)
            except HostGoneError:
                wire.close()
                return False
            scanner.feed(data)
            # What came before a `Hello` is skipped by whoever reads it.
            received = received[-MAX_HELLO:] + data
            if scanner.next_frame() is not None:
                wire.unread(received)
                return True


async def answers_padding(wire: Wire) -> bool:
    """As `says_hello`, of a host that may have a session with an earlier agent.

    It notices by padding, all of which it may have to read for that.
    """
    wire.send_at_once(bytes(RESYNC_PADDING))
    said = False

    async def send_rest() -> None:
        with suppress(HostGoneError, trio.ClosedResourceError):
            await wire.flush()

    async with trio.open_nursery() as nursery:  # noqa: TID251
        nursery.start_soon(send_rest)
        said = await says_hello(wire)
        nursery.cancel_scope.cancel()
    return said


def parse_port(text: str) -> VsockPort:
    """Read what `--vsock` takes.

    Raises:
        ValueError: it is no port.
    """
    port = int(text)
    if not 0 < port <= MAX_PORT:
        raise ValueError(f"{port} is no port of a vsock")
    return VsockPort(port)
