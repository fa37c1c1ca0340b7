"""xdg-session-management: an app goes on with a session that an app of its VM has begun, and with no other.

Ids are translated (`relay.names`).  One that is nobody's begins a new session, as the protocol has it for
an id that the compositor does not know: so one of the host's apps, or of another VM's, is neither taken
over nor told that it was.  Names are known as long as the agent is connected; after that an app begins anew.
"""

from wlproxy.relay.names import Session
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request


def get(state: ClientState, request: Request) -> None:
    """`get_session`: by the compositor's id, or a new one; one too many does nothing."""
    sessions = state.context.shared.sessions
    name = request.string("session_id")
    original = None if name is None else sessions.find(name)
    if name is not None and original is not None:
        session: Session | None = Session(name.decode())
    else:
        session = sessions.begin(state.context.client_id)
    if session is None:
        state.context.warn("too many sessions are begun")
        state.add_muted(request)
        return
    args = (request.new_id, request.integer("reason"), original)
    created = state.forward(request, args)
    assert created is not None
    created.role = session


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
