"""What is special about each message, looked up once for all of its kind.

Most messages are forwarded as they are.  A plan says of the others which filter claims
them, what they have to wait for, and where they tell a time.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Final, NamedTuple, TypeVar

from wlproxy.protocol.wayland.interface import ArgKind, MessageSpec
from wlproxy.protocol.wayland.message import RawMessage
from wlproxy.protocol.wayland.wire import (
    decode_message,
    event_spec,
    locate_ids,
    request_spec,
)
from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.filters import (
    EVENT_FILTERS,
    IDLE_FILTERS,
    REQUEST_FILTERS,
    EventFilter,
    RequestFilter,
    colour,
    registry,
    selections,
)
from wlproxy.relay.offers import SELECTION_USES
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.objects import ProtocolObject
from wlproxy.relay.wire.timestamps import TimeField, event_time, request_time

Needs = Callable[[ClientState, ProtocolObject, MessageSpec, RawMessage], bool | None]
"""Whether a request can be handled by now; None if it is better left out."""


class RequestPlan(NamedTuple):
    """What is special about a request.

    Attributes:
        spec: what it looks like.
        claimed: the filter that it goes to.
        needs: what it may have to wait for.
        makes_callback: it creates a callback that will tell a time.
        time: where it tells one itself.
        plain_size: bytes of it, if all that it needs is another sender; else 0.
        idle: says of an object's role whether that is so, if it is so for some only.
    """

    spec: MessageSpec
    claimed: RequestFilter | None
    needs: Needs | None
    makes_callback: bool
    time: TimeField | None
    plain_size: int
    idle: Callable[[object], bool] | None


class EventPlan(NamedTuple):
    """What is special about an event; otherwise as `RequestPlan`."""

    spec: MessageSpec
    claimed: EventFilter | None
    time: TimeField | None
    plain_size: int


PlanT = TypeVar("PlanT", RequestPlan, EventPlan)

RequestPlanner = Callable[[ProtocolObject, int], RequestPlan]
EventPlanner = Callable[[ProtocolObject, int], EventPlan]


def _plan_request(
    entry: ProtocolObject,
    opcode: int,
    filters: Mapping[tuple[str, str], RequestFilter],
) -> RequestPlan:
    spec = request_spec(entry.interface, entry.version, entry.guest_id, opcode)
    name = (spec.interface, spec.name)
    claimed, needs, time = filters.get(name), _needs(spec), request_time(spec)
    idle = IDLE_FILTERS.get(name)
    special = (claimed and not idle) or needs or time or spec.is_destructor
    plain_size = 0 if special else _size_without_ids(spec)
    makes_callback = name == ("wl_surface", "frame")
    return RequestPlan(spec, claimed, needs, makes_callback, time, plain_size, idle)


def _size_without_ids(spec: MessageSpec) -> int:
    """The size of a message that has neither ids nor fds, nor another size; else 0."""
    return 0 if spec.has_ids or spec.fd_count else spec.size or 0


def _plan_event(
    entry: ProtocolObject, opcode: int, filters: Mapping[tuple[str, str], EventFilter]
) -> EventPlan:
    spec = event_spec(entry.interface, entry.version, entry.host_id, opcode)
    claimed = filters.get((spec.interface, spec.name))
    plain_size = 0 if claimed else _size_without_ids(spec)
    return EventPlan(spec, claimed, event_time(spec), plain_size)


def _once(
    make: Callable[[ProtocolObject, int], PlanT],
) -> Callable[[ProtocolObject, int], PlanT]:
    """Have each plan made once, when a message of its kind is met.

    Plans are kept by opcode: hashing a spec would cost more than forwarding its message.
    """

    @cache
    def plans_of(_interface: str, _version: int) -> dict[int, PlanT]:
        return {}

    def plan_of(entry: ProtocolObject, opcode: int) -> PlanT:
        known = plans_of(entry.interface.name, entry.version)
        plan = known.get(opcode)
        if plan is None:
            plan = known[opcode] = make(entry, opcode)
        return plan

    return plan_of


def request_planner(filters: Mapping[tuple[str, str], RequestFilter]) -> RequestPlanner:
    """Look up what is special about requests where they go to these filters."""
    return _once(partial(_plan_request, filters=filters))


def event_planner(filters: Mapping[tuple[str, str], EventFilter]) -> EventPlanner:
    """Look up what is special about events where they go to these filters."""
    return _once(partial(_plan_event, filters=filters))


request_plan: Final = request_planner(REQUEST_FILTERS)
"""Looks up what is special about a request; WaylandError: there is none such in that version."""
event_plan: Final = event_planner(EVENT_FILTERS)
"""The same of an event."""


# ---------------------------------------------------------------- what requests wait for


def _bind_is_clear(
    state: ClientState, entry: ProtocolObject, spec: MessageSpec, raw: RawMessage
) -> bool:
    """Whether it is known what is to be bound."""
    name = decode_message(spec, raw, []).integer(spec.places["name"])
    return registry.may_judge_bind(state, entry, name)


def _imports_answered(
    state: ClientState, _entry: ProtocolObject, _spec: MessageSpec, _raw: RawMessage
) -> bool:
    """Every compositor answers `create` at once: apps take a roundtrip for granted."""
    return not state.buffers.creating


def _commit_ready(
    state: ClientState, entry: ProtocolObject, _spec: MessageSpec, _raw: RawMessage
) -> bool:
    """Whether what the next commit shows is ready."""
    surface = entry.role
    if not isinstance(surface, Surface) or surface.postponed is None:
        return True
    buffer, _, _ = surface.postponed
    return state.buffers.want(buffer, cycled=surface.cycles_with(buffer))


def _destroy_ready(
    state: ClientState, entry: ProtocolObject, _spec: MessageSpec, _raw: RawMessage
) -> bool:
    """Whether a buffer may be destroyed, which surfaces are to have yet."""
    buffer = entry.role
    if not isinstance(buffer, Buffer) or not state.surfaces.waiting_for(buffer):
        return True
    return state.buffers.want(buffer, cycled=False, final=False)


def _buffers_ready(
    state: ClientState, _entry: ProtocolObject, spec: MessageSpec, raw: RawMessage
) -> bool | None:
    """Whether the buffers that a request names are ready; None if one has failed."""
    for _offset, guest_id, arg in locate_ids(spec, raw):
        if arg.interface != "wl_buffer" or not guest_id:
            continue
        buffer = state.context.objects.guest(guest_id).role
        if not isinstance(buffer, Buffer):
            continue
        if not state.buffers.want(buffer, cycled=False):
            return False
        if buffer.life.is_failed:
            return None
        state.buffers.keep(buffer)
        state.surfaces.copy_whole(buffer)  # an icon: there is no commit
    return True


def _profile_ready(
    state: ClientState, entry: ProtocolObject, _spec: MessageSpec, _raw: RawMessage
) -> bool:
    """Whether the compositor can be given a colour profile."""
    return colour.profile_ready(state, entry)


def _selections_known(
    state: ClientState, entry: ProtocolObject, spec: MessageSpec, _raw: RawMessage
) -> bool:
    """Whether it is known what a clipboard manager would replace."""
    use = SELECTION_USES[spec.interface, spec.name]
    return selections.knows_selections(state, entry, use)


_NEEDS: Final[dict[tuple[str, str], Needs | None]] = {
    ("ext_data_control_device_v1", "set_primary_selection"): _selections_known,
    ("ext_data_control_device_v1", "set_selection"): _selections_known,
    ("wl_buffer", "destroy"): _destroy_ready,
    ("wl_display", "sync"): _imports_answered,
    ("wl_registry", "bind"): _bind_is_clear,
    ("wl_surface", "attach"): None,
    ("wl_surface", "commit"): _commit_ready,
    ("wp_image_description_creator_icc_v1", "create"): _profile_ready,
    ("zwlr_data_control_device_v1", "set_primary_selection"): _selections_known,
    ("zwlr_data_control_device_v1", "set_selection"): _selections_known,
}
"""What requests need; others need the buffers that they name."""


def _needs(spec: MessageSpec) -> Needs | None:
    if (spec.interface, spec.name) in _NEEDS:
        return _NEEDS[spec.interface, spec.name]
    names_buffer = any(
        arg.kind is ArgKind.OBJECT and arg.interface == "wl_buffer" for arg in spec.args
    )
    return _buffers_ready if names_buffer else None
