"""Who runs, and what ends what: the only module with nurseries.

Sessions follow each other on a channel, channels follow each other as QEMU comes and
goes, and the compositor may be restarted meanwhile.  A peer that breaks the rules ends
its session; an exception that nobody expected ends the process.
"""

import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import partial
from typing import Protocol, TypeVar

import trio

from wlproxy import __version__
from wlproxy.host.channel import (
    Channel,
    ChannelGoneError,
    Goodbyed,
    connect_channel,
)
from wlproxy.host.client import HostClient
from wlproxy.host.config import HostConfig
from wlproxy.host.desktop import Desktop, prepare_when_back
from wlproxy.host.devices import DeviceWatch
from wlproxy.host.errors import GuestRamError, GuestRamNotSharedError, HostError
from wlproxy.host.fds import fds_for_buffers, raise_fd_limit
from wlproxy.host.guest_ram import GuestRam, open_guest_ram, peer_pid
from wlproxy.host.metrics import Metrics
from wlproxy.host.notify import notify
from wlproxy.host.session import RelayCore, Session
from wlproxy.host.status import Json, StatusSocket, listen_status, serve_status
from wlproxy.host.unix_socket import FdStream
from wlproxy.host.vm_log import VmLog
from wlproxy.protocol.channel.frames import CloseReason, Feature, Frame, HelloAck
from wlproxy.protocol.channel.session import SessionLost
from wlproxy.protocol.errors import RemoteProtocolError, WlproxyError
from wlproxy.relay.context import RelayConfig
from wlproxy.relay.formats import drm_format
from wlproxy.relay.presentation import CompositorCapabilities
from wlproxy.relay.relay import Relay

FIRST_PAUSE, LAST_PAUSE = 0.1, 10.0
"""Seconds between sessions that fail at once: doubled from the first to the last."""

LASTING = 5.0
"""Seconds after which a session did not fail at once."""

REFUSE_SECONDS = 3.0
"""For an agent to come and hear why it is refused."""

RAM_PATIENCE, RAM_RETRY = 3.0, 0.2
"""Seconds for a QEMU that listens to have its RAM, too; and between looks for it."""

COMPOSITOR_RETRY = 1.0
"""Seconds between looks for a compositor that has gone."""


_T = TypeVar("_T")


class State(Enum):
    """What the proxy is doing."""

    STARTING = "starting"
    WAITING_FOR_QEMU = "waiting for QEMU"
    WAITING_FOR_AGENT = "waiting for the guest agent"
    PROVING_RAM = "proving the guest's RAM"
    SERVING = "serving"
    PAUSING = "pausing before the next session"
    STOPPING = "stopping"


class CompositorRestarted(WlproxyError):  # noqa: N818 - an event more than an error
    """Its abilities may be others now: the session starts over."""


class RamProvider(Protocol):
    """Finds the RAM of the guest at the other end of a channel."""

    def __call__(self, stream: FdStream) -> GuestRam:
        """Find it.  Blocks.

        Raises:
            HostError: it cannot be had; with the remedy.
        """


@dataclass(frozen=True, slots=True)
class QemuRam:
    """The usual provider: RAM of the QEMU process that made the socket."""

    config: HostConfig

    def __call__(self, stream: FdStream) -> GuestRam:
        """As `RamProvider`."""
        pid = self.config.qemu_pid
        if pid is None:
            pid = peer_pid(stream.socket)
        return open_guest_ram(pid, self.config.qmp)


class Server:
    """One proxy for one VM."""

    def __init__(
        self,
        config: HostConfig,
        *,
        desktop: Desktop | None = None,
        provide_ram: RamProvider | None = None,
        make_relay: Callable[[RelayConfig, GuestRam, CompositorCapabilities], RelayCore]
        | None = None,
    ) -> None:
        """Nothing runs yet.

        Args:
            config: the user's.
            desktop: the compositor; by default the one that `config` says.
            provide_ram: finds guest RAM; by default in QEMU's process.
            make_relay: makes the core of a session; the agent has its say in the config.

        Raises:
            NoCompositorError: the environment does not tell where the compositor is.
        """
        self.config = config
        self.metrics = Metrics()
        self.state = State.STARTING
        self._log = VmLog(config.name)
        self._desktop = desktop or Desktop(config.name, config.display, self._log)
        self._provide_ram = provide_ram or QemuRam(config)
        self._make_relay = make_relay or self._relay
        self._session: Session | None = None
        self._agent = ""
        self._stopping = False
        self._failure: HostError | None = None
        self._interruptible: trio.CancelScope | None = None
        self._pause = FIRST_PAUSE
        self._started = 0.0

    async def run(self) -> None:
        """Serve until stopped, or once if so configured.

        Raises:
            HostError: it cannot go on; with the remedy.
        """
        self._started = trio.current_time()
        status = listen_status(self.config.status) if self.config.status else None
        try:
            await self._desktop.prepare()
            async with trio.open_nursery() as nursery:
                if status is not None:
                    nursery.start_soon(self._serve_status, status)
                nursery.start_soon(self._watch_signals, nursery)
                nursery.start_soon(self._watch_compositor)
                nursery.start_soon(self._watch_devices)
                notify("READY=1")
                await self._serve()
                nursery.cancel_scope.cancel()
        finally:
            self._desktop.close()
            if status is not None:
                status.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End cleanly: close every client, say goodbye, return from `run`."""
        self._stopping = True
        if self._session is not None:
            self._session.lost(None)
        if self._interruptible is not None:
            self._interruptible.cancel()

    def snapshot(self) -> Json:
        """Say how everything is, for the status socket."""
        session = self._session
        metrics = self.metrics.totals()
        metrics["open_fds"] = session.open_handles if session else 0
        return {
            "version": __version__,
            "name": self.config.name,
            "state": self.state.value,
            "agent": self._agent,
            "uptime": trio.current_time() - self._started,
            "compositor": str(self._desktop.path),
            "isolated": self._desktop.isolated,
            "capabilities": _capabilities(self._desktop.capabilities),
            "clients": [self._client(client) for client in session.clients]
            if session
            else [],
            "surfaces": [asdict(surface) for surface in session.surfaces()]
            if session
            else [],
            "metrics": metrics,
        }

    def _client(self, client: HostClient) -> Json:
        return {
            "client_id": client.client_id,
            "label": client.label,
            "closing": client.closed is not None,
            "streams": len(client.streams),
            "bytes_to_compositor": client.to_compositor.unsent_bytes,
            "bytes_held": client.window.held,
            "credit_from_guest": client.queue.window.available,
            "pixel_bytes_copied": self.metrics.client_pixel_bytes[client.client_id],
        }

    def _relay(
        self, config: RelayConfig, ram: GuestRam, capabilities: CompositorCapabilities
    ) -> RelayCore:
        return Relay(
            config,
            ram.memory,
            capabilities,
            self.config.max_clients,
            fds_for_buffers(),
        )

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
                self.state = State.WAITING_FOR_QEMU
                stream = await self._unless_stopped(
                    partial(connect_channel, self.config.channel, self._log)
                )
                if stream is None:
                    break
                async with stream:
                    await self._serve_channel(Channel(stream, self.metrics))
                if self.config.once:
                    break
                if not self._stopping:
                    await self._wait_a_little()
        except HostError as exc:
            self._failure = exc
        self.state = State.STOPPING

    async def _serve_channel(self, channel: Channel) -> None:
        """Serve one session after the other, until QEMU closes the channel.

        Raises:
            HostError: the RAM of this QEMU cannot be had.
        """
        self._log.info("connected to %s", self.config.channel)
        try:
            ram = await self._find_ram(channel.stream)
        except HostError as exc:
            await self._refuse(channel, exc)
            raise
        self._log.info("guest RAM: %d MiB, map %s", ram.memory.size >> 20, ram.layout)
        try:
            while not self._stopping and await self._serve_session(channel, ram):
                pass
        finally:
            ram.close()

    async def _find_ram(self, stream: FdStream) -> GuestRam:
        # A QEMU that has just been started makes its sockets first: it has no RAM yet, or
        # has made the file and not mapped it.
        deadline = trio.current_time() + RAM_PATIENCE
        while True:
            try:
                return await trio.to_thread.run_sync(self._provide_ram, stream)
            except GuestRamNotSharedError:
                if trio.current_time() >= deadline:
                    raise
            await trio.sleep(RAM_RETRY)

    async def _serve_session(self, channel: Channel, ram: GuestRam) -> bool:
        """Serve one session; tell if another may follow on this channel."""
        began = trio.current_time()
        try:
            early = await self._unless_stopped(partial(self._begin, channel, ram))
            if early is None:
                await channel.say_goodbye(*_farewell(None))
                return False
            cause = await self._run_session(channel, ram, early)
        except (RemoteProtocolError, GuestRamError) as exc:
            if self.config.once and isinstance(exc, GuestRamError):
                await self._say_no(channel, exc)
                raise
            cause = exc
            await self._say_no(channel, exc)
        except ChannelGoneError as exc:
            cause = exc
        if cause is None or isinstance(cause, ChannelGoneError):
            if cause is not None:
                self._log.warning("%s", cause)
            return False
        self._log.log(_severity(cause), "the session ended: %s", cause)
        if trio.current_time() - began >= LASTING:
            self._pause = FIRST_PAUSE
        if not isinstance(cause, CompositorRestarted):
            await self._wait_a_little()
        return True

    async def _begin(self, channel: Channel, ram: GuestRam) -> list[Frame]:
        """Establish a session and prove the RAM; return early frames."""
        self.state = State.WAITING_FOR_AGENT
        self._log.info("waiting for the guest agent")
        ack = await channel.establish(self.config.max_clients)
        self._agent = ack.agent
        self.state = State.PROVING_RAM
        early = await channel.prove_ram(ram)
        self._log.info("guest agent %s: its RAM is proved, serving", ack.agent)
        return early

    async def _run_session(
        self, channel: Channel, ram: GuestRam, early: Sequence[Frame]
    ) -> WlproxyError | None:
        """Run a session to its end; return what ended it, None if we did."""
        self.metrics.sessions += 1
        self.metrics.client_pixel_bytes.clear()
        async with trio.open_nursery() as nursery:
            session = Session(
                channel=channel,
                relay=self._make_relay(
                    _told(self.config.relay, channel.agent),
                    ram,
                    self._desktop.capabilities,
                ),
                ram=ram,
                device=self._desktop.device,
                metrics=self.metrics,
                log=self._log,
                connect=self._desktop.connect,
                nursery=nursery,
            )
            try:
                self._session = session
                self.state = State.SERVING
                if self._stopping:
                    session.lost(None)
                await session.run(early)
                reason, message = _farewell(session.cause)
                session.end(reason, message)
                await session.wait_let_go()
                await session.say_goodbye(reason, message)
            finally:
                self._session = None
                self._agent = ""
                session.close()
        return session.cause

    async def _refuse(self, channel: Channel, why: HostError) -> None:
        """Tell an agent why there will be no session, if one is there."""
        self.state = State.WAITING_FOR_AGENT
        establish = partial(channel.establish, self.config.max_clients)
        with (
            suppress(HostError, RemoteProtocolError),
            trio.move_on_after(REFUSE_SECONDS),
        ):
            await self._unless_stopped(establish)
        await self._say_no(channel, why)

    async def _say_no(self, channel: Channel, why: WlproxyError) -> None:
        """End a session that has not begun properly, or is none any more."""
        if isinstance(why, HostError):
            await channel.say_goodbye(CloseReason.REFUSED, str(why))
        else:
            await channel.say_goodbye(CloseReason.PROTOCOL_ERROR, str(why))

    async def _wait_a_little(self) -> None:
        self.state = State.PAUSING
        await self._unless_stopped(partial(trio.sleep, self._pause))
        self._pause = min(2 * self._pause, LAST_PAUSE)

    async def _serve_status(self, sock: StatusSocket) -> None:
        await serve_status(sock, self.snapshot)

    async def _watch_signals(self, nursery: trio.Nursery) -> None:
        """Stop at the first signal; at the second, wait for nothing any more."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self._log.info("%s: stopping", signal.Signals(number).name)
                if self._stopping:
                    nursery.cancel_scope.cancel()
                self.stop()

    async def _watch_compositor(self) -> None:
        """Notice that the compositor ends, and look anew at the one that follows."""
        while True:
            await self._desktop.wait_gone()
            self._log.warning("the compositor has gone; waiting for it")
            await prepare_when_back(self._desktop, COMPOSITOR_RETRY)
            self._log.info("the compositor is back")
            if self._session is not None:
                self._session.lost(CompositorRestarted("the compositor was restarted"))

    async def _watch_devices(self) -> None:
        """Notice that /dev/udmabuf comes, or that we may use it at last."""
        try:
            watch = DeviceWatch()
        except (ImportError, OSError) as exc:
            self._log.info("/dev/udmabuf is only looked for at the start: %s", exc)
            return
        desktop = self._desktop
        while desktop.device is None:
            await watch.wait()
            with suppress(HostError):
                if await desktop.find_device() and self._session is not None:
                    self._session.use_desktop(desktop.device, desktop.capabilities)


async def run(config: HostConfig) -> None:
    """Run a proxy until it is stopped.

    Raises:
        HostError: it cannot go on; with the remedy.
    """
    raise_fd_limit()
    await Server(config).run()


def _farewell(cause: WlproxyError | None) -> tuple[CloseReason, str]:
    """Say to the guest and its clients what ended the session."""
    match cause:
        case None:
            return CloseReason.NORMAL, "the host's proxy was stopped"
        case CompositorRestarted():
            return CloseReason.COMPOSITOR_GONE, str(cause)
        case RemoteProtocolError():
            return CloseReason.PROTOCOL_ERROR, str(cause)
        case _:
            return CloseReason.FAILED, str(cause)


def _severity(cause: WlproxyError) -> int:
    """An agent that is restarted is nothing to worry about."""
    harmless = isinstance(cause, SessionLost | Goodbyed | CompositorRestarted)
    return logging.INFO if harmless else logging.ERROR


def _told(config: RelayConfig, agent: HelloAck) -> RelayConfig:
    """Add what an agent says of its guest's dma-bufs, if it can locate any."""
    if Feature.LOCATE_DMABUF not in agent.features:
        return config
    implicit_linear = Feature.IMPLICIT_LINEAR in agent.features
    return replace(
        config, main_device=agent.main_device, implicit_linear=implicit_linear
    )


def _capabilities(capabilities: CompositorCapabilities) -> Json:
    """Make a document of what the compositor accepts."""
    return {
        "shm_udmabuf": capabilities.shm_udmabuf,
        "shm_udmabuf_reason": capabilities.shm_udmabuf_reason,
        "dmabuf_stride_alignment": {
            fourcc.to_bytes(4, "little").decode(errors="replace"): alignment
            for fourcc, alignment in capabilities.dmabuf_stride_alignment.items()
        },
        "dmabuf_reason": capabilities.dmabuf_reason,
        "shm_formats": tuple(
            drm_format(each).to_bytes(4, "little").decode(errors="replace")
            for each in sorted(capabilities.shm_formats)
        ),
        "udmabuf_list_limit": capabilities.udmabuf_list_limit,
        "udmabuf_size_limit": capabilities.udmabuf_size_limit,
        "globals": dict(capabilities.global_versions),
    }
