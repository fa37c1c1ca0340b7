"""One established session with a host: its clients, and whose frame is whose.

It begins with the host's `Hello` and ends with the wire, a `Goodbye`, another `Hello` or
a broken rule; then every app is disconnected.  Bytes of the channel are not seen here:
that is `link`.
"""

import logging
from collections import deque
from typing import Final

import trio

from wlproxy.protocol.channel.frames import (
    MAX_TEXT,
    VERSION_MAJOR,
    VERSION_MINOR,
    ClientReleased,
    Feature,
    Frame,
    Hello,
    HelloAck,
    LocateStatus,
    Ping,
    Pong,
    ProveRam,
    RamProof,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy_guest.allocation import find_main_device
from wlproxy_guest.client import Client, ClientContext, Windows
from wlproxy_guest.implicit_layout import implicit_layout_is_linear
from wlproxy_guest.locations import Locating
from wlproxy_guest.locator import LocateError, Pin
from wlproxy_guest.mapping import PAGE_SIZE
from wlproxy_guest.outbox import Outbox
from wlproxy_guest.quotas import Limits, QuotaError
from wlproxy_guest.unix_socket import AppSocket

CLIENT_WINDOW: Final = 256 * 1024
"""Bytes of events (and files) on their way to one app."""
STREAM_WINDOW: Final = 256 * 1024
GRACE: Final = 2.0
"""Seconds that pins outlive their session.

A host that died has let the compositor go with it, but the compositor may not have
noticed yet, and still be reading the pages.
"""
MAX_PROOFS: Final = 16

log = logging.getLogger(__name__)


class Session:
    """What was agreed with a host, and the clients it serves."""

    def __init__(
        self,
        hello: Hello,
        locating: Locating,
        limits: Limits,
        ready: trio.lowlevel.ParkingLot,
    ) -> None:
        """Begin; whoever takes from `outbox` parks in `ready`."""
        self.outbox = Outbox(ready)
        self._hello = hello
        self._locating = locating
        self._context = ClientContext(
            self.outbox,
            Windows(
                hello.client_window, hello.stream_window, CLIENT_WINDOW, STREAM_WINDOW
            ),
            limits,
            locating,
        )
        self._clients: dict[int, Client] = {}
        """Those that run, and those whose pages the host may still be reading."""
        self._running = 0
        self._next_client = 1
        self._max_clients = min(limits.clients, hello.max_clients)
        self._proofs = 0
        self._asked: deque[bytes] = deque()
        self._asking = trio.lowlevel.ParkingLot()
        self._tokens: list[Pin] = []
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    def ack(self, agent: str) -> HelloAck:
        """Answer the `Hello`."""
        features = self._locating.locator.find_features()
        if Feature.LOCATE_DMABUF in features and implicit_layout_is_linear():
            features |= Feature.IMPLICIT_LINEAR
        return HelloAck(
            nonce=self._hello.nonce,
            version=(VERSION_MAJOR, VERSION_MINOR),
            features=self._hello.features & features,
            page_size=PAGE_SIZE,
            client_window=CLIENT_WINDOW,
            stream_window=STREAM_WINDOW,
            main_device=find_main_device(),
            agent=agent[:MAX_TEXT],
        )

    @property
    def serving(self) -> bool:
        """Whether apps can be taken: not before it runs, not after it ended."""
        return self._nursery is not None

    async def run(
        self, established: trio.lowlevel.ParkingLot, *, grace: float = GRACE
    ) -> None:
        """Serve until `end`, then disconnect every app; drop the pins after `grace`.

        Whoever waits for it to be `serving` parks in `established`.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    established.unpark_all()
                    await self._prove_ram()
        finally:
            self.end()
            if grace and (self._clients or self._tokens):
                with trio.CancelScope(shield=True):
                    await trio.sleep(grace)
            for client in self._clients.values():
                client.release_pins()
            for token in self._tokens:
                token.close()

    def end(self) -> None:
        """Have it end.  From now on it sends nothing."""
        self._nursery = None
        self.outbox.close()
        self._scope.cancel()

    def open_client(self, socket: AppSocket) -> None:
        """Serve an app from now on.

        Raises:
            QuotaError: there are too many; `socket` stays the caller's.
        """
        if self._nursery is None:
            raise QuotaError("the host is just going")
        if self._running >= self._max_clients:
            raise QuotaError(f"over {self._max_clients} apps at once")
        client = Client(self._next_client, socket, self._context)
        self._clients[client.client_id] = client
        self._next_client += 1
        self._running += 1
        # Here, not in its task: tasks that are started at once run in any order, and the
        # host wants ids to count up.
        client.open()
        self._nursery.start_soon(self._run_client, client)

    def receive(self, frame: Frame) -> None:
        """Take a frame of the host's.

        Raises:
            ChannelError: the host broke the protocol.
        """
        match frame:
            case Ping():
                self.outbox.put_urgent(Pong(frame.timestamp))
            case Pong():
                pass
            case ProveRam():
                self._receive_prove_ram(frame)
            case ClientReleased():
                self._client(frame.client_id)
                client = self._clients.pop(frame.client_id, None)
                if client is not None:
                    client.release_pins()
            case _:
                client_id: int = getattr(frame, "client_id", 0)
                client = self._client(client_id)
                if client is not None:
                    client.receive(frame)

    def _client(self, client_id: int) -> Client | None:
        """Find a client; None if it has been and gone.

        Raises:
            ChannelError: it has never been.
        """
        if not 0 < client_id < self._next_client:
            raise ChannelError(f"there is no client {client_id} yet")
        return self._clients.get(client_id)

    async def _run_client(self, client: Client) -> None:
        try:
            await client.run()
        finally:
            self._running -= 1

    def _receive_prove_ram(self, frame: ProveRam) -> None:
        self._proofs += 1
        if self._proofs > MAX_PROOFS:
            raise ChannelError(f"over {MAX_PROOFS} ProveRam frames")
        self._asked.append(frame.token)
        self._asking.unpark_all()

    async def _prove_ram(self) -> None:
        """Answer `ProveRam`, for ever."""
        while True:
            while not self._asked:
                await self._asking.park()
            self.outbox.put_urgent(await self._proof(self._asked.popleft()))

    async def _proof(self, token: bytes) -> RamProof:
        try:
            location = await trio.to_thread.run_sync(
                self._locating.locator.place_token,
                token,
                limiter=self._locating.threads,
            )
        except LocateError as exc:
            status = exc.status
            if status is not LocateStatus.NOT_PERMITTED:
                status = LocateStatus.FAILED
            log.error("no proof of guest memory for the host: %s", explain(exc))  # noqa: TRY400
            return RamProof(status, exc.errno, 0)
        self._tokens.append(location.pin)
        return RamProof(LocateStatus.OK, 0, location.extents[0].gpa)


def explain(exc: LocateError) -> str:
    """Say what helps."""
    if exc.status is LocateStatus.NOT_PERMITTED:
        return (
            "page frame numbers are hidden: the agent needs the kernel module"
            " gem_locate, or CAP_SYS_ADMIN"
        )
    return str(exc)
