"""What is copied, selected or dragged: which way it may go, and as which MIME types.

The policy decides (`relay.policy_tree`).  What the compositor offers is kept from the app until it is
known what it is: only then is it told of it, or not at all, so that an app does not learn that the
host's selection has changed which it may not read.  A request that is refused has no effect, and the
pipe of one that asks for data ends at once: apps take that for a paste of nothing.

Clipboard managers of the guest may be bound to selections of the VM's own (`relay.ownership`).
"""

from collections.abc import Sequence
from typing import Final

from wlproxy.protocol.wayland.message import DisplayError
from wlproxy.protocol.wayland.wire import read_arguments, request_spec
from wlproxy.relay.commands import AskUser
from wlproxy.relay.commands import Direction as Way
from wlproxy.relay.offers import (
    DRAG,
    SELECTION_USES,
    SOURCES,
    DataDevice,
    Offer,
    Source,
)
from wlproxy.relay.ownership import (
    INVALID_OFFER,
    MARKS,
    USED_SOURCE,
    controls,
    is_bound,
    mark,
    read_mark,
)
from wlproxy.relay.policy_tree import Clipboard, Direction, Managers
from wlproxy.relay.questions import Held, about
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import ProtocolObject, Question

MAX_TYPE: Final = 1024
"""Bytes of a MIME type; registered ones have 255 at most (RFC 6838, section 4.2)."""


# ---------------------------------------------------------------- the guest offers


def add_type(state: ClientState, request: Request) -> None:
    """`offer` of a source: a MIME type, which is kept until it is known what for."""
    source, name = _source(request.object), request.array("mime_type")
    if source.cancelled:
        raise request.error(INVALID_OFFER, "the source was set already")
    if name.startswith(MARKS):
        state.context.debug(f"{request.spec}: whose it is, is not for apps to say")
    elif source.shown:
        state.context.debug(f"{request.spec}: the user was asked without it")
    elif not source.use:
        if len(source.types) < _most_types(state) and len(name) <= MAX_TYPE:
            source.types.append(name)
    elif _may_cross(_rules(state, source.use), source.told, name):
        source.told += 1
        state.forward(request)


def set_selection(state: ClientState, request: Request) -> None:
    """`set_selection`: offers what a source has, or nothing more."""
    use = SELECTION_USES[request.spec.interface, request.spec.name]
    _check_source(state, request)
    rules = _rules(state, use)
    seat = state.gestures.seat_of(request.object)
    asked = state.gestures.allow(seat, about(use, Way.TO_COMPOSITOR))
    count = _count(state, request, use, asked=asked)
    if rules.direction.to_host and count is None:
        state.questions.drop(request.object)
        _cancel(state, request)
        state.context.debug(
            f"policy: {use}.managers keeps {request.spec} from the host"
        )
    elif rules.direction.to_host and rules.is_asked_for(gesture=asked):
        state.questions.drop(request.object)  # which is older
        _settle(state, request, use, count or 0)
        state.forward(request)
    elif not (rules.direction.to_host and _ask_to_copy(state, request, use)):
        state.questions.drop(request.object)
        state.context.debug(
            f"policy: {use}.direction keeps {request.spec} from the host"
        )


def knows_selections(state: ClientState, device: ProtocolObject, use: str) -> bool:
    """Whether it is known whose the selection is that a clipboard manager sets now; if not, ask."""
    if not _binds(device, _rules(state, use)):
        return True
    follower = _device(device).follower
    if follower.question is None:
        follower.question = Question()
        state.context.when_compositor_reached(follower.question)
    return follower.question.answered


def start_drag(state: ClientState, request: Request) -> None:
    """`wl_data_device.start_drag`: one without a source stays within the app anyway."""
    source_id = request.integer("source")
    if source_id and not state.context.config.policy.drag.direction.to_host:
        state.context.debug(
            f"policy: drag.direction keeps {request.spec} from the host"
        )
        source = state.context.objects.guest(source_id)
        if source.interface.name == "wl_data_source":
            state.context.send_event(source, "cancelled")
        return
    _settle(state, request, DRAG, 0)
    state.forward(request)


def give(state: ClientState, event: Event) -> None:
    """`send` of a source: the host reads, which it may not have been allowed to before."""
    role = event.object.role
    if isinstance(role, Source) and role.use:
        rules = _rules(state, role.use)
        name = event.array("mime_type")
        may_cross = rules.direction.to_host and rules.has_type(name)
        if not may_cross or name.startswith(MARKS):
            state.drop_fds(event.fds)
            return
        state.limit = rules.max_bytes
    state.forward_event(event.object, event.spec, event.raw, event.fds)
    state.limit = 0


def _count(
    state: ClientState, request: Request, use: str, *, asked: bool
) -> int | None:
    """Say what the mark of a selection is to count; None: there is to be no such selection."""
    follower, rules = _device(request.object).follower, _rules(state, use)
    follower.question = None  # the next one is asked anew
    # Where the user is asked if there was no gesture, that decides.
    if asked or rules.direction is Direction.ASK or not _binds(request.object, rules):
        return 0
    # Commands have no window: their terminal has. Any app could set a selection then.
    if state.gestures.allow_vm(state.gestures.seat_of(request.object)):
        return 0
    return follower.next_count(use, clears=not request.integer("source"))


def _binds(entry: ProtocolObject, rules: Clipboard) -> bool:
    """Whether an object is of a clipboard manager, which is bound to the VM's own."""
    return controls(entry) and rules.managers is Managers.OWN


def _check_source(state: ClientState, request: Request) -> None:
    """Judge what a clipboard manager sets as a compositor would, which may not hear of it.

    Raises:
        WaylandError: it is no source, or was set before.
    """
    entry = _named_source(state, request)
    if entry is None or not controls(request.object):
        return
    if entry.interface.name != request.spec.args[0].interface:
        raise request.error(DisplayError.INVALID_OBJECT, f"{entry} is no source")
    source = _source(entry)
    if source.use or source.cancelled:
        raise request.error(USED_SOURCE, "the source was set already")


def _cancel(state: ClientState, request: Request) -> None:
    """Have a clipboard manager know that its source is none, as if it was replaced at once."""
    entry = _named_source(state, request)
    if entry is not None:
        _source(entry).cancelled = True
        state.context.send_event(entry, "cancelled")


def _settle(state: ClientState, request: Request, use: str, count: int) -> None:
    """Say what a source is from now on, and tell the compositor of the types that it may have."""
    entry = _named_source(state, request)
    if entry is None or entry.interface.name not in SOURCES:  # which is refused
        return
    source, before = _source(entry), _source(entry).use
    source.use = use
    if not before and is_bound(state.context.config.policy, _rules(state, use)):
        own = mark(state.context.config.vm_name, count)
        state.context.send(entry, "offer", (own,))
    types, source.types = source.types, []
    for name in types:
        if _may_cross(_rules(state, use), source.told, name):
            source.told += 1
            state.context.send(entry, "offer", (name,))


def _named_source(state: ClientState, request: Request) -> ProtocolObject | None:
    source_id = request.integer("source")
    return state.context.objects.guest(source_id) if source_id else None


def _source(entry: ProtocolObject) -> Source:
    if not isinstance(entry.role, Source):
        entry.role = Source()
    return entry.role


# ---------------------------------------------------------------- the host offers


def introduce(state: ClientState, event: Event) -> None:
    """`data_offer`, `offer` of a device: what it is for is not known yet."""
    spec = event.spec
    assert spec.new_id_index is not None
    host_id = event.args[spec.new_id_index]
    assert isinstance(host_id, int)
    state.enter_unseen(host_id, spec.args[spec.new_id_index], event.object.version)
    entry = state.context.objects.host(host_id)
    assert entry is not None
    entry.role = Offer(seat=state.gestures.seat_of(event.object))


def keep_type(state: ClientState, event: Event) -> None:
    """`offer` of an offer: a MIME type, which is kept until it is known what for."""
    offer = event.object.role
    if not isinstance(offer, Offer):  # of what the app has destroyed
        return
    name = event.array("mime_type")
    if name.startswith(MARKS):
        if offer.count is None:
            offer.count = read_mark(state.context.config.vm_name, name)
    elif not offer.use:
        if len(offer.types) < _most_types(state) and len(name) <= MAX_TYPE:
            offer.types.append(name)
    elif _may_cross(_rules(state, offer.use), offer.told, name):
        offer.told += 1
        state.forward_event(event.object, event.spec, event.raw)


def keep_actions(state: ClientState, event: Event) -> None:
    """`wl_data_offer.source_actions`: likewise."""
    offer = event.object.role
    if isinstance(offer, Offer) and not offer.use:
        (offer.actions,) = event.numbers
        return
    state.forward_event(event.object, event.spec, event.raw)


def select(state: ClientState, event: Event) -> None:
    """`selection` of a device: it is a selection, if the app may know of it."""
    use = SELECTION_USES[event.spec.interface, event.spec.name]
    (offer_id,) = event.numbers
    device = _device(event.object)
    device.follower.hear(use, _count_of(state, offer_id), gone=not offer_id)
    # Managers wait for the first, which they are promised.
    first = controls(event.object) and use not in device.told
    if not offer_id:
        device.shown.discard(use)
        state.forward_event(event.object, event.spec, event.raw)
    elif _reveal(state, event, offer_id, use):
        device.shown.add(use)
        state.forward_event(event.object, event.spec, event.raw)
    elif event.object.guest_id and (first or use in device.shown):
        device.shown.discard(use)
        state.context.send_event(event.object, event.spec.name, (0,))
    device.told.add(use)


def enter(state: ClientState, event: Event) -> None:
    """`wl_data_device.enter`: a drag, if it may enter the guest."""
    device, offer_id = _device(event.object), event.integer("id")
    device.hides = bool(offer_id) and not _reveal(state, event, offer_id, DRAG)
    if not device.hides:
        state.forward_event(event.object, event.spec, event.raw)


def go_on_dragging(state: ClientState, event: Event) -> None:
    """`wl_data_device.motion`, `leave`, `drop`: of a drag that the app knows."""
    device = _device(event.object)
    if not device.hides:
        state.forward_event(event.object, event.spec, event.raw)
    elif event.spec.name != "motion":
        device.hides = False


def receive(state: ClientState, request: Request) -> None:
    """`receive` of an offer: the guest reads."""
    offer = request.object.role
    if not isinstance(offer, Offer) or not offer.use:  # none that the app could know
        state.forward(request)
        return
    use, name = offer.use, request.array("mime_type")
    rules = _rules(state, use)
    if _may_know(state, request.object, offer, use) and rules.has_type(name):
        if _asked(state, rules, offer.seat, use, Way.TO_GUEST):
            state.limit = rules.max_bytes
            state.forward(request)
            state.limit = 0
            return
        held = Held(request.object, request.raw, request.fds)
        if _ask(state, offer.seat, held, use, Way.TO_GUEST, [name]):
            return
    state.context.debug(f"policy: {use} keeps {request.spec} from the host")
    state.refuse_fds(request)


def _reveal(state: ClientState, event: Event, offer_id: int, use: str) -> bool:
    """Tell the app of an offer that is for this; or have the compositor know that nobody will."""
    objects, context = state.context.objects, state.context
    entry = objects.host(offer_id)
    if entry is None or not isinstance(entry.role, Offer):
        return True  # forwarding makes nothing of it, or finds the compositor's error
    offer = entry.role
    known = _may_know(state, event.object, offer, use)
    if offer.use:
        return known
    if not event.object.guest_id or not known:
        state.give_back(offer_id)
        return False
    offer.use = use
    guest_id = objects.give_guest_id(entry)
    context.send_event(event.object, _introduction(event.object), (guest_id,))
    types, offer.types = offer.types, []
    for name in types:
        if _may_cross(_rules(state, use), offer.told, name):
            offer.told += 1
            context.send_event(entry, "offer", (name,))
    if offer.actions is not None:
        context.send_event(entry, "source_actions", (offer.actions,))
    return True


def _may_know(
    state: ClientState, asker: ProtocolObject, offer: Offer, use: str
) -> bool:
    """Whether a device, or an offer of its, may have what is offered."""
    rules = _rules(state, use)
    if _binds(asker, rules) and offer.count is None:
        return False
    return rules.direction.to_guest


def _count_of(state: ClientState, offer_id: int) -> int | None:
    """Return what the mark of an offer counts, if it is the VM's own."""
    entry = state.context.objects.host(offer_id) if offer_id else None
    offer = entry.role if entry is not None else None
    return offer.count if isinstance(offer, Offer) else None


def _introduction(device: ProtocolObject) -> str:
    """Return the name of the event by which a device tells of an offer."""
    return next(
        each.name for each in device.interface.events if each.new_id_index is not None
    )


def _may_cross(rules: Clipboard, before: int, name: bytes) -> bool:
    """Whether one more MIME type may be told of, when so many were."""
    return before < rules.max_types and len(name) <= MAX_TYPE and rules.has_type(name)


def _most_types(state: ClientState) -> int:
    policy = state.context.config.policy
    return max(
        each.max_types for each in (policy.clipboard, policy.primary, policy.drag)
    )


def _device(entry: ProtocolObject) -> DataDevice:
    if not isinstance(entry.role, DataDevice):
        entry.role = DataDevice()
    return entry.role


def _rules(state: ClientState, use: str) -> Clipboard:
    rules: Clipboard = getattr(state.context.config.policy, use)
    return rules


def _asked(
    state: ClientState, rules: Clipboard, seat: int | None, use: str, way: Way
) -> bool:
    """Whether it was asked for by a gesture at that seat, if it has to be."""
    return rules.is_asked_for(gesture=state.gestures.allow(seat, about(use, way)))


# ---------------------------------------------------------------- the user is asked


def answer(state: ClientState, number: int, *, allowed: bool) -> None:
    """The user has answered: what waited goes on as after a gesture, or is refused."""
    asked = state.questions.answered(number)
    if asked is None:
        return
    if allowed:
        state.gestures.grant(asked.seat, asked.about)
    for held in asked.held:
        request = _request(held)
        if not allowed:
            state.context.debug(f"the user keeps {request.spec} from the host")
            state.refuse_fds(request)
        elif held.source is None:
            receive(state, request)
        else:
            set_selection(state, request)


def destroy(state: ClientState, request: Request) -> None:
    """`destroy` of what copies or pastes: nobody is asked about it any more."""
    for held in state.questions.drop(request.object):
        state.refuse_fds(_request(held))
    state.forward(request)


def _ask_to_copy(state: ClientState, request: Request, use: str) -> bool:
    """Ask whether a source may be offered to the host."""
    entry = _named_source(state, request)
    if entry is None or not isinstance(entry.role, Source):
        return False
    types = [name for name in entry.role.types if _rules(state, use).has_type(name)]
    seat = state.gestures.seat_of(request.object)
    held = Held(request.object, request.raw, source=entry)
    if not types or not _ask(state, seat, held, use, Way.TO_COMPOSITOR, types):
        return False
    entry.role.shown = True
    return True


def _ask(
    state: ClientState,
    seat: int | None,
    held: Held,
    use: str,
    way: Way,
    types: Sequence[bytes],
) -> bool:
    """Have a request wait for what the user says; False if they are not to be asked.

    What manages clipboards has no window: it may ask while they are busy with another of the VM.
    """
    manages = controls(held.object)
    if seat is None or not state.gestures.may_ask(seat, about_vm=manages):
        return False
    window, context = state.gestures.window(seat), state.context
    app = (window.app_id if window is not None else "") or context.label
    name, more = types[0].decode("utf-8", "replace"), len(types) - 1

    def make(number: int) -> AskUser:
        return AskUser(context.client_id, number, way, use, app, name, more)

    return state.questions.hold(seat, held, make)


def _request(held: Held) -> Request:
    entry, raw = held.object, held.raw
    spec = request_spec(entry.interface, entry.version, entry.guest_id, raw.opcode)
    return Request(entry, spec, raw, read_arguments(spec, raw.data), held.fds)
