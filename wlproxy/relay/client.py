"""One guest client: handles its messages in turns, and has its requests wait if they must.

Messages go to filters, both ways.  A commit that shows a buffer which is not ready yet stalls
the client's own requests until `buffers.client_buffers` wakes it, and so does a bind of what
nobody knows yet, and a colour profile that is being read; events go on flowing.
Neither side has more than a few of its messages handled at a time: what is left waits for
the next turn.  Errors are raised from here; `relay.relay` says who ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.channel.flow import cost
from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    Attachment,
    Data,
    Located,
)
from wlproxy.protocol.errors import (
    CompositorError,
    LimitExceededError,
    WaylandError,
)
from wlproxy.protocol.wayland.interface import MessageSpec
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError, RawMessage
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    read_arguments,
    readdress,
    take_fds,
)
from wlproxy.relay.buffers.surfaces import SurfaceStatus
from wlproxy.relay.commands import Command, GrantCredit
from wlproxy.relay.filters import colour, registry, selections, shortcuts
from wlproxy.relay.filters.plans import (
    EventPlan,
    EventPlanner,
    RequestPlan,
    RequestPlanner,
    event_plan,
    request_plan,
)
from wlproxy.relay.holdings import ClientHoldings
from wlproxy.relay.inputs import (
    BufferCreated,
    BufferFailed,
    ClientInput,
    CompositorFound,
    Copied,
    EventsTurn,
    FileRead,
    FromCompositor,
    ReceivedFd,
    RequestsTurn,
    TimerEnded,
    UserAnswered,
)
from wlproxy.relay.look import NEEDED
from wlproxy.relay.state import ClientState, look_of
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import IGNORED, OwnEvent, ProtocolObject, Question
from wlproxy.relay.wire.timestamps import FRAME_CALLBACK, TimeField

MAX_WAITING_FDS: Final = 1024
"""fds whose message has not come: libwayland's own ring holds as many."""

MESSAGES_PER_TURN: Final = 32
"""Messages of one side that are handled before others have their turn: the few that a
frame of an app is made of, and a millisecond or two of a flood."""


@dataclass(slots=True, eq=False)
class Client:
    """The core of one client.  Every input is followed by `take`.

    Attributes:
        waits: it does nothing yet, for want of a compositor.
        requests_wait: it has requests for another turn.
        events_wait: the compositor's events for it are for another turn.
        failed: the compositor has sent it a protocol error.
    """

    _context: Context
    _state: ClientState
    _requests: MessageSplitter = field(default_factory=MessageSplitter)
    _events: MessageSplitter = field(default_factory=MessageSplitter)
    _attachments: list[Attachment] = field(default_factory=list)
    _fds: list[ReceivedFd] = field(default_factory=list)
    _stalled: RawMessage | None = None
    _owed: int = 0
    waits: bool = False
    requests_wait: bool = False
    events_wait: bool = False
    failed: bool = False
    _request_plan: RequestPlanner = field(init=False)
    _event_plan: EventPlanner = field(init=False)

    def __post_init__(self) -> None:
        self._plan()

    def start(self) -> None:
        """There is a compositor: have its windows be framed, or not, before it makes any."""
        context = self._context
        look = look_of(context)
        if context.config.frame is not None and look is None:
            why = f"the compositor lacks one of {', '.join(NEEDED)}"
            if why not in context.shared.warned:
                context.shared.warned.add(why)
                context.warn(f"windows have no frame: {why}")
        self._state.frame(look)
        self._plan()

    def _plan(self) -> None:
        self._request_plan, self._event_plan = request_plan, event_plan
        if self._state.look is not None:
            # Here, as in `state`.
            from wlproxy.relay.filters import framed  # noqa: PLC0415

            self._request_plan = framed.framed_request_plan
            self._event_plan = framed.framed_event_plan

    @property
    def framed_otherwise(self) -> bool:
        """Whether its windows are not framed as those of a new client are."""
        return not self.waits and self._state.look != look_of(self._context)

    @property
    def label(self) -> str:
        """Names it in logs."""
        return self._context.label

    def close(self) -> None:
        """It is gone: what it took up is free for others."""
        self._context.shares.close()
        self._state.questions.close()
        self._state.gestures.close()
        self._context.shared.exports.close(self._context.client_id)

    def take(self) -> list[Command]:
        """Take the commands that the inputs so far have led to."""
        return self._context.outbox.take()

    def statuses(self) -> list[SurfaceStatus]:
        """Say how each surface is doing."""
        return self._state.surfaces.statuses()

    def ram_files(self) -> set[int]:
        """List the RAM files that its pinned pages are in."""
        return self._state.locations.ram_files()

    def wait(self) -> None:
        """Do nothing about its requests until `go_on`; they are bounded by its credit."""
        self.waits = True

    def go_on(self, found: CompositorFound) -> None:
        """There is a compositor, which can do this; raises as `receive`."""
        self._context.capabilities = found.capabilities
        self.start()
        self.waits = False
        self._handle_requests()

    def receive(  # noqa: C901 - one flat table
        self, given: ClientInput
    ) -> None:
        """Take an input.

        Raises:
            RemoteProtocolError: the agent broke the channel protocol.
            WaylandError: the app broke its own.
            CompositorError: the compositor did.
        """
        match given:
            case Data():
                self._receive_data(given)
            case RequestsTurn():
                self._handle_requests()
            case FromCompositor():
                self._events.feed(given.data)
                self._fds.extend(given.fds)
                self._handle_events()
            case EventsTurn():
                self._handle_events()
            case Located():
                self._state.buffers.located(given)
                self._go_on_if_woken()
            case TimerEnded(number=number):
                self._state.gestures.end(number)
            case UserAnswered():
                selections.answer(self._state, given.number, allowed=given.allowed)
            case BufferCreated():
                self._state.buffers.handle_made(given.handle)
                self._go_on_if_woken()
            case BufferFailed():
                self._receive_failure(given)
            case FileRead():
                colour.receive(self._context, given)
                self._go_on_if_woken()

    def holdings(self) -> ClientHoldings:
        """Say what is left of it."""
        objects, state = self._context.objects, self._state
        return ClientHoldings(
            tuple(each.interface.name for each in objects.guest_objects()),
            tuple(each.interface.name for each in objects.host_objects()),
            state.buffers.states,
            state.buffers.creating,
            len(state.surfaces),
            state.locations.memories,
            len(state.locations),
            len(self._context.owners),
            self._context.shares.used(),
            self._stalled is not None,
        )

    def _receive_data(self, frame: Data) -> None:
        """Take a part of the app's stream, for a turn."""
        self._owed += cost(frame)
        self._requests.feed(frame.data)
        self._attachments.extend(frame.attachments)
        self.requests_wait = self._stalled is None and not self.waits

    def _handle_requests(self) -> None:
        """Handle as many requests as one turn has, and return their credit.

        Raises:
            WaylandError: the app broke the protocol.
            CompositorError: the compositor lacks what it had.
        """
        if self.waits or (self._stalled is not None and not self._context.woken):
            return
        left = MESSAGES_PER_TURN
        if self._stalled is not None:
            left -= 1
            entry = self._context.objects.guest(self._stalled.object_id)
            plan = self._request_plan(entry, self._stalled.opcode)
            self._handle_alone(entry, plan, self._stalled)
        if self._stalled is None:
            left = self._take_requests(left)
        if self._stalled is not None:
            self.requests_wait = False
            return
        self.requests_wait = not left
        if not self.requests_wait and len(self._attachments) > MAX_WAITING_FDS:
            raise LimitExceededError(DISPLAY_ID, DisplayError.NO_MEMORY, "too many fds")
        self._return_credit()

    def _receive_failure(self, failed: BufferFailed) -> None:
        message = failed.message
        if failed.error:
            message += f" (errno {failed.error})"
        self._context.warn(f"cannot make a buffer: {message}")
        self._state.buffers.handle_failed(failed.handle, message)
        self._go_on_if_woken()

    def count(self, copied: Copied) -> None:
        """Count what the shell copied for mode C."""
        surface = self._state.buffers.copied_for(copied.handle)
        self._state.surfaces.copied(surface, copied.amount)

    def _handle_events(self) -> None:
        """Handle as many events as one turn has.

        Raises:
            CompositorError: the compositor broke the protocol.
            WaylandError: the app did, in what it had waiting, or has too much.
        """
        try:
            self.events_wait = not self._take_events(MESSAGES_PER_TURN)
        except LimitExceededError:
            raise
        except WaylandError as error:  # malformed: the codec knows no sides
            raise CompositorError(error.message) from error
        if not self.events_wait and len(self._fds) > MAX_WAITING_FDS:
            raise CompositorError("it sent too many fds")
        self._go_on_if_woken()

    def clock_trusted(self) -> None:
        """The guest's clock is known well: offer what needs that."""
        registry.advertise_postponed(self._context)

    def policy_changed(self, before: Mapping[str, int]) -> None:
        """Tell of the globals that policy offers now, and did not before, or the other way round.

        Its frames, if it has any, are of another colour from now on, and where they must be.

        Raises:
            WaylandError: the app has too much for that, or the compositor too little.
        """
        registry.advertise_changed(self._context, before)
        if self._state.look is not None:
            # Here, as in `state`.
            from wlproxy.relay.filters import frame_windows  # noqa: PLC0415

            self._state.frames.repaint(self._context.config.frame)
            frame_windows.take_frames_back(self._state)

    def has(self, interface: str) -> bool:
        """Whether it has an object of this interface."""
        return any(
            each.interface.name == interface
            for each in self._context.objects.guest_objects()
        )

    def report(self, error: WaylandError) -> None:
        """Send the app the error that ends it, unless the compositor has sent one."""
        if self.failed:
            return
        args = (error.object_id, error.code, error.message.encode())
        self._context.send_event(self._context.objects.display, "error", args)

    def _go_on_if_woken(self) -> None:
        """Handle the request that stalls, if what it waits for may have come."""
        if self._stalled is not None:
            self._handle_requests()

    def _return_credit(self) -> None:
        """Return what was taken up by what is handled by now."""
        waiting = ATTACHMENT_SIZE * len(self._attachments) + self._requests.pending
        consumed = self._owed - waiting
        if consumed > 0:
            self._context.command(GrantCredit(self._context.client_id, consumed))
            self._owed = waiting

    # ------------------------------------------------------------ messages
    #
    # Most need no more than another sender.  They are changed where they lie, and a run of
    # them goes on in one piece: from the first that has not gone on yet (`run`) to the one
    # at hand (`start`).  Every other message is taken out, and handled alone.

    def _take_requests(self, left: int) -> int:
        """Handle up to `left` requests, until one has to wait; say how many more it may be.

        Raises:
            WaylandError: the app broke the protocol; all before that is handled.
        """
        context, requests = self._context, self._requests
        find, buffer = context.objects.guest, requests.buffer
        look_up = self._request_plan
        run = start = requests.start
        try:
            for object_id, opcode, end in requests.messages(left):
                left -= 1
                entry = find(object_id)
                plan = look_up(entry, opcode)
                if (
                    plan.plain_size == end - start
                    and entry.host_id
                    and (plan.idle is None or plan.idle(entry.role))
                ):
                    readdress(buffer, start, entry.host_id)
                    start = end
                    continue
                if run < start:
                    context.outbox.request(buffer[run:start])
                raw = RawMessage(object_id, opcode, buffer[start:end])
                run = start = end
                if not self._handle_alone(entry, plan, raw):
                    break
        finally:
            if run < start:
                context.outbox.request(buffer[run:start])
        return left

    def _take_events(self, left: int) -> int:
        """Handle up to `left` events; say how many more it may be.

        Raises:
            CompositorError: the compositor broke the protocol; all before is handled.
            WaylandError: the same, or the app has too much.
        """
        context, events = self._context, self._events
        find, buffer = context.objects.host, events.buffer
        look_up = self._event_plan
        run = start = events.start
        try:
            for object_id, opcode, end in events.messages(left):
                left -= 1
                entry = find(object_id)
                if entry is None:
                    message = f"it sent an event of unknown object {object_id}"
                    raise CompositorError(message)
                plan = look_up(entry, opcode)
                if plan.plain_size == end - start and entry.guest_id:
                    if plan.time is not None:
                        self._shift_time(plan.time, entry, buffer, start)
                    readdress(buffer, start, entry.guest_id)
                    start = end
                    continue
                if run < start:
                    context.outbox.event(buffer[run:start])
                raw = RawMessage(object_id, opcode, buffer[start:end])
                run = start = end
                self._dispatch_event(entry, plan, raw)
        finally:
            if run < start:
                context.outbox.event(buffer[run:start])
        return left

    def _handle_alone(
        self, entry: ProtocolObject, plan: RequestPlan, raw: RawMessage
    ) -> bool:
        """Handle one request, or have it wait; False if it does."""
        context, state, spec = self._context, self._state, plan.spec
        if plan.needs is not None:
            context.woken = False
            ready = plan.needs(state, entry, spec, raw)
            self._stalled = raw if ready is False else None
            if ready is not True:
                return ready is None
        if plan.time is not None:
            plan.time.to_host(raw.data, context.clock, context.presentation_clock)
        if plan.claimed is None and not spec.fd_count:
            created = state.forward_raw(entry, spec, raw)
            if plan.makes_callback and created is not None:
                created.role = FRAME_CALLBACK
            return True
        args = read_arguments(spec, raw.data)
        fds = take_fds(spec, self._attachments) if spec.fd_count else ()
        if plan.claimed is None:
            state.forward_raw(entry, spec, raw, fds)
        else:
            plan.claimed(state, Request(entry, spec, raw, args, fds))
        return True

    def _dispatch_event(
        self, entry: ProtocolObject, plan: EventPlan, raw: RawMessage
    ) -> None:
        """Handle one event."""
        state, spec = self._state, plan.spec
        if plan.time is not None:
            self._shift_time(plan.time, entry, raw.data, 0)
        if entry.listener is not None:
            message = decode_message(spec, raw, self._fds)
            self._enter_own(entry, spec, message.args)
            state.drop_fds(message.fds)
            self._hear(entry, message)
            return
        if plan.claimed is None and not spec.fd_count:
            state.forward_event(entry, spec, raw)
            return
        args = read_arguments(spec, raw.data)
        fds = take_fds(spec, self._fds) if spec.fd_count else ()
        if plan.claimed is None:
            state.forward_event(entry, spec, raw, fds)
            return
        self.failed |= (spec.interface, spec.name) == ("wl_display", "error")
        plan.claimed(state, Event(entry, spec, raw, args, fds))

    def _shift_time(
        self, time: TimeField, entry: ProtocolObject, data: bytearray, start: int
    ) -> None:
        """Translate the time of the event that begins at `start`, in place."""
        context = self._context
        if context.clock.offset:
            clock, presentation = context.clock, context.presentation_clock
            time.to_guest(data, start, clock, entry.role, presentation)

    def _hear(self, entry: ProtocolObject, event: OwnEvent) -> None:
        """Tell who waits for an event of an object of our own: for one, but for keys."""
        if isinstance(entry.listener, shortcuts.Keys):
            shortcuts.hear(self._state, entry.listener, entry, event)
            return
        listener, entry.listener = entry.listener, IGNORED
        if isinstance(listener, Question):
            listener.answered = True
            self._context.wake()
        else:
            self._state.buffers.hear(listener, entry, event)

    def _enter_own(
        self, entry: ProtocolObject, spec: MessageSpec, args: Sequence[object]
    ) -> None:
        """Enter what an event to one of the proxy's own objects creates."""
        if spec.new_id_index is None:
            return
        host_id = args[spec.new_id_index]
        assert isinstance(host_id, int)
        self._state.enter_unseen(host_id, spec.args[spec.new_id_index], entry.version)
