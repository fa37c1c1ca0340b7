"""Windows: titles, app ids and the like carry the VM's name (`relay.labels`).

Every shell that our tables know is covered, allowed by default or not.  Names of sessions
(xdg-session-management) go as they are: they are keys, and no person reads them.
"""

from wlproxy.protocol.errors import LimitExceededError
from wlproxy.protocol.wayland.message import DisplayError
from wlproxy.relay import labels
from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.configured import Configured
from wlproxy.relay.state import ClientState, surface_of
from wlproxy.relay.wire.forwarding import Request


def get_xdg_surface(state: ClientState, request: Request) -> None:
    """`get_xdg_surface`: remember whose surface it is."""
    surface = state.named_surface(request)
    state.forward_new(request).role = surface


def get_toplevel(state: ClientState, request: Request) -> None:
    """`get_toplevel`: label the window before the app says anything."""
    surface = request.object.role
    _label(state, request, surface, "set_app_id")
    assert isinstance(surface, Surface)
    surface.configured = Configured(request.object)


def get_shell_surface(state: ClientState, request: Request) -> None:
    """`wl_shell.get_shell_surface`: the same."""
    _label(state, request, state.named_surface(request), "set_class")


def get_layer_surface(state: ClientState, request: Request) -> None:
    """`zwlr_layer_shell_v1.get_layer_surface`: its namespace is for rules, as an app id is."""
    names = ("new_id", "surface", "output", "layer")
    namespace = labels.plain(request.array("namespace"))
    label = labels.app_id(_vm_name(state), namespace)
    state.forward(request, (*request.integers(*names), label))


def set_title(state: ClientState, request: Request) -> None:
    """`set_title`: "[VM] title"."""
    text = labels.plain(request.array("title"))
    surface_of(request).title = text
    state.forward(request, (labels.title(_vm_name(state), text),))


def set_app_id(state: ClientState, request: Request) -> None:
    """`set_app_id`: "wlproxy.VM.app_id"."""
    _set_app_id(state, request, request.array("app_id"))


def set_class(state: ClientState, request: Request) -> None:
    """`wl_shell_surface.set_class`: the same."""
    _set_app_id(state, request, request.array("class_"))


def set_activating_app_id(state: ClientState, request: Request) -> None:
    """`xdg_activation_token_v1.set_app_id`: the same, of who wants attention."""
    text = labels.plain(request.array("app_id"))
    state.forward(request, (labels.app_id(_vm_name(state), text),))


def set_icon_name(state: ClientState, request: Request) -> None:
    """`xdg_toplevel_icon_v1.set_name`: of the host's theme, nothing else."""
    text = labels.plain(request.array("icon_name"))
    state.forward(request, (labels.icon_name(text),))


def set_tag(state: ClientState, request: Request) -> None:
    """`set_toplevel_tag`: for window rules, as an app id is."""
    tag = labels.app_id(_vm_name(state), labels.plain(request.array("tag")))
    state.forward(request, (request.integer("toplevel"), tag))


def set_description(state: ClientState, request: Request) -> None:
    """`set_toplevel_description`: read by people, as a title is."""
    text = labels.title(_vm_name(state), labels.plain(request.array("description")))
    state.forward(request, (request.integer("toplevel"), text))


def set_feedback(state: ClientState, request: Request) -> None:
    """`set_feedback` of a tablet's buttons: the compositor shows it over everything, as a title."""
    text = labels.title(_vm_name(state), labels.plain(request.array("description")))
    place = request.spec.places["description"]
    args = (*request.args[:place], text, *request.args[place + 1 :])
    state.forward(request, args)


def _label(
    state: ClientState, request: Request, surface: object, set_app_id: str
) -> None:
    most = state.context.config.policy.windows.max_windows
    if isinstance(surface, Surface) and not state.surfaces.open_window(surface, most):
        raise LimitExceededError(
            request.object.guest_id,
            DisplayError.NO_MEMORY,
            f"wlproxy: over {most} windows (windows.max-windows)",
        )
    created = state.forward_new(request)
    assert isinstance(surface, Surface)
    created.role = surface
    surface.is_window = True
    state.context.send(created, "set_title", (labels.title(_vm_name(state)),))
    state.context.send(created, set_app_id, (labels.app_id(_vm_name(state)),))


def _set_app_id(state: ClientState, request: Request, said: bytes) -> None:
    text = labels.plain(said)
    surface_of(request).app_id = text
    state.forward(request, (labels.app_id(_vm_name(state), text),))


def _vm_name(state: ClientState) -> str:
    return state.context.config.vm_name
