"""One session with a guest: the relay, the tasks of its clients, and what joins them.

Inputs go into the relay, its commands to the executor, and the executor's answers back
into the relay, until nothing is left to do.  No nursery here: `server` starts the tasks
and decides what follows when the session is over.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from wlproxy.host.channel import (
    GOODBYE_SECONDS,
    Channel,
    ChannelGoneError,
    Goodbyed,
)
from wlproxy.host.client import HostClient
from wlproxy.host.errors import FdsLostError, HostError
from wlproxy.host.executor import (
    Answer,
    BufferCreated,
    BufferFailed,
    ClientFailed,
    Executor,
    Slow,
)
from wlproxy.host.guest_ram import GuestRam
from wlproxy.host.metrics import Metrics
from wlproxy.host.outgoing import Outgoing
from wlproxy.host.pixels import Copy
from wlproxy.host.streams import Streams
from wlproxy.host.udmabuf import UdmabufDevice
from wlproxy.host.unix_socket import FdStream
from wlproxy.host.vm_log import VmLog
from wlproxy.protocol.channel.flow import cost
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    ClientReleased,
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
from wlproxy.relay.commands import Command, CreateUdmabuf
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.presentation import CompositorCapabilities
from wlproxy.relay.surfaces import SurfaceStatus

PING_INTERVAL = 5.0
"""Seconds between pings; an agent that leaves one unanswered that long is reported."""

LET_GO_SECONDS = 5.0
"""For the compositor to close a connection that we have shut down, and for the guest to
take a closed client's last data."""

MAX_HELD_CLIENTS = 1024
"""Clients including those that the compositor still holds.  An agent that opens and
closes faster than the compositor lets go breaks the session, not the host."""

COMPOSITOR_READ = 32 * 1024
"""Bytes read from the compositor at once."""

MAX_UNSENT = 1 << 20
"""While so many bytes wait for a compositor, its events wait too."""

MAX_UNREAD = 1 << 20
"""Bytes of events that an app may have us keep for it.  The compositor's wait for it to
read, but what we answer ourselves would not; libwayland, too, ends who does not read."""

FRAMES_PER_WRITE = 64


class RelayCore(Protocol):
    """`relay.Relay`, as far as it is used here."""

    def receive_frame(self, frame: Frame) -> list[Command]: ...  # noqa: D102
    def receive_from_compositor(  # noqa: D102
        self, client_id: int, data: bytes, fds: Sequence[ReceivedFd]
    ) -> list[Command]: ...
    def compositor_closed(  # noqa: D102
        self, client_id: int, message: str
    ) -> list[Command]: ...
    def client_failed(  # noqa: D102
        self, client_id: int, reason: CloseReason, message: str
    ) -> list[Command]: ...
    def buffer_created(  # noqa: D102
        self, client_id: int, handle: Handle
    ) -> list[Command]: ...
    def buffer_failed(  # noqa: D102
        self, client_id: int, handle: Handle, error: int, message: str
    ) -> list[Command]: ...
    def copied(  # noqa: D102
        self, client_id: int, handle: Handle, amount: int
    ) -> None: ...
    def use_capabilities(  # noqa: D102
        self, capabilities: CompositorCapabilities
    ) -> None: ...
    def end(self, reason: CloseReason, message: str) -> list[Command]: ...  # noqa: D102
    def surfaces(self) -> list[SurfaceStatus]: ...  # noqa: D102


class Session:
    """A proven session: relays until something ends it."""

    def __init__(
        self,
        *,
        channel: Channel,
        relay: RelayCore,
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
        self._connect = connect
        self._nursery = nursery
        ack = channel.agent
        self._outgoing = Outgoing(ack.client_window, ack.stream_window)
        self._executor = Executor(
            self._outgoing, ram, device, metrics, log, self._start_client
        )
        self._writer_scope = trio.CancelScope()
        self._writer_ended = trio.Event()
        self._pinger_scope = trio.CancelScope()
        self._client_gone = trio.lowlevel.ParkingLot()
        self._unanswered: int | None = None
        self._silent = False

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

    def surfaces(self) -> list[SurfaceStatus]:
        """Say how each surface is doing."""
        return self._relay.surfaces()

    def use_desktop(
        self, device: UdmabufDevice | None, capabilities: CompositorCapabilities
    ) -> None:
        """The host can do more than before: clients that come from now on profit."""
        self._executor.use_device(device)
        self._relay.use_capabilities(capabilities)

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
        self._nursery.start_soon(self._run_writer)
        self._nursery.start_soon(self._run_pinger)
        with self.scope:
            try:
                for frame in early:
                    self.receive(frame)
                while True:
                    for frame in await self._channel.receive():
                        self.receive(frame)
            except (RemoteProtocolError, ChannelGoneError) as exc:
                self.lost(exc)

    def end(self, reason: CloseReason, message: str) -> None:
        """Close every client.  Their tasks end by themselves, within seconds."""
        self._pinger_scope.cancel()
        self._feed(self._relay.end(reason, message))
        for client in self.clients:
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
        self._outgoing.close()
        self._executor.close()

    def receive(self, frame: Frame) -> None:
        """Take a frame from the guest.

        Raises:
            RemoteProtocolError: the agent broke the protocol, or said goodbye.
        """
        self._outgoing.check_read()
        match frame:
            case Data() | ClientOpened() | ClientClosed() | Located() | Released():
                self._receive_for_relay(frame)
            case StreamData() | StreamClosed():
                self._receive_stream(frame)
            case Credit():
                self._outgoing.receive_credit(frame)
            case Ping(timestamp=timestamp):
                self._outgoing.put(Pong(timestamp))
            case Pong(timestamp=timestamp):
                self._receive_pong(timestamp)
            case Goodbye(message=message):
                raise Goodbyed(f"the guest agent ended the session: {message}")
            case _:
                raise ChannelError(f"{type(frame).__name__} out of place")

    def _receive_for_relay(
        self, frame: Data | ClientOpened | ClientClosed | Located | Released
    ) -> None:
        if isinstance(frame, ClientOpened):
            self._open(frame)
        client = self._executor.clients.get(frame.client_id)
        if isinstance(frame, Data) and client is not None:
            client.window.received(cost(frame))
        self._feed(self._relay.receive_frame(frame))
        if client is not None and client.queue.unread_bytes > MAX_UNREAD:
            reason, message = CloseReason.LIMIT_EXCEEDED, "it does not read its events"
            self._feed(self._relay.client_failed(client.client_id, reason, message))
        if isinstance(frame, ClientClosed) and client is not None:
            client.queue.drop_data()  # the agent ignores data from now on

    def _open(self, frame: ClientOpened) -> None:
        client_id = frame.client_id
        if len(self._executor.clients) >= MAX_HELD_CLIENTS:
            raise ChannelError(f"over {MAX_HELD_CLIENTS} clients opened")
        if client_id not in self._executor.clients:
            queue = self._outgoing.open_client(client_id)
            streams = Streams(client_id, self._outgoing, self._nursery.start_soon)
            self._executor.clients[client_id] = HostClient(
                client_id, frame.executable, queue, streams
            )
            self._metrics.clients += 1

    def _receive_stream(self, frame: StreamData | StreamClosed) -> None:
        client = self._executor.clients.get(frame.client_id)
        if client is None or client.closed:
            return
        if isinstance(frame, StreamData):
            client.streams.receive_data(frame)
        else:
            client.streams.receive_closed(frame)

    def _feed(self, commands: Sequence[Command]) -> None:
        """Have commands carried out, and what follows from them."""
        pending = deque(commands)
        while pending:
            match self._executor.execute(pending.popleft()):
                case None:
                    pass
                case Slow(command=command):
                    self._nursery.start_soon(self._create_slowly, command)
                case ClientFailed() as failed:
                    # First of all: what comes after relies on what could not be done.
                    pending.extendleft(reversed(self._answer(failed)))
                case answer:
                    pending += self._answer(answer)

    def _answer(self, answer: Answer) -> list[Command]:
        match answer:
            case BufferCreated(client_id=client_id, handle=handle):
                return self._relay.buffer_created(client_id, handle)
            case BufferFailed(client_id=client_id, handle=handle):
                return self._relay.buffer_failed(
                    client_id, handle, answer.error, answer.message
                )
            case ClientFailed(client_id=client_id):
                return self._relay.client_failed(
                    client_id, answer.reason, answer.message
                )

    async def _create_slowly(self, command: CreateUdmabuf) -> None:
        made = await trio.to_thread.run_sync(self._executor.create_slowly, command)
        answer = self._executor.finish_udmabuf(command, made)
        if answer is None:
            return
        try:
            self._feed(self._answer(answer))
        except RemoteProtocolError as exc:
            self.lost(exc)

    def _start_client(self, client: HostClient) -> None:
        client.running = True
        self._nursery.start_soon(self._run_client, client)

    async def _run_client(self, client: HostClient) -> None:
        """Relay a client's events until it is closed; then let go of it."""
        stream: FdStream | None = None
        try:
            with client.scope:
                try:
                    stream = await self._connect()
                    self._nursery.start_soon(self._write_compositor, client, stream)
                    await self._read_compositor(client, stream)
                except (trio.BrokenResourceError, FdsLostError) as exc:
                    message = f"the connection to the compositor broke: {exc}"
                except HostError as exc:
                    message = exc.problem
                except (
                    RemoteProtocolError
                ) as exc:  # the agent broke it, not this client
                    self.lost(exc)
                    message = str(exc)
                else:
                    message = "the compositor closed the connection"
                self._compositor_closed(client, message)
            if stream is not None:
                stream.shutdown_write()
                if not await stream.wait_closed(LET_GO_SECONDS):
                    self._log.of_client(
                        logging.WARNING,
                        "%s: the compositor does not let go",
                        client.label,
                    )
            if not client.queue.gone:
                with trio.move_on_after(LET_GO_SECONDS):
                    await client.queue.wait_drained()
        finally:
            if stream is not None:
                with trio.CancelScope(shield=True):  # it never waits
                    await stream.aclose()
            with trio.CancelScope(shield=True):  # for no longer than a slice takes
                await client.to_compositor.wait_copied()
            self._let_go(client)

    async def _read_compositor(self, client: HostClient, stream: FdStream) -> None:
        """Relay events until the compositor closes the connection."""
        while True:
            await client.queue.wait_drained()
            await client.to_compositor.wait_below(MAX_UNSENT)
            # No checkpoint from here on: what was received is not lost by cancellation.
            data, fds = await stream.receive(COMPOSITOR_READ)
            if not data:
                for fd in fds:
                    fd.close()
                return
            received = self._executor.receive_fds(client.client_id, fds)
            self._feed(
                self._relay.receive_from_compositor(client.client_id, data, received)
            )

    async def _write_compositor(self, client: HostClient, stream: FdStream) -> None:
        with client.writer_scope:
            try:
                await client.to_compositor.run(
                    stream,
                    lambda copy: self._copy(client, copy),
                    lambda amount: self._grant(client, amount),
                )
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # What the compositor said before it hung up is for the reader to find.
                client.to_compositor.drop()
            except HostError as exc:
                failed = ClientFailed(client.client_id, CloseReason.FAILED, exc.problem)
                self._feed(self._answer(failed))

    async def _copy(self, client: HostClient, copy: Copy) -> None:
        """Carry out a copy, and tell the core what that took.

        Raises:
            HostError: no memory is left.
        """
        while not copy.done:
            copied = await self._executor.copy_some(client, copy)
            self._relay.copied(client.client_id, copy.handle, copied)

    def _grant(self, client: HostClient, amount: int) -> None:
        grant = client.window.consumed(amount)
        if grant:
            self._outgoing.put(Credit(client.client_id, 0, grant))

    def _compositor_closed(self, client: HostClient, message: str) -> None:
        self._log.of_client(logging.INFO, "%s: %s", client.label, message)
        self._feed(self._relay.compositor_closed(client.client_id, message))

    def _let_go(self, client: HostClient) -> None:
        """Nothing reads the client's pages any more: tell the guest, and forget it."""
        client.queue.drop_data()
        self._executor.forget_client(client)
        self._client_gone.unpark_all()
        self._outgoing.put(ClientReleased(client.client_id))

    async def _run_writer(self) -> None:
        try:
            with self._writer_scope:
                await self._write()
        except (ChannelGoneError, ChannelError) as exc:
            self.lost(exc)
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
                if self._unanswered is None:
                    self._unanswered = int(trio.current_time() * 1e9)
                    self._outgoing.put(Ping(self._unanswered))
                elif not self._silent:
                    self._silent = True
                    self._log.warning("the guest agent does not answer")

    def _receive_pong(self, timestamp: int) -> None:
        if timestamp != self._unanswered:
            raise ChannelError("Pong without a Ping")
        self._unanswered = None
        if self._silent:
            self._silent = False
            self._log.info("the guest agent answers again")
