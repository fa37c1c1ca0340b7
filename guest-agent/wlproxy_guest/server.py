"""The whole agent: what runs, what ends what, and how it stops."""

import logging
from typing import Final

import trio

from wlproxy import __version__
from wlproxy.protocol.quota import Quota
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.notify import notify
from wlproxy_guest.launchers import Launchers
from wlproxy_guest.link import Link
from wlproxy_guest.locating.locations import Locating
from wlproxy_guest.locating.page_locator import Locator
from wlproxy_guest.quotas import Limits, QuotaError
from wlproxy_guest.refusal import limit_event, unavailable_event
from wlproxy_guest.session import GRACE, Session
from wlproxy_guest.unix_socket import AppSocket, Listener
from wlproxy_guest.wire import HostGoneError, NoWireError, Wire, WireSource
from wlproxy_guest.workers import Workers

HOST_WAIT: Final = 5.0
"""Seconds that an app waits for the host: at boot the two race."""
MAX_LOCATING: Final = 4
"""Threads that locate at once: collapsing takes a while."""
OUT_OF_FDS_PAUSE: Final = 0.1
"""Seconds until the next app is accepted when there was nothing to accept it with."""
FAILURE_PAUSE: Final = 1.0
"""Seconds until the host is looked for again after something went wrong with it."""
MAX_TURNED_AWAY: Final = 64
"""Apps that are told why at their leisure; with more of them, the others are cut off."""

log = logging.getLogger(__name__)


class Server:
    """Accepts apps, finds the host, brings the two together."""

    def __init__(
        self,
        listener: Listener,
        source: WireSource,
        locator: Locator,
        limits: Limits,
        *,
        host_wait: float = HOST_WAIT,
        grace: float = GRACE,
        launchers: Launchers | None = None,
    ) -> None:
        self._listener = listener
        self._source = source
        self._limits = limits
        self._host_wait = host_wait
        self._grace = grace
        self._launchers = launchers
        self._locating = Locating(
            locator, Workers(MAX_LOCATING), Quota(limits.pinned_total)
        )
        self._link: Link | None = None
        self._established = trio.lowlevel.ParkingLot()
        self._waiting = 0
        self._turned_away = 0

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> str:
        """Serve until cancelled, or until no host can come any more; return why not."""
        reason = ""
        async with trio.open_nursery() as nursery:  # noqa: TID251
            nursery.start_soon(self._accept, nursery)
            if self._launchers is not None:
                nursery.start_soon(self._launchers.run)
            log.info("apps connect to %s, the host to %s", self._listener, self._source)
            notify("READY=1", "STATUS=waiting for the host")
            task_status.started()
            try:
                await self._serve_hosts(nursery)
            except NoWireError as exc:
                reason = str(exc)
            nursery.cancel_scope.cancel()
        return reason

    async def stop(self) -> None:
        """Say goodbye to the host; cancel `run` after that."""
        notify("STOPPING=1")
        await trio.lowlevel.checkpoint()
        if self._link is not None:
            await self._link.say_goodbye("the agent stops")

    async def _serve_hosts(self, sessions: trio.Nursery) -> None:
        while True:
            wire = await self._source.open()
            log.info("there is a host at %s", self._source)
            notify("STATUS=connected to the host")
            try:
                await self._serve_host(wire, sessions)
            except* HostGoneError:
                pass
            except* Exception:
                # The last line of defence: it costs the session, not the agent.
                log.exception("a bug, or no memory")
                await trio.sleep(FAILURE_PAUSE)
            log.warning("the host has gone; its apps are disconnected")
            notify("STATUS=waiting for the host")

    async def _serve_host(self, wire: Wire, sessions: trio.Nursery) -> None:
        link = Link(
            wire,
            self._locating,
            self._limits,
            self._established,
            agent=f"wlproxy-guest {__version__}",
            grace=self._grace,
            launchers=None if wire.anybody else self._launchers,
        )
        self._link = link
        try:
            # The link ends by an exception, and that ends the other.
            async with trio.open_nursery() as nursery:  # noqa: TID251
                nursery.start_soon(self._source.turn_away, wire)
                await link.run(sessions)
        finally:
            self._link = None
            wire.close()

    async def _accept(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                socket = await self._listener.accept()
            except ConnectionError:
                continue  # the app has already gone
            except (OSError, MemoryError) as exc:
                log.error("no app can connect: %s", str(exc) or "no memory")  # noqa: TRY400
                await trio.sleep(OUT_OF_FDS_PAUSE)
                continue
            nursery.start_soon(self._welcome, socket)

    async def _welcome(self, socket: AppSocket) -> None:
        """Give an app to the session, once there is one, or tell it why not."""
        with closed_on_error(socket):
            try:
                session = await self._wait_for_session()
                session.open_client(socket)
            except trio.TooSlowError:
                why, encode = "the host is not connected", unavailable_event
            except QuotaError as exc:
                why, encode = str(exc), limit_event
            except BaseException:
                socket.say(unavailable_event("wlproxy: the agent was stopped"))
                raise
            else:
                return
        await self._turn_away(socket, why, encode(f"wlproxy: {why}"))

    async def _turn_away(self, socket: AppSocket, why: str, error: bytes) -> None:
        log.warning("%s turned away: %s", socket.peer, why)
        self._turned_away += 1
        try:
            if self._turned_away <= MAX_TURNED_AWAY:
                await socket.bid_farewell(error)
        finally:
            self._turned_away -= 1
            socket.say(error)
            socket.close()

    async def _wait_for_session(self) -> Session:
        if self._waiting >= self._limits.clients:
            raise QuotaError(f"over {self._limits.clients} apps wait for the host")
        self._waiting += 1
        try:
            with trio.fail_after(self._host_wait):
                while True:
                    session = self._link.session if self._link else None
                    if session is not None and session.serving:
                        return session
                    await self._established.park()
        finally:
            self._waiting -= 1
