"""`wl_registry` and `wl_display`: which globals exist, errors, and freed ids.

A global that policy or our tables do not allow is never advertised; nothing else in the
relay needs to hide anything.  One global is our own: linux-dmabuf (`relay.buffers.offer`), which
the compositor may have or not; its own is never passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError, NewId
from wlproxy.relay.buffers import offer
from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.policy import NEEDS_CLOCK
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.context import Context, Global
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import ProtocolObject, Question


@dataclass(slots=True)
class Registry:
    """A `wl_registry` of the guest.

    Attributes:
        told: it has our own global.
        question: what a bind waits for.
        postponed: names of globals that it will be told of once the clock is known.
    """

    told: bool = False
    question: Question | None = None
    postponed: set[int] = field(default_factory=set)


def destroy_registry(state: ClientState, request: Request) -> None:
    """`wl_fixes.destroy_registry`: from now on one of our own tells of globals.

    What we would say to it ourselves must end at once, as what the compositor says does.
    """
    entry = state.context.objects.guest(request.integer("registry"))
    if isinstance(entry.role, Registry):
        entry.role = None
        state.context.own_registry()
    state.forward(request)


def get_registry(state: ClientState, request: Request) -> None:
    """`wl_display.get_registry`: ours is there from the start."""
    created = state.forward_new(request)
    created.role = Registry()
    _advertise_own(state.context, created)


def advertise(state: ClientState, event: Event) -> None:
    """`wl_registry.global`: remember it, and pass it on if the guest may have it."""
    name, context = event.integer("name"), state.context
    interface = event.string("interface") or b""
    context.globals[name] = _global(interface, event.integer("version"))
    context.withdrawn.discard(name)
    if not isinstance(event.object.role, Registry):
        return  # our own, or at its end
    if name != offer.GLOBAL_NAME:
        _advertise(context, event.object, name)
    _advertise_own(context, event.object)


@lru_cache(maxsize=1024)
def _global(interface: bytes, version: int) -> Global:
    """Make a global, once for all apps, which are all told of the same ones."""
    return Global(interface.decode("utf-8", "replace"), version)


def advertise_postponed(context: Context) -> None:
    """Tell of the globals that had to wait for the guest's clock."""
    for entry in context.objects.guest_objects():
        if isinstance(entry.role, Registry):
            names, entry.role.postponed = entry.role.postponed, set()
            for name in sorted(names):
                _advertise(context, entry, name)


def advertise_changed(context: Context, before: Mapping[str, int]) -> None:
    """Tell of what another policy offers, and take back what it does not.

    One that is offered in another version is another global to an app: it goes, and comes.
    What an app has bound it keeps.

    Args:
        context: the client's.
        before: what the policy allowed: interface to highest version.
    """
    caps = context.config.policy.globals.caps
    changed = {
        name
        for name in before.keys() | caps.keys()
        if before.get(name, 0) != caps.get(name, 0)
    }
    registries = [
        entry
        for entry in context.objects.guest_objects()
        if isinstance(entry.role, Registry)
    ]
    for name, known in context.globals.items():
        if known.interface not in changed or name in context.withdrawn:
            continue
        was = min(known.version, before.get(known.interface, 0))
        if was == offered_version(context, name):
            continue
        for entry in registries:
            assert isinstance(entry.role, Registry)
            hidden = name in entry.role.postponed
            entry.role.postponed.discard(name)
            if was and not hidden and known.interface != offer.INTERFACE:
                context.send_event(entry, "global_remove", (name,))
            _advertise(context, entry, name)
    for entry in registries:
        _advertise_own(context, entry)


def withdraw(state: ClientState, event: Event) -> None:
    """`wl_registry.global_remove`: only of what the guest was told about.

    The name stays known: a guest that binds it meanwhile is in a race, not in error.
    """
    context, name = state.context, event.integer("name")
    context.withdrawn.add(name)
    state.gestures.lose(name)  # if it is a seat
    if not isinstance(event.object.role, Registry):
        return
    event.object.role.postponed.discard(name)
    if name != offer.GLOBAL_NAME and offered_version(context, name):
        context.send_event(event.object, "global_remove", (name,))
    _advertise_own(context, event.object)


def may_judge_bind(state: ClientState, registry: ProtocolObject, name: int) -> bool:
    """Say whether it is certain what a name stands for; if not, find out.

    Names are the same on every connection of an app, so that it may bind what this one
    has not announced yet: a compositor answers that.  Which interface it is, and with it
    whether the guest may have it, only the compositor's own announcement tells; it comes
    before the answer to a sync, since the registry was asked for before.
    """
    context, role = state.context, registry.role
    if not isinstance(role, Registry):
        return True  # `bind` refuses it
    known = name in context.globals or name == offer.GLOBAL_NAME
    if known or (role.question is not None and role.question.answered):
        role.question = None
        return True
    if role.question is None:
        role.question = Question()
        context.when_compositor_reached(role.question)
    return False


def bind(state: ClientState, request: Request) -> None:
    """`wl_registry.bind`: of what may be advertised, up to the version that may."""
    context, name = state.context, request.integer("name")
    if not isinstance(request.object.role, Registry):
        raise request.error(DisplayError.INVALID_OBJECT, "the registry is destroyed")
    wanted = request.bound
    interface = wanted.interface.decode("utf-8", "replace")
    version = offered_version(context, name)
    if not version or _interface(context, name) != interface:
        raise request.error(
            DisplayError.INVALID_OBJECT, f"invalid global {interface} ({name})"
        )
    if not 0 < wanted.version <= version:
        raise request.error(
            DisplayError.INVALID_OBJECT,
            f"invalid version for global {interface} ({name}): "
            f"have {version}, wanted {wanted.version}",
        )
    entry = context.objects.add_guest(
        wanted.object_id, INTERFACES[interface], wanted.version
    )
    if name == offer.GLOBAL_NAME:
        offer.introduce(context, entry)
        return
    host_id = context.objects.give_host_id(entry)
    new_id = NewId(wanted.interface, wanted.version, host_id)
    context.send(request.object, "bind", (name, new_id))
    if interface == "wl_seat":
        state.gestures.add_seat(entry, name)


def report_error(state: ClientState, event: Event) -> None:
    """`wl_display.error`: tell the guest, about its own object."""
    context = state.context
    host_id, code = event.integers("object_id", "code")
    text = event.string("message") or b""
    culprit = context.objects.host(host_id)
    guest_id = culprit.guest_id if culprit is not None else 0
    if culprit is not None and isinstance(culprit.role, Buffer):
        # Perhaps the pool behind it, which refused the buffer's format.
        guest_id = culprit.role.object.guest_id
    context.warn(
        f"protocol error {code} about {culprit!r}: {text.decode('utf-8', 'replace')}"
    )
    if not guest_id:
        # An object of the proxy's own: its codes would mean nothing to the guest.
        guest_id, code = DISPLAY_ID, DisplayError.IMPLEMENTATION
    context.send_event(context.objects.display, "error", (guest_id, code, text))


def free_id(state: ClientState, event: Event) -> None:
    """`wl_display.delete_id`: free both ids of the object."""
    context = state.context
    (host_id,) = event.numbers
    entry = context.objects.delete_host(host_id)
    if entry is not None and entry.guest_id:
        context.delete_guest_id(entry)


def offered_version(context: Context, name: int) -> int:
    """Say up to which version the guest may bind a global; 0 if it may not."""
    if name == offer.GLOBAL_NAME:
        return offer.offered_version(context)
    known = context.globals.get(name)
    if known is None or known.interface == offer.INTERFACE:
        return 0
    if _needs_clock(context, known.interface):
        return 0
    return min(
        known.version, context.config.policy.globals.caps.get(known.interface, 0)
    )


def _needs_clock(context: Context, interface: str) -> bool:
    return interface in NEEDS_CLOCK and not context.clock.trusted


def _advertise(context: Context, registry: ProtocolObject, name: int) -> None:
    """Tell a registry of a global, if the guest may have it, and it is time."""
    interface = context.globals[name].interface
    if version := offered_version(context, name):
        args = (name, interface.encode(), version)
        context.send_event(registry, "global", args)
    elif _needs_clock(context, interface) and isinstance(registry.role, Registry):
        registry.role.postponed.add(name)


def _interface(context: Context, name: int) -> str:
    if name == offer.GLOBAL_NAME:
        return offer.INTERFACE
    return context.globals[name].interface


def _advertise_own(context: Context, registry: ProtocolObject) -> None:
    """Tell a registry that our own global has come, or gone, since it was last told."""
    role, shown = registry.role, offer.is_advertised(context)
    if not isinstance(role, Registry) or role.told == shown:
        return
    role.told = shown
    if shown:
        version = offer.offered_version(context)
        args = (offer.GLOBAL_NAME, offer.INTERFACE.encode(), version)
        context.send_event(registry, "global", args)
    else:
        context.send_event(registry, "global_remove", (offer.GLOBAL_NAME,))
