"""What windows ask of the desktop: to fill the screen, to hold the pointer, to keep it from going dark.

The policy decides (`relay.policy_tree`).  Protocols leave each of these to the compositor, so that an app
which is refused sees what it would see of a compositor that does not care to: an object on which
nothing ever happens, or a configuration without what was asked for.
"""

from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.configured import Configured
from wlproxy.relay.policy_tree import Fullscreen, Switch, Windows
from wlproxy.relay.state import ClientState, surface_of
from wlproxy.relay.wire.forwarding import Event, Request

FULLSCREEN = 3
"""In `xdg_toplevel.wm_capabilities`."""


def set_fullscreen(state: ClientState, request: Request) -> None:
    """`set_fullscreen`: refused, it is answered: by what the window was told last."""
    if _policy(state).fullscreen is Fullscreen.OFF:
        _repeat(state, request)
        return
    state.forward(request)


def unset_fullscreen(state: ClientState, request: Request) -> None:
    """`unset_fullscreen`: where it was refused, the same.

    Some compositors have a window that fills no screen go elsewhere for it.  What the user's
    own key began may be ended.
    """
    told = surface_of(request).configured
    fills = told is not None and told.fullscreen
    if _policy(state).fullscreen is Fullscreen.OFF and not fills:
        _repeat(state, request)
        return
    state.forward(request)


def note_state(state: ClientState, event: Event) -> None:
    """`xdg_toplevel.configure`: what the next serial stands for."""
    if (told := _configured(event)) is not None:
        width, height = event.integers("width", "height")
        told.begin((width, height, event.array("states")))
    state.forward_event(event.object, event.spec, event.raw)


def note_serial(state: ClientState, event: Event) -> None:
    """`xdg_surface.configure`: that is what the window is told."""
    if (told := _configured(event)) is not None:
        told.end(event.integer("serial"))
    state.forward_event(event.object, event.spec, event.raw)


def acknowledge(state: ClientState, request: Request) -> None:
    """`xdg_surface.ack_configure`: the compositor hears it once."""
    told = surface_of(request).configured
    if told is None or told.acknowledge(request.integer("serial")):
        state.forward(request)


def _configured(event: Event) -> Configured | None:
    surface = event.object.role
    return surface.configured if isinstance(surface, Surface) else None


def _repeat(state: ClientState, request: Request) -> None:
    told = surface_of(request).configured
    if told is not None:
        told.repeat(state.context, request.object)


def set_shell_fullscreen(state: ClientState, request: Request) -> None:
    """`wl_shell_surface.set_fullscreen`: refused, it is a window like another."""
    if _policy(state).fullscreen is Fullscreen.OFF:
        state.context.send(request.object, "set_toplevel")
        return
    state.forward(request)


def offer_capabilities(state: ClientState, event: Event) -> None:
    """`xdg_toplevel.wm_capabilities`: without what is refused anyway."""
    said = event.array("capabilities")
    words = [said[place : place + 4] for place in range(0, len(said), 4)]
    refused = FULLSCREEN.to_bytes(4, "little")
    if _policy(state).fullscreen is not Fullscreen.OFF or refused not in words:
        state.forward_event(event.object, event.spec, event.raw)
    elif event.object.guest_id:
        left = b"".join(word for word in words if word != refused)
        state.context.send_event(event.object, event.spec.name, (left,))


def activate(state: ClientState, request: Request) -> None:
    """`xdg_activation_v1.activate`: refused, it is as if the token were no good."""
    if _policy(state).activation is Switch.ON:
        state.forward(request)


def set_icon(state: ClientState, request: Request) -> None:
    """`xdg_toplevel_icon_manager_v1.set_icon`: refused, the window has the desktop's."""
    if _policy(state).icons is Switch.ON:
        state.forward(request)


def inhibit_idle(state: ClientState, request: Request) -> None:
    """`zwp_idle_inhibit_manager_v1.create_inhibitor`: refused, it inhibits nothing."""
    _unless(state, request, _policy(state).idle_inhibition)


def lock_pointer(state: ClientState, request: Request) -> None:
    """`zwp_pointer_constraints_v1.lock_pointer`: refused, it is never `locked`."""
    _unless(state, request, state.context.config.policy.pointer.lock)


def confine_pointer(state: ClientState, request: Request) -> None:
    """`zwp_pointer_constraints_v1.confine_pointer`: likewise."""
    _unless(state, request, state.context.config.policy.pointer.confine)


def warp_pointer(state: ClientState, request: Request) -> None:
    """`warp_pointer`, `set_cursor_position_hint`: refused, the pointer stays."""
    if state.context.config.policy.pointer.warp is Switch.ON:
        state.forward(request)


def set_destination(state: ClientState, request: Request) -> None:
    """`wp_viewport.set_destination`: a picture is stretched no further than it may be large."""
    windows = _policy(state)
    width, height = request.numbers
    size = min(width, windows.max_width), min(height, windows.max_height)
    state.forward(request, None if size == (width, height) else size)


def close_window(state: ClientState, request: Request) -> None:
    """`destroy` of a window: the app may make another one."""
    surface = request.object.role
    if isinstance(surface, Surface):
        state.surfaces.close_window(surface)
        surface.configured = None
    state.forward(request)


def _unless(state: ClientState, request: Request, switch: Switch) -> None:
    """Forward what makes an object, or make one that does nothing."""
    if switch is Switch.ON:
        state.forward(request)
    else:
        state.add_muted(request)


def _policy(state: ClientState) -> Windows:
    return state.context.config.policy.windows
