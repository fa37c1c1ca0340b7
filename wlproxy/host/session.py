"""One session with a guest: the relay, the tasks of its clients, and what joins them.

What comes in, from the channel and the compositor, goes to the core (`conductor`) in
turns that are short, so that nobody waits for somebody who has much to do.  No nursery
here: `server` starts the tasks and decides what follows when the session is over.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from wlproxy.host.client import HostClient
from wlproxy.host.conductor import Conductor
from wlproxy.host.connections import Connections
from wlproxy.host.desktop.udmabuf import UdmabufDevice
from wlproxy.host.errors import HostError
from wlproxy.host.executor import Executor
from wlproxy.host.link import (
    GOODBYE_SECONDS,
    Channel,
    ChannelGoneError,
    Goodbyed,
)
from wlproxy.host.locates import Locates
from wlproxy.host.outgoing import Outgoing
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.streams import Streams
from wlproxy.protocol.channel.flow import cost
from wlproxy.protocol.channel.frames import (
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseReason,
    Credit,
    Data,
    Frame,
    Goodbye,
    Located,
    Ping,
    Pong,
    Released,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError, RemoteProtocolError, WlproxyError
from wlproxy.protocol.snapshot import Plain
from wlproxy.relay.buffers.surfaces import SurfaceStatus
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import CloseClient, CreateUdmabuf
from wlproxy.relay.holdings import Holdings
from wlproxy.relay.inputs import (
    CompositorAway,
    CompositorFound,
    Input,
    RequestsTurn,
    SessionEnded,
    client_of,
)
from wlproxy.relay.relay import Relay
from wlproxy.transport.fd_stream import FdStream

if TYPE_CHECKING:
    from wlproxy.transport.fds import OwnedFd

PING_INTERVAL = 5.0
"""Seconds between pings; an agent that leaves one unanswered that long is reported."""

MAX_HELD_CLIENTS = 1024
"""Clients including those that the compositor still holds.  An agent that opens and
closes faster than the compositor lets go breaks the session, not the host."""

MAX_EARLY = 1 << 20
"""Bytes of frames about a client's streams that wait for the requests which make them.
Those tell that a pipe is closed: there is no request to have the compositor read one."""

FRAMES_PER_WRITE = 64

FRAMES_PER_TURN = 16
"""Frames that are taken from the channel before others have their turn."""


class Session:
    """A proven session: relays until something ends it."""

    def __init__(
        self,
        *,
        channel: Channel,
        relay: Relay,
        ram: GuestRam,
        device: UdmabufDevice | None,
        metrics: Metrics,
        log: VmLog,
        connect: Callable[[], Awaitable[FdStream]],
        nursery: trio.Nursery,
    ) -> None:
        """Nothing runs yet.

        Args:
            channel: established, its RAM proved.
            relay: the core, fresh.
            ram: the guest's; stays open for longer than the session.
            device: /dev/udmabuf, or None.
            metrics: counted into.
            log: written to.
            connect: makes a connection to the compositor.
            nursery: where the tasks of the clients run.
        """
        self.scope = trio.CancelScope()
        """Around `run_reader`; cancelled when the session is over."""
        self.cause: WlproxyError | None = None
        """What ended it; None if it was ended from outside."""
        self._channel = channel
        self._relay = relay
        self._metrics = metrics
        self._log = log
        self._nursery = nursery
        ack = channel.agent
        self._outgoing = Outgoing(ack.client_window, ack.stream_window)
        self._streams = Streams(self._outgoing, self._start, log)
        self._executor = Executor(
            self._outgoing,
            self._streams,
            ram,
            device,
            metrics,
            log,
            self._start_client,
        )
        self._locates = Locates()
        self._conductor = Conductor(
            relay,
            self._executor,
            metrics,
            log,
            sent=self._locates.sent,
            make_slowly=self._start_slowly,
            lost=self.lost,
        )
        self._connections = Connections(
            connect=connect,
            relay=relay,
            conductor=self._conductor,
            executor=self._executor,
            outgoing=self._outgoing,
            log=log,
            feed=self._feed,
            start=self._start,
            watch=self._watch,
            gone=self._client_is_gone,
        )
        self._writer_scope = trio.CancelScope()
        self._writer_ended = trio.Event()
        self._pinger_scope = trio.CancelScope()
        self._turns_scope = trio.CancelScope()
        self._client_gone = trio.lowlevel.ParkingLot()
        self._pings = channel.pings
        self._last_opened = 0
        self._silent = False
        self._measure_clock()

    @property
    def clients(self) -> list[HostClient]:
        """The clients, closed ones included that the compositor still holds."""
        return list(self._executor.clients.values())

    @property
    def open_handles(self) -> int:
        """How many fds the core has names for."""
        return len(self._executor.handles)

    @property
    def _listening(self) -> bool:
        """Whether the agent takes frames, as far as we know."""
        gone = isinstance(self.cause, ChannelGoneError)
        return self._channel.established and not gone

    def clock(self) -> dict[str, int] | None:
        """Say how far the guest's clock is ahead of ours; None if that is not known."""
        clock = self._relay.clock
        if not clock.known:
            return None
        error = clock.error(time.monotonic_ns())
        return {"offset_ns": clock.offset, "error_ns": error}

    def stream_count(self, client_id: int) -> int:
        """How many streams a client has."""
        return self._streams.count(client_id)

    def surfaces(self) -> list[SurfaceStatus]:
        """Say how each surface is doing."""
        return self._relay.surfaces()

    def holdings(self) -> Holdings:
        """Say what the core keeps, of whom."""
        return self._relay.holdings()

    def dump(self) -> dict[str, Plain]:
        """Say all that the core knows, but of bytes only how many there are."""
        return {"relay": self._relay.snapshot(lengths=True)}

    def use_desktop(
        self, device: UdmabufDevice | None, capabilities: CompositorCapabilities
    ) -> None:
        """The host can do this from now on: for clients that wait, and those to come."""
        self._executor.use_device(device)
        try:
            self._feed(CompositorFound(capabilities))
        except RemoteProtocolError as exc:
            self.lost(exc)

    def compositor_away(self) -> None:
        """Clients that come from now on wait for `use_desktop`."""
        self._feed(CompositorAway())

    def lost(self, cause: WlproxyError | None) -> None:
        """Something ended the session: stop reading.  The first cause counts."""
        if not self.scope.cancel_called:
            self.cause = cause
            self.scope.cancel()
            if not self._listening:
                self._writer_scope.cancel()

    async def run(self, early: Sequence[Frame]) -> None:
        """Serve the guest until something ends the session; then `end` it.

        Args:
            early: frames that came while the RAM was being proved.
        """
        for run in (self._run_writer, self._run_pinger, self._run_turns):
            self._start(0, run)
        with self.scope:
            await self._watch(0, partial(self._read_channel, early))

    def end(self, reason: CloseReason, message: str) -> None:
        """Close every client.  Their tasks end by themselves, within seconds."""
        self._pinger_scope.cancel()
        self._turns_scope.cancel()
        self._feed(SessionEnded(reason, message))
        self._streams.close()
        for client in self.clients:
            close = CloseClient(client.client_id, reason, message)
            self._executor.close_client(close)  # if the core knew it no more
            client.queue.drop_data()  # nothing is worth waiting for any more
        if not self._listening:  # wait for nothing but the compositor
            self._writer_scope.cancel()
            self._outgoing.close()

    async def wait_let_go(self) -> None:
        """Wait until the compositor has let go of every client, or long enough."""
        while self._executor.clients:
            await self._client_gone.park()

    async def say_goodbye(self, reason: CloseReason, message: str) -> None:
        """Send what may still leave, then `Goodbye`, if anyone listens.

        Once `end` was called and the tasks of the clients have ended.
        """
        self._writer_scope.cancel()
        if not self._listening:
            return
        await self._writer_ended.wait()
        with trio.move_on_after(GOODBYE_SECONDS):
            try:
                await self._channel.send(self._outgoing.take(FRAMES_PER_WRITE))
            except (ChannelGoneError, ChannelError) as exc:
                self._log.debug("no last frames: %s", exc)
                return
        await self._channel.say_goodbye(reason, message)

    def close(self) -> None:
        """Close and unmap everything."""
        self._writer_scope.cancel()
        self._pinger_scope.cancel()
        self._turns_scope.cancel()
        self._outgoing.close()
        self._executor.close()

    def receive(self, frame: Frame) -> None:
        """Take a frame from the guest.

        Raises:
            RemoteProtocolError: the agent broke the protocol, or said goodbye.
        """
        self._outgoing.check_read()
        client_id = getattr(frame, "client_id", 0)
        if client_id > self._last_opened and not isinstance(frame, ClientOpened):
            raise ChannelError(f"client {client_id} was never opened")
        try:
            self._take(frame)
        except RemoteProtocolError:
            raise
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            self._conductor.meet_bug(client_id, exc)

    async def _read_channel(self, early: Sequence[Frame]) -> None:
        """Take what the guest sends; others have their turns in between."""
        frames = early
        while True:
            for number, frame in enumerate(frames, 1):
                self.receive(frame)
                if not number % FRAMES_PER_TURN:
                    await trio.lowlevel.checkpoint()
            frames = await self._channel.receive()

    def _take(self, frame: Frame) -> None:
        match frame:
            case ClientOpened():
                self._open(frame)
            case Data() | ClientClosed() | Located() | Released():
                self._receive_for_relay(frame)
            case StreamData() | StreamClosed():
                self._receive_stream(frame)
            case Credit():
                self._outgoing.receive_credit(frame)
            case Ping(timestamp=timestamp):
                self._outgoing.put(Pong(timestamp))
            case Pong():
                self._receive_pong(frame)
            case Goodbye(message=message):
                raise Goodbyed(f"the guest agent ended the session: {message}")
            case _:
                raise ChannelError(f"{type(frame).__name__} out of place")

    def _receive_for_relay(
        self, frame: Data | ClientClosed | Located | Released
    ) -> None:
        if isinstance(frame, Located) and not self._locates.answered(frame):
            if release := self._locates.let_go(frame):
                self._outgoing.put(release)
            return
        client = self._executor.clients.get(frame.client_id)
        if isinstance(frame, Data):
            self._receive_data(frame, client)
        self._feed(frame)
        if isinstance(frame, ClientClosed) and client is not None:
            client.queue.drop_data()  # the agent ignores data from now on

    def _receive_data(self, frame: Data, client: HostClient | None) -> None:
        """Count what a client sent, and note its streams: each has a sender who waits."""
        if client is not None:
            client.window.received(cost(frame))
        for attachment in frame.attachments:
            if attachment.kind is not AttachmentKind.STREAM:
                continue
            if client is None or client.closed:
                self._streams.refuse(frame.client_id, attachment.object_id)
            else:
                client.unclaimed.add(attachment.object_id)

    def _open(self, frame: ClientOpened) -> None:
        client_id = frame.client_id
        if client_id <= self._last_opened:
            raise ChannelError(f"client id {client_id} is used again")
        if len(self._executor.clients) >= MAX_HELD_CLIENTS:
            raise ChannelError(f"over {MAX_HELD_CLIENTS} clients opened")
        self._last_opened = client_id
        queue = self._outgoing.open_client(client_id)
        self._executor.clients[client_id] = HostClient(
            client_id, frame.executable, queue
        )
        self._metrics.clients += 1
        self._feed(frame)

    def _receive_stream(self, frame: StreamData | StreamClosed) -> None:
        client = self._executor.clients.get(frame.client_id)
        if client is None or client.closed:
            self._streams.receive(frame)
            return
        client.receive_stream(frame)
        wait = self._relay.fds_wait(client.client_id)
        client.pass_on(self._streams, wait=wait)
        if client.early_bytes > MAX_EARLY:
            limit = CloseReason.LIMIT_EXCEEDED
            self._conductor.end_client(client.client_id, limit, "too much in its pipes")

    def _feed(self, given: Input) -> None:
        """Give the core an input, as `Conductor.feed`, and streams what waited for it."""
        self._conductor.feed(given)
        client_id = client_of(given)
        client = self._executor.clients.get(client_id)
        if client is not None and client.early_bytes:
            client.pass_on(self._streams, wait=self._relay.fds_wait(client_id))

    async def _run_turns(self) -> None:
        """Handle the requests of clients, a few of each in turn."""
        with self._turns_scope:
            while True:
                client_id = await self._conductor.turns.next()
                self._feed(RequestsTurn(client_id))

    def _start_slowly(self, command: CreateUdmabuf) -> None:
        self._start(command.client_id, partial(self._create_slowly, command))

    async def _create_slowly(self, command: CreateUdmabuf) -> None:
        made: OwnedFd | HostError = HostError("there is no dma-buf")
        try:
            made = await trio.to_thread.run_sync(self._executor.create_slowly, command)
        finally:
            answer = self._executor.finish_udmabuf(command, made)
        if answer is not None:
            self._feed(answer)

    def _start(self, client_id: int, run: Callable[[], Awaitable[None]]) -> None:
        """Start a task of a client, or of the session (0)."""
        self._nursery.start_soon(self._watch, client_id, run)

    async def _watch(self, client_id: int, run: Callable[[], Awaitable[None]]) -> None:
        """Run a task: whatever goes wrong in it does not end the process."""
        try:
            await run()
        except (RemoteProtocolError, ChannelGoneError) as exc:
            self.lost(exc)
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            self._conductor.meet_bug(client_id, exc)

    def _start_client(self, client: HostClient) -> None:
        self._connections.start(client)

    def _client_is_gone(self, client_id: int) -> None:
        self._locates.forget_client(client_id)
        self._client_gone.unpark_all()

    async def _run_writer(self) -> None:
        try:
            with self._writer_scope:
                await self._write()
        finally:
            self._writer_ended.set()

    async def _write(self) -> None:
        """Write what waits for the guest, as long as it listens."""
        while True:
            await self._outgoing.wait_work()
            frames = self._outgoing.take(FRAMES_PER_WRITE)
            if not self._listening:
                return
            if frames:
                await self._channel.send(frames)

    async def _run_pinger(self) -> None:
        with self._pinger_scope:
            while True:
                await trio.sleep(PING_INTERVAL)
                self._pings.begin_row()
                if not self._pings.unanswered:
                    self._give_up_locates()
                    self._outgoing.put(self._pings.ask())
                elif not self._silent:
                    self._silent = True
                    self._log.warning("the guest agent does not answer")

    def _give_up_locates(self) -> None:
        """Let clients go on that wait for an answer which does not come."""
        for failed in self._locates.turn():
            self._log.warning(
                "client %d: the guest agent does not say where a buffer is",
                failed.client_id,
            )
            try:
                self._feed(failed)
            except RemoteProtocolError as exc:
                self.lost(exc)

    def _receive_pong(self, pong: Pong) -> None:
        self._pings.take(pong)
        self._measure_clock()
        if pong.clock and not (self._relay.clock.settled or self._pings.settled):
            self._outgoing.put(self._pings.ask())
        if self._silent:
            self._silent = False
            self._log.info("the guest agent answers again")

    def _measure_clock(self) -> None:
        samples, self._pings.samples = self._pings.samples, []
        for sample in samples:
            self._feed(sample)
