"""One session with a guest: which client each frame is for, and when what follows is sent.

What comes in, from the channel and the compositor, goes to the core (`conductor`) in
steps that are short, so that nobody waits for somebody who has much to do; what a step
has us send leaves at its end, in one go.  What is about one client is in `client`.  No
nursery here: `server` starts the tasks and decides what follows when the session is over.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ParamSpec

import trio

from wlproxy.host.client.asking import Ask, ask_nobody
from wlproxy.host.client.client import Client, ClientContext
from wlproxy.host.client.pixels import PixelCopier
from wlproxy.host.client.streams import Streams
from wlproxy.host.conductor import Conductor
from wlproxy.host.launch.launchers import Launchers
from wlproxy.host.link import GOODBYE_SECONDS, ChannelGoneError, Goodbyed, Link
from wlproxy.host.pages import PageSource
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import (
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
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import STREAM_LIMITS
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Windows
from wlproxy.protocol.errors import ChannelError, RemoteProtocolError, WlproxyError
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import CloseClient
from wlproxy.relay.inputs import (
    CompositorAway,
    CompositorFound,
    Input,
    PolicyChanged,
    RequestsTurn,
    SessionEnded,
)
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.policy_tree import Policy
from wlproxy.relay.relay import Relay
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.lane_tasks import LaneTasks

if TYPE_CHECKING:
    from wlproxy.protocol.notation import Plain

PING_INTERVAL = 5.0
"""Seconds between pings; an agent that leaves one unanswered that long is reported."""

MAX_HELD_CLIENTS = 1024
"""Clients including those that the compositor still holds.  An agent that opens and
closes faster than the compositor lets go breaks the session, not the host."""

MAX_EARLY = 1 << 20
"""Bytes for a client's streams that wait for the requests which make their pipes."""

FRAMES_PER_STEP = 16
"""Frames that are taken from the channel before others have their turn."""

P = ParamSpec("P")


class Session:
    """A proven session: relays until something ends it."""

    def __init__(
        self,
        *,
        link: Link,
        relay: Relay,
        pages: PageSource,
        metrics: Metrics,
        log: VmLog,
        connect: Callable[[], Awaitable[FdStream]],
        nursery: trio.Nursery,
        ask: Ask = ask_nobody,
    ) -> None:
        """Nothing runs yet.

        Args:
            link: established, its RAM proved.
            relay: the core, fresh.
            pages: the guest's; stay open for longer than the session.
            metrics: counted into.
            log: written to.
            connect: makes a connection to the compositor.
            nursery: where the tasks of the clients run.
            ask: asks the user.
        """
        self.scope = trio.CancelScope()
        """Around the reader; cancelled when the session is over."""
        self.cause: WlproxyError | None = None
        """What ended it; None if it was ended from outside."""
        self.relay = relay
        self._link = link
        self._metrics = metrics
        self._log = log
        self._nursery = nursery
        theirs = Windows(link.agent.client_window, link.agent.stream_window)
        lanes = Lanes(Side.HOST, Windows(), theirs, STREAM_LIMITS)
        self._lanes = LaneTasks(lanes, self._flush)
        link.carry(self._lanes)
        self._streams = Streams(self._lanes, self._start, log)
        self.launchers = Launchers(self._lanes, self._streams)
        self._pages = pages
        self._copier = PixelCopier(pages.views())
        self._conductor = Conductor(relay, metrics, log, lost=self.lost)
        self._context = ClientContext(
            relay=relay,
            lanes=self._lanes,
            streams=self._streams,
            pages=pages,
            copier=self._copier,
            metrics=metrics,
            log=log,
            connect=connect,
            feed=self._feed,
            end=self._conductor.end_client,
            start=self._start,
            watch=self._watch,
            gone=self._client_is_gone,
            ask=ask,
        )
        self._steps = 0
        self._writer_scope = trio.CancelScope()
        self._writer_ended = trio.Event()
        self._pinger_scope = trio.CancelScope()
        self._turns_scope = trio.CancelScope()
        self._client_gone = trio.lowlevel.ParkingLot()
        self._pings = link.pings
        self._silent = False
        self._measure_clock()

    @property
    def clients(self) -> list[Client]:
        """The clients, closed ones included that the compositor still holds."""
        return list(self._conductor.clients.values())

    @property
    def open_handles(self) -> int:
        """How many fds the core has names for."""
        return sum(len(client.handles) for client in self.clients)

    @property
    def _listening(self) -> bool:
        """Whether the agent takes frames, as far as we know."""
        gone = isinstance(self.cause, ChannelGoneError)
        return self._link.established and not gone

    def clock(self) -> dict[str, int] | None:
        """Say how far the guest's clock is ahead of ours; None if that is not known."""
        clock = self.relay.clock
        if not clock.known:
            return None
        error = clock.error(time.monotonic_ns())
        return {"offset_ns": clock.offset, "error_ns": error}

    def dump(self) -> dict[str, "Plain"]:
        """Say all that the core knows, but of bytes only how many there are."""
        return {"relay": self.relay.snapshot(lengths=True), "lanes": self._lanes.dump()}

    def ram_shown(self) -> set[int]:
        """Which files of the guest's RAM something is in that is shown, or may be."""
        return self.relay.ram_files()

    def ram_changed(self) -> None:
        """Another map is used from now on, and other files."""
        self._copier.close()

    def use_desktop(self, desktop: CompositorCapabilities) -> None:
        """The host can do this from now on: for clients that wait, and those to come."""
        try:
            self._feed(CompositorFound(self._pages.abilities(desktop)))
        except RemoteProtocolError as exc:
            self.lost(exc)

    def obey(self, policy: Policy, frame: WindowFrame | None) -> None:
        """Go by another policy from now on, and by what it says of frames."""
        self._feed(PolicyChanged(policy, frame))

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

    # ---------------------------------------------------------------- its life

    async def run(self, early: Sequence[Frame]) -> None:
        """Serve the guest until something ends the session; then `end` it.

        Args:
            early: frames that came while the RAM was being proved.
        """
        for run in (self._run_writer, self._run_pinger, self._run_turns):
            self._start(0, run)
        with self.scope:
            await self._watch(0, partial(self._read_link, early))

    def end(self, reason: CloseReason, message: str) -> None:
        """Close every client.  Their tasks end by themselves, within seconds."""
        self._pinger_scope.cancel()
        self._turns_scope.cancel()
        self._feed(SessionEnded(reason, message))
        self._streams.close()
        for client in self.clients:
            # If the core knew it no more; and nothing is worth waiting for any more.
            client.close(CloseClient(client.client_id, reason, message))
            self._lanes.drop_data(client.client_id)
        if not self._listening:  # wait for nothing but the compositor
            self._writer_scope.cancel()
            self._lanes.close()

    async def wait_let_go(self) -> None:
        """Wait until the compositor has let go of every client, or long enough."""
        while self._conductor.clients:
            await self._client_gone.park()

    async def say_goodbye(self, reason: CloseReason, message: str) -> None:
        """Send what may still leave, then `Goodbye`, if anyone listens.

        Once `end` was called and the tasks of the clients have ended.
        """
        if self._listening:
            with trio.move_on_after(GOODBYE_SECONDS):
                await self._link.sent()
        self._writer_scope.cancel()
        if not self._listening:
            return
        await self._writer_ended.wait()
        await self._link.say_goodbye(reason, message)

    def close(self) -> None:
        """Close and unmap everything."""
        self._writer_scope.cancel()
        self._pinger_scope.cancel()
        self._turns_scope.cancel()
        self._link.carry(None)
        self._lanes.close()
        for client in self.clients:
            client.forget()
        self._copier.close()

    # ---------------------------------------------------------------- from the guest

    async def _read_link(self, early: Sequence[Frame]) -> None:
        """Take what the guest sends; others have their turns in between."""
        frames = early
        while True:
            for start in range(0, len(frames), FRAMES_PER_STEP):
                if start:
                    await trio.lowlevel.checkpoint()
                self._step(self._receive_all, frames[start : start + FRAMES_PER_STEP])
            frames = await self._link.receive()

    def _receive_all(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self.receive(frame)

    def receive(self, frame: Frame) -> None:
        """Take a frame from the guest.

        Raises:
            RemoteProtocolError: the agent broke the protocol, or said goodbye.
        """
        try:
            if self._lanes.receive(frame) and not self.launchers.receive(frame):
                self._take(frame)
        except RemoteProtocolError:
            raise
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            self._conductor.meet_bug(getattr(frame, "client_id", 0), exc)

    def _take(self, frame: Frame) -> None:
        match frame:
            case ClientOpened():
                self._open(frame)
            case Data() | Located() | StreamData() | StreamClosed():
                client = self._conductor.clients.get(frame.client_id)
                if client is not None:
                    self._take_of_client(frame, client)
            case ClientClosed() | Released():
                self._feed(frame)
            case Credit():
                pass  # whoever waits for it has been woken
            case Ping(timestamp=timestamp):
                self._lanes.put(Pong(timestamp))
            case Pong():
                self._receive_pong(frame)
            case Goodbye(message=message):
                raise Goodbyed(f"the guest agent ended the session: {message}")
            case _:
                raise ChannelError(f"{type(frame).__name__} out of place")

    def _take_of_client(
        self, frame: Data | Located | StreamData | StreamClosed, client: Client
    ) -> None:
        match frame:
            case Data():
                if frame.attachments:
                    client.attached(frame.attachments)
                self._feed(frame)
            case Located():
                if client.answered(frame):
                    self._feed(frame)
            case _ if client.closed:
                pass
            case _:
                client.receive_early(frame)
                if client.early_bytes > MAX_EARLY:
                    limit, what = CloseReason.LIMIT_EXCEEDED, "too much in its pipes"
                    self._conductor.end_client(client.client_id, limit, what)

    def _open(self, frame: ClientOpened) -> None:
        clients = self._conductor.clients
        if len(clients) >= MAX_HELD_CLIENTS:
            raise ChannelError(f"over {MAX_HELD_CLIENTS} clients opened")
        client_id = frame.client_id
        clients[client_id] = Client(client_id, frame.executable, self._context)
        self._metrics.clients += 1
        self._feed(frame)

    # ---------------------------------------------------------------- steps

    def _step(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do what follows from something that happened, and send all of it at the end.

        If nobody waited for a turn before, one is taken: requests that have just come need
        not wait for another task then.  Else that would hold up what is to be sent.
        """
        turns = self._conductor.turns
        nobody_waited = not turns.waiting
        self._steps += 1
        try:
            work(*args, **kwargs)
            if self._steps == 1:
                if nobody_waited:
                    self._take_turn()
                turns.call()
        finally:
            self._steps -= 1
            self._flush()

    def _flush(self) -> None:
        if not self._steps:
            self._link.flush()

    def _feed(self, given: Input) -> None:
        """Give the core an input, as `Conductor.feed`, in a step."""
        self._step(self._conductor.feed, given)

    def _take_turn(self) -> None:
        """Handle requests of the client whose turn it is, if it is anybody's."""
        client_id = self._conductor.turns.take()
        if client_id is None:
            return
        try:
            self._conductor.feed(RequestsTurn(client_id))
        except RemoteProtocolError as exc:
            self.lost(exc)

    async def _run_turns(self) -> None:
        """Handle the requests of clients, a few of each in turn."""
        with self._turns_scope:
            while True:
                await self._conductor.turns.wait()
                self._step(self._take_turn)

    # ---------------------------------------------------------------- tasks

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

    def _client_is_gone(self, client_id: int) -> None:
        self._conductor.clients.pop(client_id, None)
        self._client_gone.unpark_all()

    async def _run_writer(self) -> None:
        try:
            with self._writer_scope:
                await self._link.write_rest()
        finally:
            self._writer_ended.set()

    async def _run_pinger(self) -> None:
        with self._pinger_scope:
            while True:
                await trio.sleep(PING_INTERVAL)
                self._pings.begin_row()
                if not self._pings.unanswered:
                    self._give_up_locates()
                    self._lanes.put(self._pings.ask())
                elif not self._silent:
                    self._silent = True
                    self._log.warning("the guest agent does not answer")

    def _give_up_locates(self) -> None:
        """Let clients go on that wait for an answer which does not come."""
        for client in self.clients:
            try:
                client.give_up_locates()
            except RemoteProtocolError as exc:
                self.lost(exc)

    def _receive_pong(self, pong: Pong) -> None:
        self._pings.take(pong)
        self._measure_clock()
        if pong.clock and not (self.relay.clock.settled or self._pings.settled):
            self._lanes.put(self._pings.ask())
        if self._silent:
            self._silent = False
            self._log.info("the guest agent answers again")

    def _measure_clock(self) -> None:
        samples, self._pings.samples = self._pings.samples, []
        for sample in samples:
            self._feed(sample)
