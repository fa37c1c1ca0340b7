"""One session with a host: its clients, and which client each frame belongs to.

It begins with the host's `Hello`.  It ends when the wire ends, or with a `Goodbye`, another
`Hello` or a broken rule; then every app is disconnected.  The bytes of the channel are the
business of `link`.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import Final, TypeVar

import trio

from wlproxy.protocol.channel.frames import (
    VERSION_MAJOR,
    VERSION_MINOR,
    ClientReleased,
    Credit,
    Feature,
    Frame,
    Hello,
    HelloAck,
    LocateStatus,
    Ping,
    Pong,
    ProveRam,
    RamProof,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import (
    CLIENT_WINDOW,
    STREAM_WINDOW,
    StreamLimits,
)
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Windows
from wlproxy.protocol.channel.rules import fit_text
from wlproxy.protocol.errors import ChannelError
from wlproxy.protocol.quota import Quota
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy_guest.client import Client, ClientContext
from wlproxy_guest.drm.allocation import find_main_device
from wlproxy_guest.drm.implicit_layout import implicit_layout_is_linear
from wlproxy_guest.launchers import Launchers, Offers
from wlproxy_guest.locating.locations import LOCATE_SECONDS, Locating, as_locate_error
from wlproxy_guest.locating.mapping import PAGE_SIZE
from wlproxy_guest.locating.page_locator import LocateError, Pin, PinnedRange
from wlproxy_guest.quotas import Limits, QuotaError
from wlproxy_guest.streams import Streams
from wlproxy_guest.unix_socket import AppSocket

GRACE: Final = 2.0
"""Seconds that pins outlive their session.

A host that died has let the compositor go with it, but the compositor may not have
noticed yet, and still be reading the pages.
"""
MAX_PROOFS: Final = 16

T = TypeVar("T")

log = logging.getLogger(__name__)


class Session:
    """One session with a host: what was agreed, and the clients."""

    def __init__(
        self,
        hello: Hello,
        locating: Locating,
        limits: Limits,
        flush: Callable[[], None],
        launchers: Launchers | None = None,
    ) -> None:
        """Begin; `flush` sends what is to be taken from `lanes`."""
        theirs = Windows(hello.client_window, hello.stream_window)
        most = StreamLimits(limits.streams, limits.streams_total)
        self.lanes = LaneTasks(Lanes(Side.GUEST, Windows(), theirs, most), flush)
        self._hello = hello
        self._locating = locating
        self._streams = Streams(self.lanes, self._start_pump)
        self._context = ClientContext(
            self.lanes,
            self._streams,
            limits,
            locating,
            Quota(limits.memories_total),
        )
        self._clients: dict[int, Client] = {}
        """Those that run, and those whose pages the host may still be reading."""
        self._running = 0
        self._last_id = 0
        self._launchers = launchers
        self._offers = Offers(self.lanes, self._streams, self._new_id)
        self._max_clients = min(limits.clients, hello.max_clients)
        self._proofs = 0
        self._unable = False
        """Whether what we could tell of pages is not what the host takes."""
        self._asked: deque[bytes] = deque()
        self._asking = trio.lowlevel.ParkingLot()
        self._tokens: list[Pin] = []
        self._over = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._app_left = trio.lowlevel.ParkingLot()

    def ack(self, agent: str) -> HelloAck:
        """Answer the `Hello`."""
        features = found(
            self._locating.locator.find_features, unknown=Feature.LOCATE_MEMFD
        )
        self._unable = bool(Feature.GRANTS & features & ~self._hello.features)
        if self._unable:
            log.error("this host takes no grants of Xen's: it is none of this domain's")
        dmabufs = Feature.LOCATE_DMABUF in features
        if dmabufs and found(implicit_layout_is_linear, unknown=False):
            features |= Feature.IMPLICIT_LINEAR
        features |= Feature.READ_MEMORY
        if self._launchers is not None:
            features |= Feature.EXEC
        return HelloAck(
            nonce=self._hello.nonce,
            version=(VERSION_MAJOR, VERSION_MINOR),
            features=self._hello.features & features,
            page_size=PAGE_SIZE,
            client_window=CLIENT_WINDOW,
            stream_window=STREAM_WINDOW,
            main_device=found(find_main_device, unknown=0),
            agent=fit_text(agent),
        )

    @property
    def serving(self) -> bool:
        """Whether apps can be served: only while the session runs."""
        return self._nursery is not None

    async def run(
        self, established: trio.lowlevel.ParkingLot, *, grace: float = GRACE
    ) -> None:
        """Serve until `end`, then disconnect every app; drop the pins after `grace`.

        Whoever waits for it to be `serving` parks in `established`.  Cancelled, it ends
        without waiting for apps to take what they are told.
        """
        try:
            async with trio.open_nursery() as nursery:  # noqa: TID251
                if not self._over.is_set():
                    self._nursery = nursery
                    established.unpark_all()
                    self._offer_launchers()
                nursery.start_soon(self._prove_ram)
                await self._over.wait()
                await self._drop_pins(grace)
        finally:
            self.end("the agent was stopped")
            with trio.CancelScope(shield=True):
                await self._drop_pins(grace)

    def end(self, why: str) -> None:
        """End the session and have apps told why.  It sends nothing from now on."""
        if not self._over.is_set():
            self._over.set()
            self._nursery = None
            self.lanes.close()
            self._asking.unpark_all()
            self._streams.close()
            if self._launchers is not None:
                self._launchers.withdraw(self._offers)
            for client in self._clients.values():
                client.lose_host(why)

    async def left(self) -> None:
        """Wait until every app has gone: seconds at most, once the session has ended."""
        await trio.lowlevel.checkpoint()
        while self._running:
            await self._app_left.park()

    async def _drop_pins(self, grace: float) -> None:
        if grace and (self._clients or self._tokens):
            await trio.sleep(grace)
        while self._clients:
            self._clients.popitem()[1].release()
        while self._tokens:
            self._tokens.pop().close()

    def open_client(self, socket: AppSocket) -> None:
        """Serve an app from now on.

        Raises:
            QuotaError: there are too many; `socket` stays the caller's.
        """
        if self._nursery is None:
            raise QuotaError("the host is just going")
        if self._running >= self._max_clients:
            raise QuotaError(f"over {self._max_clients} apps at once")
        client = Client(self._new_id(), socket, self._context)
        self._clients[client.client_id] = client
        self._running += 1
        # Here, not in its task: tasks that are started at once run in any order, and the
        # host wants ids to count up.
        client.open()
        self._nursery.start_soon(self._run_client, client)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _offer_launchers(self) -> None:
        if self._launchers is not None and Feature.EXEC in self._hello.features:
            self._launchers.offer(self._offers)

    def receive(self, frame: Frame) -> None:
        """Take a frame from the host.

        Raises:
            ChannelError: the host broke the protocol.
        """
        if self.lanes.receive(frame) and not self._offers.receive(frame):
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Ping():
                # The clock that apps read, too; as late as can be.
                self.lanes.put(Pong(frame.timestamp, monotonic_ns()))
            case Pong():
                pass
            case ProveRam():
                self._receive_prove_ram(frame)
            case ClientReleased():
                client = self._clients.pop(frame.client_id, None)
                if client is not None:
                    client.release()
            case StreamData() | StreamClosed() | Credit():
                pass  # whoever waits for it has been woken
            case _:
                client = self._clients.get(getattr(frame, "client_id", 0))
                if client is not None:
                    client.receive(frame)

    def _start_pump(self, _client_id: int, run: Callable[[], Awaitable[None]]) -> None:
        # Once the session is over no stream is open, and none starts.
        assert self._nursery is not None
        self._nursery.start_soon(self._run_pump, run)

    async def _run_pump(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except* Exception:
            # The last line of defence: it costs this pipe, and nobody's app.
            log.exception("a pipe has ended: a bug, or no memory")

    async def _run_client(self, client: Client) -> None:
        try:
            await client.run()
        finally:
            self._running -= 1
            self._app_left.unpark_all()

    def _receive_prove_ram(self, frame: ProveRam) -> None:
        self._proofs += 1
        if self._proofs > MAX_PROOFS:
            raise ChannelError(f"over {MAX_PROOFS} ProveRam frames")
        self._asked.append(frame.token)
        self._asking.unpark_all()

    async def _prove_ram(self) -> None:
        """Answer `ProveRam`, until it is over."""
        while not self._over.is_set():
            if self._asked:
                self.lanes.put(await self._proof(self._asked.popleft()))
            else:
                await self._asking.park()

    async def _proof(self, token: bytes) -> RamProof:
        def place() -> PinnedRange:
            if self._unable:
                raise LocateError(LocateStatus.NOT_PERMITTED)
            return self._locating.locator.place_token(token)

        try:
            location = await self._locating.threads.run(
                place, _discard, trio.current_time() + LOCATE_SECONDS
            )
        except Exception as caught:  # noqa: BLE001 - the host is told
            exc = as_locate_error(caught)
            status = exc.status
            if status is not LocateStatus.NOT_PERMITTED:
                status = LocateStatus.FAILED
            log.error("no proof of guest memory for the host: %s", explain(exc))  # noqa: TRY400
            return RamProof(status, exc.errno, 0)
        self._tokens.append(location.pin)
        return RamProof(LocateStatus.OK, 0, location.extents[0].gpa)


def found(find: Callable[[], T], *, unknown: T) -> T:
    """Find out, or do without where no fds or memory are left to look."""
    try:
        return find()
    except (OSError, MemoryError) as exc:
        log.warning("what this machine can do is not all known: %s", exc)
        return unknown


def _discard(location: PinnedRange | None) -> None:
    if location is not None:
        location.pin.close()


def explain(exc: LocateError) -> str:
    """Say what helps."""
    if exc.status is LocateStatus.NOT_PERMITTED:
        return (
            "page frame numbers are hidden: the agent needs the kernel module"
            " gem_locate, or CAP_SYS_ADMIN; in a domain of Xen's, gem_grant"
        )
    return str(exc)
