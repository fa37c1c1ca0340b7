"""xdg-session-management: an app goes on with a session that an app of its VM has begun, and with no other.

Ids are translated (`relay.names`).  One that is nobody's begins a new session, as the protocol has it for
an id that the compositor does not know: so one of the host's apps, or of another VM's, is neither taken
over nor told that it was.  Names are known as long as the agent is connected; after that an app begins anew.
An app that begins too many loses its oldest, and no other app any of its.
"""

from typing import Final

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.names import Session
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import IGNORED, MUTED, ProtocolObject

LAUNCH: Final = 1
"""`xdg_session_manager_v1.reason`."""


def get(state: ClientState, request: Request) -> None:
    """`get_session`: by the compositor's id, or a new one; where there is no room for that, it does nothing."""
    context = state.context
    sessions, app = context.shared.sessions, context.executable
    name = request.string("session_id")
    session = None if name is None else sessions.go_on(name)
    if session is None:
        for displaced, original in sessions.displace(app).items():
            _forget(state, request.object, displaced, original)
        session = sessions.begin(app)
    if session is None:
        context.warn("too many sessions are begun")
        state.add_muted(request)
        return
    args = (request.new_id, request.integer("reason"), sessions.original(session))
    state.forward(request, args)
    context.objects.guest(request.new_id).role = session


def _forget(
    state: ClientState, manager: ProtocolObject, name: str, original: bytes
) -> None:
    """Have the compositor forget a session for which there is no room any more.

    One that the app uses can be removed by that object alone: to get it a second time is an error
    (`in_use`).  From any other app it is taken, which that app is told by the compositor.
    """
    context = state.context
    context.warn("too many sessions are begun: the oldest is forgotten")
    for entry in context.objects.guest_objects():
        role = entry.role
        if isinstance(role, Session) and role.name == name and entry.host_id:
            context.send(context.objects.detach_host(entry), "remove")
            entry.role = MUTED
            context.send_event(entry, "replaced")
            return
    interface = INTERFACES["xdg_session_v1"]
    taken = context.objects.add_own(interface, manager.version, IGNORED)
    context.send(manager, "get_session", (taken.host_id, LAUNCH, original))
    context.send(taken, "remove")


def name_id(state: ClientState, event: Event) -> None:
    """`created` of a session: another id, for this VM alone."""
    session = event.object.role
    if isinstance(session, Session):  # else the app has just removed it
        sessions = state.context.shared.sessions
        name = sessions.name(session, event.array("session_id"))
        state.context.send_event(event.object, "created", (name,))


def remove(state: ClientState, request: Request) -> None:
    """`remove` of a session, which ends it for good."""
    session = request.object.role
    if isinstance(session, Session):
        request.object.role = None
        state.context.shared.sessions.remove(session)
    state.forward(request)
