"""xdg-foreign, both versions: an app's dialog over another app's window, if both are of one VM.

Handles are translated (`relay.names`): the compositor's never reach the guest, and only those that apps
of this VM were given can be imported.  Any other is answered as the protocol has it for one that is no
good: by `destroyed`, which also says nothing of whether the host or another VM has such a window.
"""

from wlproxy.relay.names import Export
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request


def export(state: ClientState, request: Request) -> None:
    """`export`, `export_toplevel`: one too many never gets a handle."""
    context = state.context
    lent = context.shared.exports.begin(context.client_id)
    if lent is not None:
        state.forward_new(request).role = lent
        return
    context.warn(f"{request.object.interface.name}: too many windows are exported")
    state.add_muted(request)


def name_handle(state: ClientState, event: Event) -> None:
    """`handle` of an exported window: another one, for this VM alone."""
    lent = event.object.role
    if isinstance(lent, Export):  # else the app has just destroyed it
        name = state.context.shared.exports.name(lent, event.array("handle"))
        state.context.send_event(event.object, "handle", (name,))


def stop_exporting(state: ClientState, request: Request) -> None:
    """`destroy` of an exported window."""
    lent = request.object.role
    if isinstance(lent, Export):
        request.object.role = None
        state.context.shared.exports.end(lent)
    state.forward(request)


def import_window(state: ClientState, request: Request) -> None:
    """`import`, `import_toplevel`: of what an app of this VM exports, by the host's handle for it."""
    context = state.context
    handle = context.shared.exports.find(request.array("handle"))
    if handle is not None:
        state.forward(request, (request.new_id, handle))
        return
    context.debug(f"{request.spec}: nobody in the VM exports such a window")
    context.send_event(state.add_muted(request), "destroyed")
