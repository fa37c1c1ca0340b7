"""One guest client: handles its messages in turns, and has its requests wait if they must.

Messages go to filters, both ways.  A commit that shows a buffer which is not ready yet stalls
the client's own requests until `buffers.client_buffers` wakes it, and so does a bind of what
nobody knows yet; events go on flowing.
Neither side has more than a few of its messages handled at a time: what is left waits for
the next turn.  Errors are raised from here; `relay.relay` says who ends.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
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
from wlproxy.protocol.wayland.interface import ArgKind, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError, RawMessage
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    event_spec,
    locate_ids,
    request_spec,
)
from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.surfaces import Surface, SurfaceStatus
from wlproxy.relay.commands import Command, GrantCredit
from wlproxy.relay.filters import (
    EVENT_FILTERS,
    REQUEST_FILTERS,
    EventFilter,
    RequestFilter,
    registry,
)
from wlproxy.relay.holdings import ClientHoldings
from wlproxy.relay.inputs import (
    BufferCreated,
    BufferFailed,
    ClientInput,
    CompositorFound,
    Copied,
    EventsTurn,
    FromCompositor,
    ReceivedFd,
    RequestsTurn,
)
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import IGNORED, OwnEvent, ProtocolObject
from wlproxy.relay.wire.timestamps import (
    FRAME_CALLBACK,
    TimeField,
    event_time,
    request_time,
)

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
    _attachments: deque[Attachment] = field(default_factory=deque)
    _fds: deque[ReceivedFd] = field(default_factory=deque)
    _stalled: RawMessage | None = None
    _owed: int = 0
    waits: bool = False
    requests_wait: bool = False
    events_wait: bool = False
    failed: bool = False

    @property
    def label(self) -> str:
        """Names it in logs."""
        return self._context.label

    def close(self) -> None:
        """It is gone: what it took up is free for others."""
        self._context.shares.close()

    def take(self) -> list[Command]:
        """Take the commands that the inputs so far have led to."""
        return self._context.outbox.take()

    def statuses(self) -> list[SurfaceStatus]:
        """Say how each surface is doing."""
        return self._state.surfaces.statuses()

    def wait(self) -> None:
        """Do nothing about its requests until `go_on`; they are bounded by its credit."""
        self.waits = True

    def go_on(self, found: CompositorFound) -> None:
        """There is a compositor, which can do this; raises as `receive`."""
        self._context.capabilities = found.capabilities
        self.waits = False
        self._handle_requests()

    def receive(self, given: ClientInput) -> None:
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
            case BufferCreated():
                self._state.buffers.handle_made(given.handle)
                self._go_on_if_woken()
            case BufferFailed():
                self._receive_failure(given)

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
        self.requests_wait = True
        for _ in range(MESSAGES_PER_TURN):
            raw = self._stalled or self._requests.next_message()
            if raw is None:
                self.requests_wait = False
                break
            self._context.woken = False
            self._stalled = None if self._dispatch_request(raw) else raw
            if self._stalled is not None:
                self.requests_wait = False
                return
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
            self._take_events()
        except LimitExceededError:
            raise
        except WaylandError as error:  # malformed: the codec knows no sides
            raise CompositorError(error.message) from error
        self._go_on_if_woken()

    def clock_trusted(self) -> None:
        """The guest's clock is known well: offer what needs that."""
        registry.advertise_postponed(self._context)

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

    def _take_events(self) -> None:
        self.events_wait = True
        for _ in range(MESSAGES_PER_TURN):
            raw = self._events.next_message()
            if raw is None:
                self.events_wait = False
                break
            self._dispatch_event(raw)
        if not self.events_wait and len(self._fds) > MAX_WAITING_FDS:
            raise CompositorError("it sent too many fds")

    def _return_credit(self) -> None:
        """Return what was taken up by what is handled by now."""
        waiting = ATTACHMENT_SIZE * len(self._attachments) + self._requests.pending
        consumed = self._owed - waiting
        if consumed > 0:
            self._context.command(GrantCredit(self._context.client_id, consumed))
            self._owed = waiting

    def _dispatch_request(self, raw: RawMessage) -> bool:
        """Handle one request; False if it must wait."""
        entry = self._context.objects.guest(raw.object_id)
        spec = request_spec(entry.interface, entry.version, raw)
        claimed, needs, timed, time = _request_plans(spec.interface)[spec.opcode]
        if needs is not None:
            ready = needs(self, entry, spec, raw)
            if ready is not True:
                return ready is None
        if time is not None:
            context = self._context
            time.to_host(raw.data, context.clock, context.presentation_clock)
        if claimed is None and not spec.fd_count:
            created = self._state.forward_raw(entry, spec, raw)
            if timed and created is not None:
                created.role = FRAME_CALLBACK
            return True
        message = decode_message(spec, raw, self._attachments)
        request = Request(entry, spec, raw, message)
        if claimed is None:
            self._state.forward(request)
        else:
            claimed(self._state, request)
        return True

    def _bind_is_clear(
        self, entry: ProtocolObject, spec: MessageSpec, raw: RawMessage
    ) -> bool:
        """Whether it is known what is to be bound."""
        name = decode_message(spec, raw, self._attachments).integer(0)
        return registry.may_judge_bind(self._state, entry, name)

    def _imports_answered(
        self, _entry: ProtocolObject, _spec: MessageSpec, _raw: RawMessage
    ) -> bool:
        """Every compositor answers `create` at once: apps take a roundtrip for granted."""
        return not self._state.buffers.creating

    def _commit_ready(
        self, entry: ProtocolObject, _spec: MessageSpec, _raw: RawMessage
    ) -> bool:
        """Whether what the next commit shows is ready."""
        surface = entry.role
        if not isinstance(surface, Surface) or surface.postponed is None:
            return True
        buffer, _, _ = surface.postponed
        cycled = surface.cycles_with(buffer)
        return self._state.buffers.want(buffer, cycled=cycled)

    def _destroy_ready(
        self, entry: ProtocolObject, _spec: MessageSpec, _raw: RawMessage
    ) -> bool:
        """Whether a buffer may be destroyed, which surfaces are to have yet."""
        buffer = entry.role
        if not isinstance(buffer, Buffer) or not self._state.surfaces.waiting_for(
            buffer
        ):
            return True
        return self._state.buffers.want(buffer, cycled=False, final=False)

    def _buffers_ready(
        self, entry: ProtocolObject, spec: MessageSpec, raw: RawMessage
    ) -> bool | None:
        """Whether the buffers that a request names are ready; None if one has failed."""
        for _offset, guest_id, arg in locate_ids(spec, raw):
            if arg.interface != "wl_buffer" or not guest_id:
                continue
            buffer = self._context.objects.guest(guest_id).role
            if not isinstance(buffer, Buffer):
                continue
            if not self._state.buffers.want(buffer, cycled=False):
                return False
            if buffer.life.is_failed:
                return None
            self._state.buffers.keep(buffer)
            self._state.surfaces.copy_whole(buffer)  # an icon: there is no commit
        return True

    def _dispatch_event(self, raw: RawMessage) -> None:
        entry = self._context.objects.host(raw.object_id)
        if entry is None:
            raise CompositorError(f"it sent an event of unknown object {raw.object_id}")
        spec = event_spec(entry.interface, entry.version, raw)
        claimed, time = _event_plans(spec.interface)[spec.opcode]
        if time is not None and self._context.clock.offset:
            context = self._context
            time.to_guest(
                raw.data, context.clock, entry.role, context.presentation_clock
            )
        if entry.listener is None and claimed is None and not spec.fd_count:
            self._state.forward_event(entry, spec, raw)
            return
        message = decode_message(spec, raw, self._fds)
        if entry.listener is not None:
            self._enter_own(entry, spec, message.args)
            self._state.drop_fds(message.fds)
            self._hear(entry, message)
        elif claimed is not None:
            self.failed |= (spec.interface, spec.name) == ("wl_display", "error")
            claimed(self._state, Event(entry, spec, raw, message))
        else:
            self._state.forward_event(entry, spec, raw, message.fds)

    def _hear(self, entry: ProtocolObject, event: OwnEvent) -> None:
        """Tell who waits for an event of an object of our own: for one, no more."""
        listener, entry.listener = entry.listener, IGNORED
        if isinstance(listener, registry.Question):
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


Needs = Callable[[Client, ProtocolObject, MessageSpec, RawMessage], bool | None]
"""Whether a request can be handled by now; None if it is better left out."""

_NEEDS: Final[dict[tuple[str, str], Needs | None]] = {
    ("wl_buffer", "destroy"): Client._destroy_ready,  # noqa: SLF001 - its module
    ("wl_display", "sync"): Client._imports_answered,  # noqa: SLF001
    ("wl_registry", "bind"): Client._bind_is_clear,  # noqa: SLF001
    ("wl_surface", "attach"): None,
    ("wl_surface", "commit"): Client._commit_ready,  # noqa: SLF001
}
"""What requests need; others need the buffers that they name."""

# Both are looked up for every message, where hashing its spec would cost more than
# forwarding it.


@cache
def _request_plans(
    interface: str,
) -> tuple[tuple[RequestFilter | None, Needs | None, bool, TimeField | None], ...]:
    """Look up what is special about each request, by opcode.

    Returns:
        What claims it; what it may have to wait for; does it make a callback that will
        tell a time; where does it tell one itself.
    """
    return tuple(
        (
            REQUEST_FILTERS.get((interface, spec.name)),
            _needs(interface, spec),
            (interface, spec.name) == ("wl_surface", "frame"),
            request_time(spec),
        )
        for spec in INTERFACES[interface].requests
    )


def _needs(interface: str, spec: MessageSpec) -> Needs | None:
    if (interface, spec.name) in _NEEDS:
        return _NEEDS[interface, spec.name]
    names_buffer = any(
        arg.kind is ArgKind.OBJECT and arg.interface == "wl_buffer" for arg in spec.args
    )
    return Client._buffers_ready if names_buffer else None  # noqa: SLF001 - its module


@cache
def _event_plans(
    interface: str,
) -> tuple[tuple[EventFilter | None, TimeField | None], ...]:
    """For each event, by opcode: what claims it, and where it tells a time."""
    return tuple(
        (EVENT_FILTERS.get((interface, spec.name)), event_time(spec))
        for spec in INTERFACES[interface].events
    )
