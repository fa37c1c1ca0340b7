"""`ext_foreign_toplevel_list_v1`: only windows of the VM are in the list, so that only they can be captured.

Which those are is told by their app ids, which we have put the VM's name into (`relay.labels`) before the
compositor knows anything else of a window.  So a handle is kept from the app until all has been said of
it, and given back to the compositor if it is of somebody else's window.
"""

from dataclasses import dataclass, field

from wlproxy.relay import labels
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event
from wlproxy.relay.wire.objects import ProtocolObject


@dataclass(slots=True, eq=False)
class Listed:
    """The role of a window's handle.

    Attributes:
        shown_by: the list that it is in.
        said: what the compositor has said of it, event by event, before the app knew it.
        told: the app knows it.
    """

    shown_by: ProtocolObject
    said: dict[str, bytes] = field(default_factory=dict)
    told: bool = False


def introduce(state: ClientState, event: Event) -> None:
    """`toplevel` of the list: whose it is, is not known yet."""
    (host_id,) = event.numbers
    spec = event.spec
    state.enter_unseen(host_id, spec.args[0], event.object.version)
    entry = state.context.objects.host(host_id)
    assert entry is not None
    entry.role = Listed(event.object)


def describe(state: ClientState, event: Event) -> None:
    """`title`, `app_id`, `identifier` of a handle: kept until it is known whose it is."""
    listed, name = event.object.role, event.spec.name
    if isinstance(listed, Listed) and not listed.told:
        listed.said[name] = event.array(name)
        return
    if name != "app_id" or _is_own(state, event.array(name)):
        state.forward_event(event.object, event.spec, event.raw)


def finish(state: ClientState, event: Event) -> None:
    """`done` of a handle: now it is known."""
    entry, context = event.object, state.context
    listed = entry.role
    if not isinstance(listed, Listed) or listed.told:
        state.forward_event(entry, event.spec, event.raw)
        return
    app_id = listed.said.get("app_id", b"")
    if not listed.shown_by.guest_id or not _is_own(state, app_id):
        state.give_back(entry.host_id)
        return
    said, listed.said, listed.told = listed.said, {}, True
    guest_id = context.objects.give_guest_id(entry)
    context.send_event(listed.shown_by, "toplevel", (guest_id,))
    for name, text in said.items():
        context.send_event(entry, name, (text,))
    context.send_event(entry, "done")


def close(state: ClientState, event: Event) -> None:
    """`closed` of a handle, of which the app may know nothing."""
    listed = event.object.role
    if isinstance(listed, Listed) and not listed.told:
        state.give_back(event.object.host_id)
        return
    state.forward_event(event.object, event.spec, event.raw)


def _is_own(state: ClientState, app_id: bytes) -> bool:
    own = labels.app_id(state.context.config.vm_name)
    return app_id == own or app_id.startswith(own + b".")
