"""Who runs, and what ends what: the only module with nurseries.

Sessions follow each other on a channel, channels follow each other as QEMU comes and
goes, and the compositor may be restarted meanwhile.  A peer that breaks the rules ends
its session; an exception that nobody expected ends no more than that (`bugs`).
"""

import logging
import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import trio

from wlproxy.host.channel.wires import make_wire
from wlproxy.host.config import HostConfig
from wlproxy.host.confinement import confine
from wlproxy.host.desktop.desktop import Desktop
from wlproxy.host.desktop.prompter import Prompter
from wlproxy.host.errors import GuestRamError, HostError, NotQemuError
from wlproxy.host.fd_limit import fds_for_buffers
from wlproxy.host.frame_label import look
from wlproxy.host.launch.serving import Found, serve_launches
from wlproxy.host.link import (
    ChannelGoneError,
    Link,
    farewell,
    severity,
)
from wlproxy.host.page_sources import page_source
from wlproxy.host.pages import PageProvider, PageSource, Vmm, find_pages
from wlproxy.host.policy_keeper import PolicyKeeper, serve_policy
from wlproxy.host.report.bugs import MISTAKE, keep_running, report_bug
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.progress import Progress, State
from wlproxy.host.report.status_socket import (
    Json,
    StatusSockets,
    listen_status,
    serve_status,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.session import Session
from wlproxy.host.status import take_snapshot
from wlproxy.host.watching import watch_compositor, watch_devices
from wlproxy.protocol.channel.frames import CloseReason, Frame
from wlproxy.protocol.errors import RemoteProtocolError, WlproxyError
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.policy_tree import Policy
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.transport.fds import raise_fd_limit
from wlproxy.transport.notify import notify

FIRST_PAUSE, LAST_PAUSE = 0.1, 10.0
"""Seconds between sessions that fail at once: doubled from the first to the last."""

LASTING = 5.0
"""Seconds after which a session did not fail at once."""

REFUSE_SECONDS = 3.0
"""For an agent to come and hear why it is refused."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends the proxy: a service manager, Ctrl-C, a terminal that is closed."""

NEXT_PLEASE = 0.001
"""Seconds from one who connects, and is not QEMU, to the next."""

QEMU_PATIENCE, QEMU_RETRY = 30.0, 0.5
"""Seconds for a socket that libvirt has made to become QEMU's; and between looks."""

_T = TypeVar("_T")


class Server:
    """One proxy for one VM."""

    def __init__(
        self,
        config: HostConfig,
        *,
        desktop: Desktop | None = None,
        provide_pages: PageProvider | None = None,
        make_relay: Callable[[RelayConfig, PageSource, CompositorCapabilities], Relay]
        | None = None,
        confined: str = "",
    ) -> None:
        """Nothing runs yet.

        Args:
            config: the user's.
            desktop: the compositor; by default the one that `config` says.
            provide_pages: finds the guest's pages; by default in QEMU's process.
            make_relay: makes the core of a session; the agent has its say in the config.
            confined: what its process is confined to, for the status.

        Raises:
            NoCompositorError: the environment does not tell where the compositor is.
        """
        self.config = config
        self.metrics = Metrics()
        self._confined = confined
        self._log = VmLog(config.name)
        self._desktop = desktop or Desktop(
            config.name,
            config.display,
            self._log,
            policy=config.relay.policy.globals.caps,
            allow=config.relay.policy.globals.allow,
            isolate=config.security_context,
        )
        locks = config.status.parent if config.status else None
        self._wire = make_wire(config.channel, locks, config.name)
        self._progress = Progress(config.channel, self._desktop.path)
        self._provide_pages = provide_pages or partial(
            page_source, config, lambda: self._desktop.device
        )
        self._make_relay = make_relay or self._relay
        self._session: Session | None = None
        self._agent = ""
        self._qemu: Vmm | None = None
        self._qemu_deadline = math.inf
        self._stopping = False
        self._failure: HostError | None = None
        self._interruptible: trio.CancelScope | None = None
        self._pause = FIRST_PAUSE
        self._started = 0.0
        source = config.policy_source
        self._prompter = Prompter(config.name, self._log)
        self._policy = PolicyKeeper(
            source, self.obey, self.bound, self.framed_otherwise, self._log
        )

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._progress.state

    async def run(self) -> None:
        """Serve until stopped, or once if so configured.

        Raises:
            HostError: it cannot go on; with the remedy.
        """
        self._started = trio.current_time()
        # First of all: whoever is told to stop while it starts has something to remove.
        with trio.open_signal_receiver(*_stop_signals()) as signals:
            status = listen_status(self.config.status) if self.config.status else None
            try:
                self._wire.claim()
                async with trio.open_nursery() as nursery:  # noqa: TID251
                    nursery.start_soon(self._watch_signals, signals, nursery)
                    await self._start(nursery, status)
                    await self._serve()
                    nursery.cancel_scope.cancel()
            finally:
                self._desktop.close()
                self._wire.close()
                if status is not None:
                    status.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End cleanly: close every client, say goodbye, return from `run`."""
        if not self._stopping:
            self._say_what_ends()
        self._stopping = True
        self._progress.enter(State.STOPPING)
        if self._session is not None:
            self._session.lost(None)
        if self._interruptible is not None:
            self._interruptible.cancel()

    def snapshot(self) -> dict[str, Json]:
        """Say how everything is, for the status socket."""
        document = take_snapshot(
            self.config.name,
            trio.current_time() - self._started,
            self._progress,
            self._desktop,
            self.metrics,
            self._qemu,
            self._agent,
            self._session,
        )
        return {**document, "confined": self._confined}

    def dump(self) -> Mapping[str, Json]:
        """Say all that is known of clients, for debugging; not what waits for them."""
        return self._session.dump() if self._session else {}

    def _relay(
        self,
        config: RelayConfig,
        pages: PageSource,
        capabilities: CompositorCapabilities,
    ) -> Relay:
        return Relay(
            config,
            pages.memory,
            capabilities,
            self.config.max_clients,
            fds_for_buffers(),
        )

    async def _start(self, nursery: trio.Nursery, status: StatusSockets | None) -> None:
        """Look at the compositor; then start everything that goes on beside serving."""
        try:
            await self._unless_stopped(self._desktop.prepare)
        except HostError as exc:
            self._failure = exc
            self._stopping = True
        if self._stopping:
            return
        keep = partial(keep_running, metrics=self.metrics, log=self._log)
        if status is not None:
            answer = partial(serve_status, status, self.snapshot, self.dump)
            nursery.start_soon(keep, answer, "an answer to `status`")
        serve = partial(serve_policy, self.config.status, self._policy, self._log)
        nursery.start_soon(keep, serve, "an answer about the policy")
        serve = partial(serve_launches, self.config, self._launchers, self._log)
        nursery.start_soon(keep, serve, "what `exec` asked for")
        watch = partial(
            watch_compositor, self._desktop, self._progress, self._found, self._log
        )
        nursery.start_soon(keep, watch, "a watch on the compositor")
        watch = partial(watch_devices, self._desktop, self._found, self._log)
        nursery.start_soon(keep, watch, "a watch on devices")
        hint = partial(self._progress.watch, self._log)
        nursery.start_soon(keep, hint, "a hint in the log")
        notify("READY=1")

    def _found(self) -> Session | None:
        return self._session

    def _launchers(self) -> Found:
        return self._session.launchers if self._session else self.state

    def obey(self, policy: Policy) -> None:
        """Have another policy be in force, for apps that run and those to come."""
        frame = look(self.config.name, policy.frame)
        relay = replace(self.config.relay, policy=policy, frame=frame)
        self.config = replace(self.config, relay=relay)
        self._desktop.obey(policy.globals.caps, policy.globals.allow)
        if self._session is not None:
            self._session.obey(policy, frame)

    def bound(self, interface: str) -> int:
        """Count the apps that have bound a global."""
        return self._session.relay.bound(interface) if self._session else 0

    def framed_otherwise(self) -> int:
        """Count the apps whose windows are not framed as those of new ones are."""
        return self._session.relay.framed_otherwise() if self._session else 0

    def _say_what_ends(self) -> None:
        clients = self._session.clients if self._session else []
        count = sum(client.closed is None for client in clients)
        if count:
            self._log.info("apps that are open, and end with the proxy: %d", count)

    async def _unless_stopped(self, wait: Callable[[], Awaitable[_T]]) -> _T | None:
        """Wait for something; None if `stop` was called before it came."""
        with trio.CancelScope() as scope:
            self._interruptible = scope
            if self._stopping:
                scope.cancel()
            try:
                return await wait()
            finally:
                self._interruptible = None
        return None

    async def _serve(self) -> None:
        """Serve one channel after the other."""
        try:
            while not self._stopping:
                self._progress.enter(State.WAITING_FOR_QEMU)
                stream = await self._unless_stopped(partial(self._wire.open, self._log))
                if stream is None:
                    break
                async with stream:
                    with self._wire.held():
                        link = Link(stream, self.metrics, self.config.features)
                        served = await self._serve_channel(link)
                if served and self.config.once:
                    break
                if not self._stopping:
                    await self._wait_a_little()
        except HostError as exc:
            self._failure = exc
        self._progress.enter(State.STOPPING)

    async def _serve_channel(self, link: Link) -> bool:
        """Serve one session after the other, until QEMU closes the channel.

        Returns:
            Whether it was QEMU's at all.

        Raises:
            HostError: the RAM of this QEMU cannot be had.
        """
        if self._qemu_deadline == math.inf:
            self._log.of_client(logging.INFO, "connected to %s", self.config.channel)
        try:
            pages = await self._unless_stopped(
                partial(find_pages, self._provide_pages, link.stream, self._log)
            )
        except HostError as exc:
            if isinstance(exc, NotQemuError) and self._may_become_qemu(exc):
                return False
            await self._refuse(link, exc)
            raise
        if pages is None:
            return not self._stopping
        self._qemu_deadline = math.inf
        self._log.info("guest RAM: %s", pages)
        try:
            self._qemu = pages.vmm
            await self._serve_sessions(link, pages)
        finally:
            self._qemu = None
            pages.close()
        return True

    async def _serve_sessions(self, link: Link, pages: PageSource) -> None:
        """Serve one session after the other, and follow where the RAM is meanwhile.

        Raises:
            HostError: as `_serve_session`.
        """
        failure: HostError | None = None
        async with trio.open_nursery() as nursery:  # noqa: TID251
            nursery.start_soon(self._wire.turn_away, link.stream, self._log)
            nursery.start_soon(pages.follow, self._log, self._found)
            try:
                while not self._stopping and await self._serve_defended(link, pages):
                    pass
            except HostError as exc:
                failure = exc  # itself, and no group of one
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _may_become_qemu(self, why: NotQemuError) -> bool:
        """Whether to connect again: libvirt makes the socket, and gives it to QEMU.

        Whom a connection belongs to does not change, so this one would stay libvirt's.
        """
        if self._wire.listens:  # whoever connects next may be it
            self._log.of_client(logging.WARNING, "turned away: %s", why)
            self._pause = NEXT_PLEASE
            return True
        now = trio.current_time()
        if self._qemu_deadline == math.inf:
            self._qemu_deadline = now + QEMU_PATIENCE
            self._log.info("waiting for it to be QEMU's: %s", why.explanation)
        self._pause = QEMU_RETRY
        return now < self._qemu_deadline

    async def _serve_defended(self, link: Link, pages: PageSource) -> bool:
        """Serve one session as `_serve_session`; a bug ends nothing but this one."""
        try:
            return await self._serve_session(link, pages)
        except HostError:
            raise
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            report_bug(exc, "the session", self.metrics, self._log)
        await link.say_goodbye(CloseReason.FAILED, MISTAKE)
        await self._wait_a_little()
        return True

    async def _serve_session(self, link: Link, pages: PageSource) -> bool:
        """Serve one session; tell if another may follow on this channel."""
        began = trio.current_time()
        try:
            early = await self._unless_stopped(partial(self._begin, link, pages))
            if early is None:
                await link.say_goodbye(*farewell(None))
                return False
            cause = await self._run_session(link, pages, early)
        except (RemoteProtocolError, GuestRamError) as exc:
            await link.say_no(exc)
            if self.config.once and isinstance(exc, GuestRamError):
                raise
            cause = exc
        except ChannelGoneError as exc:
            cause = exc
        if cause is None or isinstance(cause, ChannelGoneError):
            if cause is not None:
                self._log.warning("%s", cause)
            return False
        self._log.log(severity(cause), "the session ended: %s", cause)
        if trio.current_time() - began >= LASTING:
            self._pause = FIRST_PAUSE
        await self._wait_a_little()
        return True

    async def _begin(self, link: Link, pages: PageSource) -> list[Frame]:
        """Establish a session and prove the RAM; return early frames."""
        self._progress.enter(State.WAITING_FOR_AGENT)
        self._log.info("waiting for the guest agent")
        ack = await link.establish(self.config.max_clients, pages.features)
        self._agent = ack.agent
        self._progress.enter(State.PROVING_RAM)
        early = await link.prove_ram(pages)
        await pages.try_out(self._desktop.path)
        self._desktop.say_if_copied(pages.abilities(self._desktop.capabilities))
        self._log.info("guest agent %s: its RAM is proved, serving", ack.agent)
        return early

    async def _run_session(
        self, link: Link, pages: PageSource, early: Sequence[Frame]
    ) -> WlproxyError | None:
        """Run a session to its end; return what ended it, None if we did."""
        self.metrics.sessions += 1
        self.metrics.client_pixel_bytes.clear()
        async with trio.open_nursery() as nursery:  # noqa: TID251
            session = Session(
                link=link,
                relay=self._make_relay(
                    link.told(self.config.relay),
                    pages,
                    pages.abilities(self._desktop.capabilities),
                ),
                pages=pages,
                metrics=self.metrics,
                log=self._log,
                connect=self._desktop.connect,
                nursery=nursery,
                ask=self._prompter.ask,
            )
            try:
                self._session = session
                self._progress.enter(State.SERVING)
                if not self._desktop.there:
                    session.compositor_away()
                if self._stopping:
                    session.lost(None)
                await session.run(early)
                reason, message = farewell(session.cause)
                session.end(reason, message)
                await session.wait_let_go()
                await session.say_goodbye(reason, message)
            finally:
                self._session = None
                self._agent = ""
                session.close()
        return session.cause

    async def _refuse(self, link: Link, why: HostError) -> None:
        """Tell an agent why there will be no session, if one is there."""
        self._progress.enter(State.WAITING_FOR_AGENT)
        establish = partial(link.establish, self.config.max_clients)
        with (
            suppress(HostError, RemoteProtocolError),
            trio.move_on_after(REFUSE_SECONDS),
        ):
            await self._unless_stopped(establish)
        await link.say_no(why)

    async def _wait_a_little(self) -> None:
        self._progress.enter(State.PAUSING)
        await self._unless_stopped(partial(trio.sleep, self._pause))
        self._pause = min(2 * self._pause, LAST_PAUSE)

    async def _watch_signals(
        self, signals: AsyncIterator[int], nursery: trio.Nursery
    ) -> None:
        """Stop at the first signal; at the second, wait for nothing any more."""
        async for number in signals:
            if number == signal.SIGHUP and self.config.reloads:
                self._policy.reload()
                continue
            self._log.info("%s: stopping", signal.Signals(number).name)
            if self._stopping:
                nursery.cancel_scope.cancel()
            self.stop()


async def run(config: HostConfig) -> None:
    """Run a proxy until it is stopped.

    Raises:
        HostError: it cannot go on; with the remedy.
    """
    raise_fd_limit()
    await Server(config, confined=confine(config, VmLog(config.name))).run()


def _stop_signals() -> list[signal.Signals]:
    """List what is to end the proxy: not what its parent (nohup) has it ignore."""
    ignored = signal.SIG_IGN
    return [each for each in STOP_SIGNALS if signal.getsignal(each) != ignored]
