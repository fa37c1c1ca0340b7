"""One client of the guest, from `ClientOpened` until the compositor has let go of it.

It is connected to the compositor, read, written to and let go of here, by tasks of its own;
and here is carried out what the core decides about it, at once.  What a message means, and
when a client ends and what it is told then, is the core's affair (`relay.relay`): what happens is
told it as an input (`conductor`).

What costs one client costs no other: the compositor's events wait while those before them
wait for the app, credit returns when the compositor has taken what it was for, and nothing
here waits for anybody while a command is carried out.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from wlproxy.host.client.asking import Ask, Asking
from wlproxy.host.client.buffers import Answer, Buffers
from wlproxy.host.client.compositor_queue import CompositorQueue
from wlproxy.host.client.handles import Handles, classify, sealed_file
from wlproxy.host.client.locates import Locates
from wlproxy.host.client.pixels import Copy, PixelCopier
from wlproxy.host.client.reads import FileReads
from wlproxy.host.client.streams import Streams
from wlproxy.host.errors import HostError
from wlproxy.host.pages import PageSource
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.flow import cost
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentKind,
    ClientClosed,
    ClientReleased,
    CloseReason,
    Located,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.lane import Lane, Usage
from wlproxy.protocol.channel.rules import fit_text
from wlproxy.relay.commands import (
    AdoptStream,
    AskUser,
    CloseClient,
    CloseHandle,
    Command,
    CopyRows,
    CreateCopyBuffer,
    CreateFile,
    CreateStream,
    CreateUdmabuf,
    GrantCredit,
    OpenCompositor,
    ReadFile,
    SendContents,
    SendFile,
    SendFrame,
    SendToCompositor,
    StartTimer,
    StopAsking,
    Trace,
)
from wlproxy.relay.handles import Handle, shell_handles
from wlproxy.relay.inputs import (
    CompositorClosed,
    Copied,
    EventsTurn,
    FromCompositor,
    Input,
    ReceivedFd,
    TimerEnded,
)
from wlproxy.relay.relay import Relay
from wlproxy.transport.fd_stream import FdsLostError, FdStream
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks

LET_GO_SECONDS = 5.0
"""For the compositor to close a connection that we have shut down, and for the guest to
take a closed client's last data."""

COMPOSITOR_READ = 32 * 1024
"""Bytes read from the compositor at once."""

MAX_UNSENT = 1 << 20
"""While so many bytes wait for a compositor, its events wait too."""

EARLY_COST = 256
"""Bytes that it takes to keep a frame, besides what is in it."""

CANNOT = "the host could not do what this app needs; the log of its proxy says more"
"""What a guest is told of what the host could not do: errors tell of the host."""
COMPOSITOR_UNREACHABLE = "the compositor of the host cannot be reached"
COMPOSITOR_CLOSED = "the compositor of the host has closed the connection"

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ClientContext:
    """What the clients of a session share.

    Attributes:
        relay: the core, to ask what waits.
        lanes: where frames go.
        streams: the session's pipes.
        pages: makes fds of the guest's pages.
        copier: copies pixels.
        metrics: counted into.
        log: written to.
        connect: makes a connection to the compositor.
        feed: gives the core an input, and does what follows.
        end: ends a client at once, whatever the core makes of it.
        start: starts a task of a client.
        watch: runs a part of one: what goes wrong ends the client, and no more.
        gone: told each client that the compositor has let go of.
        ask: asks the user.
        names: of fds that the compositor sends.
        door: passed by one client after the other, as others have turns in between.
    """

    relay: Relay
    lanes: LaneTasks
    streams: Streams
    pages: PageSource
    copier: PixelCopier
    metrics: Metrics
    log: VmLog
    connect: Callable[[], Awaitable[FdStream]]
    feed: Callable[[Input], None]
    end: Callable[[int, CloseReason, str], None]
    start: Callable[[int, Run], None]
    watch: Callable[[int, Run], Awaitable[None]]
    gone: Callable[[int], None]
    ask: Ask
    names: Iterator[Handle] = field(default_factory=shell_handles)
    door: trio.Lock = field(default_factory=trio.Lock)


class Client:
    """One client.

    Attributes:
        client_id: the guest's number for it.
        label: names it in the log.
        handles: its fds that the core has names for.
        to_compositor: what waits for its compositor.
        closed: why it was closed; nothing is carried out for it any more.
        early_bytes: of streams whose requests have not had their turn.
    """

    def __init__(self, client_id: int, executable: str, context: ClientContext) -> None:
        """It has no connection to the compositor yet.

        Args:
            client_id: the guest's number for it.
            executable: what the guest calls it; not to be trusted.
            context: what it shares with the others.
        """
        self.client_id = client_id
        self.label = executable or f"client {client_id}"
        self.handles = Handles()
        self.to_compositor = CompositorQueue(
            copy_at_once=self._copy_at_once, copy=self._copy, grant=self._grant
        )
        self.closed: CloseClient | None = None
        self.early_bytes = 0
        self._context = context
        self._lane = Lane(client_id)
        self._unclaimed: dict[int, int] = {}
        """Streams that the guest attached and whose message has not come yet: early bytes."""
        self._locates = Locates()
        self._buffers = Buffers(client_id, self.handles, context.pages, context.metrics)
        self._connection: FdStream | None = None
        self._scope = trio.CancelScope()
        self._writer_scope = trio.CancelScope()
        self._timer = trio.CancelScope()
        lanes, start, feed = context.lanes, context.start, context.feed
        self._asking = Asking(context.ask, start, feed)
        self._reads = FileReads(self.handles, lanes, start, feed)
        self._writer_ended = trio.Event()
        self._running = False

    @property
    def usage(self) -> Usage:
        """How much of its way through the channel is taken up."""
        return self._context.lanes.usage(self.client_id)

    @property
    def stream_count(self) -> int:
        """How many streams it has."""
        return self._context.lanes.streams_of(self.client_id)

    # ---------------------------------------------------------------- commands

    def carry_out(  # noqa: C901, PLR0912, PLR0915 - one flat table
        self, command: Command
    ) -> Answer | None:
        """Carry out one command; what it sends to the compositor waits for `flush`.

        Raises:
            HostError: the host cannot.
        """
        lanes, client_id = self._context.lanes, self.client_id
        match command:
            case SendFrame(frame=frame):
                self._locates.sent(frame)
                lanes.put(frame)
            case SendToCompositor(data=data, handles=handles):
                self.to_compositor.put(data, [self.handles.get(one) for one in handles])
            case GrantCredit(amount=amount):
                self.to_compositor.put_grant(amount)
            case CopyRows(handle=handle):
                target = self._buffers.copy_target(handle)
                self._context.copier.find(command, target)
                self.to_compositor.put_copy(command, target)
            case CreateUdmabuf():
                return self._create_udmabuf(command)
            case CreateCopyBuffer():
                return self._buffers.create_copy(command)
            case CreateFile(handle=handle, contents=contents):
                self.handles.add(handle, sealed_file(contents))
            case CreateStream():
                self._create_stream(command)
            case AdoptStream(handle=handle, direction=direction, limit=limit):
                lane = Lane(client_id, command.stream_id)
                fd = self.handles.take(handle)
                self._context.streams.adopt(lane, fd, direction, limit)
            case AskUser():
                self._asking.ask(command)
            case StopAsking():
                self._asking.stop()
            case ReadFile():
                self._reads.read(command)
            case StartTimer():
                self._timer.cancel()  # only the last one matters
                self._timer = trio.CancelScope()
                run = partial(self._run_timer, command, self._timer)
                self._context.start(client_id, run)
            case SendFile(file_id=file_id, handle=handle, size=size):
                lanes.put_file(client_id, file_id, self.handles.take(handle), size)
            case SendContents(file_id=file_id, contents=contents):
                lanes.put_file(client_id, file_id, contents, len(contents))
            case CloseHandle(handle=handle):
                self._buffers.close(handle)
            case OpenCompositor(label=label):
                self.label = label or self.label
                self._start()
            case CloseClient():
                self.close(command)
            case Trace():
                pass  # which is for the conductor
        return None

    def flush(self) -> None:
        """Send what waits for the compositor, as far as it takes it at once."""
        self.to_compositor.flush()

    def close(self, command: CloseClient) -> None:
        """Stop everything; what is left is for the compositor to let go.

        Again: nothing happens.
        """
        if self.closed:
            return
        self.closed = command
        lanes, streams = self._context.lanes, self._context.streams
        try:
            self._scope.cancel()
            self._writer_scope.cancel()
            self._timer.cancel()
            self._asking.stop()
            self._reads.stop()
            self.to_compositor.drop()
            streams.client_left(self.client_id)
            for stream_id in self._unclaimed:
                streams.refuse(Lane(self.client_id, stream_id))
            self._unclaimed.clear()
            self.early_bytes = 0
            if command.silent:
                lanes.drop_data(self.client_id)
            else:
                message = fit_text(command.message)
                lanes.put(ClientClosed(self.client_id, command.reason, message))
            self._buffers.close_all()
        finally:
            if not self._running:
                self._start()

    # ---------------------------------------------------------------- locations

    def answered(self, frame: Located) -> bool:
        """Whether an answer comes in time; if not, what it has pinned is let go."""
        if self._locates.answered(frame):
            return True
        if release := self._locates.let_go(frame):
            self._context.lanes.put(release)
        return False

    def give_up_locates(self) -> None:
        """Go on if the agent has not said for too long where something is."""
        for failed in self._locates.turn(self.client_id):
            self._warn("the guest agent does not say where a buffer is")
            self._context.feed(failed)

    # ---------------------------------------------------------------- streams

    def attached(self, attachments: Sequence[Attachment]) -> None:
        """Note streams that the guest attached: each has a sender who waits."""
        names = [
            each.object_id for each in attachments if each.kind is AttachmentKind.STREAM
        ]
        if names:
            self._unclaimed |= dict.fromkeys(names, 0)
            self._context.streams.learn(Lane(self.client_id, each) for each in names)

    def receive_early(self, frame: StreamData | StreamClosed) -> None:
        """Count what comes for a stream before the request that makes its pipe."""
        if frame.stream_id in self._unclaimed:
            taken = cost(frame) + EARLY_COST
            self._unclaimed[frame.stream_id] += taken
            self.early_bytes += taken

    def _create_stream(self, command: CreateStream) -> None:
        self.early_bytes -= self._unclaimed.pop(command.stream_id, 0)
        lane = Lane(self.client_id, command.stream_id)
        end = self._context.streams.create(
            lane, command.direction, usable=command.usable, limit=command.limit
        )
        self.handles.add(command.handle, end)

    async def _run_timer(self, command: StartTimer, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(command.seconds)
            self._context.feed(TimerEnded(self.client_id, command.number))

    # ---------------------------------------------------------------- buffers

    def _create_udmabuf(self, command: CreateUdmabuf) -> Answer | None:
        answer = self._buffers.create_udmabuf(command)
        if answer is None:
            create = partial(self._create_slowly, command)
            self._context.start(self.client_id, create)
        return answer

    async def _create_slowly(self, command: CreateUdmabuf) -> None:
        answer = await self._buffers.create_slowly(command)
        if answer is not None:
            self._context.feed(answer)

    def _copy_at_once(self, copy: Copy) -> bool:
        """Carry out a copy, if it may be done here and now."""
        copied = self._context.copier.copy_at_once(copy)
        if copied is None:
            return False
        self._count_copied(copy, copied)
        return True

    async def _copy(self, copy: Copy) -> None:
        """Carry out a copy, in turns.

        Raises:
            HostError: no memory is left.
        """
        while not copy.done:
            copied = await self._context.copier.copy_some(copy)
            self._count_copied(copy, copied)

    def _count_copied(self, copy: Copy, copied: int) -> None:
        self._context.metrics.copied(self.client_id, copied)
        self._context.relay.receive(Copied(self.client_id, copy.handle, copied))

    def _grant(self, amount: int) -> None:
        self._context.lanes.consumed(self._lane, amount)

    # ---------------------------------------------------------------- its life

    def _start(self) -> None:
        """Connect it to the compositor; its task lets go of it in the end."""
        self._running = True
        self._context.start(self.client_id, self._run)

    async def _run(self) -> None:
        """Relay the compositor's events until it is closed; then let go of it."""
        try:
            with self._scope:
                await self._context.watch(self.client_id, self._serve)
            if self._connection is not None:
                await self._wait_closed(self._connection)
            with trio.move_on_after(LET_GO_SECONDS):
                await self._context.lanes.idle(self._lane)
        finally:
            try:
                if self._connection is not None:
                    self._connection.close()
                with trio.CancelScope(shield=True):  # for no longer than a slice takes
                    await self.to_compositor.wait_copied()
            finally:
                self._let_go()

    async def _serve(self) -> None:
        """Connect to the compositor; relay its events until one of them ends."""
        async with self._context.door:
            await trio.lowlevel.checkpoint()
        try:
            self._connection = stream = await self._context.connect()
        except HostError as exc:
            self._compositor_closed(COMPOSITOR_UNREACHABLE, exc.explanation)
            return
        self.to_compositor.connect(stream)
        self._context.start(self.client_id, self._write)
        try:
            await self._read(stream)
        except trio.BrokenResourceError as exc:
            self._compositor_closed(COMPOSITOR_CLOSED, str(exc))
        except FdsLostError as exc:
            self._fail(exc)
        else:
            self._compositor_closed(COMPOSITOR_CLOSED, "")

    async def _read(self, stream: FdStream) -> None:
        """Relay events until the compositor closes the connection."""
        context, client_id = self._context, self.client_id
        while True:
            await context.lanes.idle(self._lane)
            await self.to_compositor.wait_below(MAX_UNSENT)
            # No checkpoint from here on: what was received is not lost by cancellation.
            data, fds = await stream.receive(COMPOSITOR_READ)
            if not data:
                for fd in fds:
                    fd.close()
                return
            context.feed(FromCompositor(client_id, data, self.receive_fds(fds)))
            del data  # or it stays for as long as nothing follows it
            while context.relay.events_wait(client_id):
                await trio.lowlevel.checkpoint()
                context.feed(EventsTurn(client_id))

    def receive_fds(self, fds: Sequence[OwnedFd]) -> tuple[ReceivedFd, ...]:
        """Name the fds that the compositor sent, which this takes over."""
        received = []
        for fd in fds:
            handle = next(self._context.names)
            self.handles.add(handle, fd)
            received.append(classify(handle, fd))
        return tuple(received)

    async def _write(self) -> None:
        """Send the compositor what it did not take at once."""
        try:
            with self._writer_scope:
                await self.to_compositor.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            # What the compositor said before it hung up is for the reader to find.
            self.to_compositor.drop()
            if self._connection is not None and not self._connection.hung_up:
                # No memory, or too many fds under way: nobody reads that.
                self._fail(exc)
        except HostError as exc:
            self._fail(exc)
        finally:
            self._writer_ended.set()

    async def _wait_closed(self, stream: FdStream) -> None:
        await self._writer_ended.wait()
        if not await stream.hang_up(LET_GO_SECONDS):
            self._warn("the compositor does not let go")

    def _compositor_closed(self, message: str, detail: str) -> None:
        """The compositor is gone for this client; `detail` is for the log alone."""
        if detail:
            self._warn(detail)
        self._context.feed(CompositorClosed(self.client_id, message))

    def _fail(self, why: Exception) -> None:
        self._warn(str(why))
        self._context.end(self.client_id, CloseReason.FAILED, CANNOT)

    def _warn(self, problem: str) -> None:
        self._context.log.of_client(logging.WARNING, "%s: %s", self.label, problem)

    def _let_go(self) -> None:
        """Nothing reads the client's pages any more: tell the guest, and forget it."""
        try:
            self._context.lanes.drop_data(self.client_id)
            self.forget()
        finally:
            self._context.gone(self.client_id)
            if self.closed:  # else we were cancelled, and have nothing to say any more
                self._context.lanes.put(ClientReleased(self.client_id))

    def forget(self) -> None:
        """Close what is left; again is harmless."""
        self.to_compositor.drop()  # it may have ended without having been closed
        self._buffers.close_all()
