"""What is copied, selected or dragged: which way it may go, and as which MIME types.

The policy decides (`relay.policy_tree`).  What the compositor offers is kept from the app until it is
known what it is: only then is it told of it, or not at all, so that an app does not learn that the
host's selection has changed which it may not read.  A request that is refused has no effect, and the
pipe of one that asks for data ends at once: apps take that for a paste of nothing.

Clipboard managers of the guest may be bound to selections of the VM's own.  These are known by a MIME type more,
with the VM's name, that the compositor is told of a source and no app of any guest is: so that none can
offer it, and it does not matter which connection hears first that a selection is another one's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.wayland.wire import read_arguments, request_spec
from wlproxy.relay.commands import AskUser
from wlproxy.relay.commands import Direction as Way
from wlproxy.relay.policy_tree import Clipboard, Managers
from wlproxy.relay.questions import Held, about
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import ProtocolObject

CONTROL: Final = "_data_control_"
"""In the names of what manages clipboards: ext-data-control and wlr-data-control."""

CLIPBOARD, PRIMARY, DRAG = "clipboard", "primary", "drag"
"""What something is offered for, by the names that `Policy` has for it."""

MAX_TYPE: Final = 1024
"""Bytes of a MIME type; registered ones have 255 at most (RFC 6838, section 4.2)."""

SELECTION_USES: Final[Mapping[tuple[str, str], str]] = {
    ("ext_data_control_device_v1", "primary_selection"): PRIMARY,
    ("ext_data_control_device_v1", "selection"): CLIPBOARD,
    ("ext_data_control_device_v1", "set_primary_selection"): PRIMARY,
    ("ext_data_control_device_v1", "set_selection"): CLIPBOARD,
    ("gtk_primary_selection_device", "selection"): PRIMARY,
    ("gtk_primary_selection_device", "set_selection"): PRIMARY,
    ("wl_data_device", "selection"): CLIPBOARD,
    ("wl_data_device", "set_selection"): CLIPBOARD,
    ("zwlr_data_control_device_v1", "primary_selection"): PRIMARY,
    ("zwlr_data_control_device_v1", "selection"): CLIPBOARD,
    ("zwlr_data_control_device_v1", "set_primary_selection"): PRIMARY,
    ("zwlr_data_control_device_v1", "set_selection"): CLIPBOARD,
    ("zwp_primary_selection_device_v1", "selection"): PRIMARY,
    ("zwp_primary_selection_device_v1", "set_selection"): PRIMARY,
}
"""(interface, message) that makes a selection of something, to which."""

MARKS: Final = b"application/x.wlproxy.vm."
"""What the MIME types begin with that say whose a selection is."""

_SOURCES: Final = frozenset(
    {
        "ext_data_control_source_v1",
        "gtk_primary_selection_source",
        "wl_data_source",
        "zwlr_data_control_source_v1",
        "zwp_primary_selection_source_v1",
    }
)


@dataclass(slots=True, eq=False)
class Source:
    """What an app offers.

    Attributes:
        types: what the compositor is yet to be told.
        told: how many it was told.
        use: what it is; empty: that is not known yet, and the compositor knows no type of it.
        shown: the user was asked about it: it has no types but those that they were told of.
    """

    types: list[bytes] = field(default_factory=list)
    told: int = 0
    use: str = ""
    shown: bool = False


@dataclass(slots=True, eq=False)
class Offer:
    """What the compositor offers.

    Attributes:
        types: what the app is yet to be told.
        told: how many it was told.
        use: what it is; empty: that is not known yet, and the app knows nothing of it.
        actions: what its source would do with it, as it said before the app knew it.
        seat: where it is offered.
        own: an app of this VM has copied it.
    """

    types: list[bytes] = field(default_factory=list)
    told: int = 0
    use: str = ""
    actions: int | None = None
    seat: int | None = None
    own: bool = False


@dataclass(slots=True, eq=False)
class DataDevice:
    """What an app has been told by a device.

    Attributes:
        shown: selections that it has, or was last told that there are none.
        told: those of which it was told anything.
        hides: a drag is above its window of which it knows nothing.
    """

    shown: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    hides: bool = False


# ---------------------------------------------------------------- the guest offers


def add_type(state: ClientState, request: Request) -> None:
    """`offer` of a source: a MIME type, which is kept until it is known what for."""
    source, name = _source(request.object), request.array("mime_type")
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
    rules = _rules(state, use)
    seat = state.gestures.seat_of(request.object)
    if rules.direction.to_host and _asked(state, rules, seat, use, Way.TO_COMPOSITOR):
        state.questions.drop(request.object)  # which is older
        _settle(state, request, use)
        state.forward(request)
    elif not (rules.direction.to_host and _ask_to_copy(state, request, use)):
        state.questions.drop(request.object)
        state.context.debug(
            f"policy: {use}.direction keeps {request.spec} from the host"
        )


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
    _settle(state, request, DRAG)
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


def _settle(state: ClientState, request: Request, use: str) -> None:
    """Say what a source is from now on, and tell the compositor of the types that it may have."""
    source_id = request.integer("source")
    entry = state.context.objects.guest(source_id) if source_id else None
    if entry is None or entry.interface.name not in _SOURCES:  # which is refused
        return
    source, before = _source(entry), _source(entry).use
    source.use = use
    if not before and _marks(state, use):
        state.context.send(entry, "offer", (_mark(state),))
    types, source.types = source.types, []
    for name in types:
        if _may_cross(_rules(state, use), source.told, name):
            source.told += 1
            state.context.send(entry, "offer", (name,))


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
        offer.own = offer.own or name == _mark(state)
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
    # Managers wait for the first, which they are promised.
    first = _is_managers(event.object) and use not in device.told
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
    only_own = _is_managers(asker) and rules.managers is Managers.OWN
    if only_own and not offer.own:
        return False
    return rules.direction.to_guest


def _is_managers(entry: ProtocolObject) -> bool:
    return CONTROL in entry.interface.name


def _marks(state: ClientState, use: str) -> bool:
    """Whether a clipboard manager of the guest may have to know whose a selection is."""
    there = state.context.config.policy.globals.caps
    own = _rules(state, use).managers is Managers.OWN
    return own and any(CONTROL in each for each in there)


def _mark(state: ClientState) -> bytes:
    return MARKS + state.context.config.vm_name.encode()


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
    source_id = request.integer("source")
    entry = state.context.objects.guest(source_id) if source_id else None
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
    manages = _is_managers(held.object)
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
