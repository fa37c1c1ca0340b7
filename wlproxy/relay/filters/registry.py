"""`wl_registry` and `wl_display`: which globals exist, errors, and freed ids.

A global that policy or our tables do not allow is never advertised; nothing else in the
relay needs to hide anything.
"""

from wlproxy.protocol.wayland.interfaces import INTERFACES
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError, NewId
from wlproxy.relay.buffers import Buffer
from wlproxy.relay.commands import TraceLevel
from wlproxy.relay.context import Context, Global
from wlproxy.relay.state import ClientState, Event, Request


def advertise(state: ClientState, event: Event) -> None:
    """`wl_registry.global`: remember it, and pass it on if the guest may have it."""
    message, context = event.message, state.context
    name = message.integer(0)
    interface = (message.string(1) or b"").decode("utf-8", "replace")
    known = Global(interface, message.integer(2))
    context.globals[name] = known
    version = offered_version(context, known)
    if version:
        args = (name, interface.encode(), version)
        context.send_event(event.entry, "global", args)


def withdraw(state: ClientState, event: Event) -> None:
    """`wl_registry.global_remove`: only of what the guest was told about.

    The name stays known: a guest that binds it meanwhile is in a race, not in error.
    """
    name = event.message.integer(0)
    known = state.context.globals.get(name)
    if known is not None and offered_version(state.context, known):
        state.context.send_event(event.entry, "global_remove", (name,))


def bind(state: ClientState, request: Request) -> None:
    """`wl_registry.bind`: of what was advertised, up to the version that was."""
    message, context = request.message, state.context
    name, wanted = message.integer(0), message.new_id(1)
    interface = wanted.interface.decode("utf-8", "replace")
    known = context.globals.get(name)
    version = offered_version(context, known) if known is not None else 0
    if known is None or not version or known.interface != interface:
        raise context.fail(
            request.entry,
            DisplayError.INVALID_OBJECT,
            f"invalid global {interface} ({name})",
        )
    if not 0 < wanted.version <= version:
        raise context.fail(
            request.entry,
            DisplayError.INVALID_OBJECT,
            f"invalid version for global {interface} ({name}): "
            f"have {version}, wanted {wanted.version}",
        )
    entry = context.objects.add_guest(
        wanted.object_id, INTERFACES[interface], wanted.version
    )
    host_id = context.objects.give_host_id(entry)
    new_id = NewId(wanted.interface, wanted.version, host_id)
    context.send(request.entry, "bind", (name, new_id))


def report_error(state: ClientState, event: Event) -> None:
    """`wl_display.error`: tell the guest, about its own object."""
    message, context = event.message, state.context
    host_id, code = message.integer(0), message.integer(1)
    text = message.string(2) or b""
    culprit = context.objects.host(host_id)
    guest_id = culprit.guest_id if culprit is not None else 0
    if culprit is not None and isinstance(culprit.role, Buffer):
        # Perhaps the pool behind it, which refused the buffer's format.
        guest_id = culprit.role.entry.guest_id
    context.trace(
        TraceLevel.WARNING,
        f"protocol error {code} about {culprit!r}: {text.decode('utf-8', 'replace')}",
    )
    if not guest_id:
        # An object of the proxy's own: its codes would mean nothing to the guest.
        guest_id, code = DISPLAY_ID, DisplayError.IMPLEMENTATION
    context.send_event(context.objects.display, "error", (guest_id, code, text))


def free_id(state: ClientState, event: Event) -> None:
    """`wl_display.delete_id`: free both ids of the object."""
    context = state.context
    entry = context.objects.delete_host(event.message.integer(0))
    if entry is not None and entry.guest_id:
        context.delete_guest_id(entry)


def offered_version(context: Context, known: Global) -> int:
    """Say up to which version the guest may bind a global; 0 if it may not."""
    return min(known.version, context.config.policy.get(known.interface, 0))
