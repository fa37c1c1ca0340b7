"""xdg-shell where windows are framed: sizes and places with the frame, and without.

The app has those of its own window, the compositor those of the window and the frame around it.
Each function is given what is to be done about a message otherwise (`onward`).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from wlproxy.relay.configured import FULLSCREEN, State, has_state
from wlproxy.relay.frame.boxes import at
from wlproxy.relay.frame.layout import MOST, NONE, Insets
from wlproxy.relay.frame.window import Window
from wlproxy.relay.policy_tree import Fullscreen
from wlproxy.relay.state import ClientState, surface_of
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import ProtocolObject

Onward = Callable[[ClientState, Request], None]
OnwardEvent = Callable[[ClientState, Event], None]

TILED = (5, 6, 7, 8)
"""`xdg_toplevel.state`: something else is at each edge, so that nothing is drawn beyond."""

TILED_SINCE = 2
"""The version of `xdg_toplevel` that these came with."""


@dataclass(slots=True, eq=False)
class Positioner:
    """The role of an `xdg_positioner`, as far as frames change what it says.

    Attributes:
        size: of the popup; None until it is set.
        anchor: the anchor rectangle; None until it is set.
        parent_size: the size that the parent will have; None if that was not said.
    """

    size: tuple[int, int] | None = None
    anchor: tuple[int, int, int, int] | None = None
    parent_size: tuple[int, int] | None = None


@dataclass(slots=True, eq=False)
class Popup:
    """The role of an `xdg_popup`.

    Attributes:
        parent: the framed window that it is placed in; None if that is not framed.
        window: itself, with its frame; None if it has none.
    """

    parent: Window | None
    window: Window | None = None

    @property
    def insets(self) -> Insets:
        """How much wider it is than the app's own, as the compositor has it."""
        return NONE if self.window is None else self.window.insets


# ---------------------------------------------------------------- windows


def get_toplevel(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_surface.get_toplevel`: a window, which is to be framed."""
    surface = surface_of(request)
    onward(state, request)
    toplevel = state.context.objects.guest(request.new_id)
    frames = state.frames
    frames.add_window(surface, request.object, toplevel, frames.insets)


def destroy(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_toplevel.destroy`, `xdg_surface.destroy`: the frame goes after the window."""
    window = state.frames.window_of(request.object.role)
    onward(state, request)
    if window is not None:
        state.frames.end_window(window.node)


def set_window_geometry(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_surface.set_window_geometry`: the compositor hears of it with the frame."""
    x, y, width, height = request.numbers
    window = state.frames.window_of(request.object.role)
    if window is None or width <= 0 or height <= 0:
        onward(state, request)  # a popup; or an error, which the compositor will name
        return
    state.frames.claim(window, at(x, y, width, height))


def set_size_limit(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_toplevel.set_min_size`, `set_max_size`: that, and the frame."""
    width, height = request.numbers
    onward(state, request.saying(state.frames.insets.grow(width, height)))


def configure(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`xdg_toplevel.configure`: what the frame leaves, tiled at all edges.

    A window that fills the screen, and may do so without its frame, has all of it.
    """
    width, height = event.integers("width", "height")
    states = event.array("states")
    allowed = state.context.config.policy.windows.fullscreen
    bare = allowed is Fullscreen.ON and has_state(states, FULLSCREEN)
    if window := state.frames.window_of(event.object.role):
        state.frames.configure(window, bare=bare)
        if bare:
            onward(state, event)
            return
    if event.object.version >= TILED_SINCE:
        states += b"".join(
            struct.pack("=I", each) for each in TILED if not has_state(states, each)
        )
    onward(state, event.saying((*state.frames.insets.shrink(width, height), states)))


def take_frames_back(state: ClientState) -> None:
    """Another policy: a window that fills the screen has its frame, unless it may still be without.

    It is told the size that the frame leaves, by its last configuration: the compositor has no
    reason for another one.
    """
    if state.context.config.policy.windows.fullscreen is Fullscreen.ON:
        return
    for window in state.frames.windows.values():
        if not window.unframes or window.toplevel is None:
            continue
        state.frames.configure(window, bare=False)
        told = window.node.surface.configured
        if told is None:
            continue
        if told.open:  # and its serial, which is to come, ends it
            told.next = _within(window, told.next)
            state.context.send_event(window.toplevel, "configure", told.next)
        elif told.fullscreen:
            told.last = _within(window, told.last)
            told.repeat(state.context, window.toplevel)


def _within(window: Window, told: State) -> State:
    """Return what a window that was told to fill the screen is told when its frame does."""
    width, height, states = told
    return (*window.framed.shrink(width, height), states)


def end_configuration(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`xdg_surface.configure`."""
    if window := state.frames.window_of(event.object.role):
        window.end_configuration(event.integer("serial"))
    onward(state, event)


def acknowledge(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_surface.ack_configure`: from its next commit on, the window may be without a frame."""
    if window := state.frames.window_of(request.object.role):
        window.acknowledge(request.integer("serial"))
    onward(state, request)


def configure_bounds(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`xdg_toplevel.configure_bounds`: what the frame leaves."""
    width, height = event.integers("width", "height")
    onward(state, event.saying(state.frames.insets.shrink(width, height)))


def show_window_menu(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_toplevel.show_window_menu`: at a place in the window."""
    seat, serial, x, y = request.numbers
    x, y = _shifted(_insets_of(state, request.object), x, y)
    onward(state, request.saying((seat, serial, x, y)))


def drag(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_toplevel_drag_v1.attach`: likewise."""
    toplevel, x, y = request.numbers
    dragged = state.context.objects.guest(toplevel)
    x, y = _shifted(_insets_of(state, dragged), x, y)
    onward(state, request.saying((toplevel, x, y)))


def _insets_of(state: ClientState, window: ProtocolObject) -> Insets:
    """Say how much wider a window is than the app's own."""
    found = state.frames.window_of(window.role)
    return found.insets if found is not None else NONE


def _shifted(insets: Insets, x: int, y: int) -> tuple[int, int]:
    """Say where in the framed window a place in the app's is."""
    return _bounded(x + insets.left), _bounded(y + insets.top)


def _bounded(number: int) -> int:
    return min(max(number, -MOST - 1), MOST)


# ---------------------------------------------------------------- popups


def create_positioner(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_wm_base.create_positioner`."""
    onward(state, request)
    state.context.objects.guest(request.new_id).role = Positioner()


def set_size(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_positioner.set_size`: which popup has it, is not known yet."""
    width, height = request.numbers
    if isinstance(role := request.object.role, Positioner):
        role.size = (width, height)
    onward(state, request)


def set_anchor_rect(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_positioner.set_anchor_rect`: whose window that is in, is not known yet."""
    x, y, width, height = request.numbers
    if isinstance(role := request.object.role, Positioner):
        role.anchor = (x, y, width, height)
    onward(state, request)


def set_parent_size(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_positioner.set_parent_size`: likewise."""
    width, height = request.numbers
    if isinstance(role := request.object.role, Positioner):
        role.parent_size = (width, height)
    onward(state, request)


def get_popup(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_surface.get_popup`: placed in the framed window, and framed itself."""
    objects, frames = state.context.objects, state.frames
    surface, parent_id = surface_of(request), request.integer("parent")
    parent = objects.guest(parent_id).role if parent_id else None
    popup, insets = Popup(frames.window_of(parent)), frames.popup_insets
    positioner = objects.guest(request.integer("positioner"))
    _place(state, request, onward, positioner, popup.parent, insets)
    objects.guest(request.new_id).role = popup
    if insets != NONE:
        popup.window = frames.add_window(surface, request.object, None, insets)


def destroy_popup(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_popup.destroy`: the frame goes after it."""
    role = request.object.role
    onward(state, request)
    if isinstance(role, Popup) and role.window is not None:
        state.frames.end_window(role.window.node)


def reposition(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_popup.reposition`: the same."""
    role = request.object.role
    positioner = state.context.objects.guest(request.integer("positioner"))
    popup = role if isinstance(role, Popup) else Popup(None)
    _place(state, request, onward, positioner, popup.parent, popup.insets)


def configure_popup(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`xdg_popup.configure`: placed in the app's window."""
    role = event.object.role
    if isinstance(role, Popup):
        x, y, *size = event.integers("x", "y", "width", "height")
        around = role.parent.insets if role.parent is not None else NONE
        own = role.insets
        x, y = _bounded(x + own.left - around.left), _bounded(y + own.top - around.top)
        event = event.saying((x, y, *own.shrink(*size)))
    onward(state, event)


def _place(
    state: ClientState,
    request: Request,
    onward: Onward,
    positioner: ProtocolObject,
    parent: Window | None,
    own: Insets,
) -> None:
    """Pass a request on, with a positioner that knows of the frames meanwhile."""
    role, send = positioner.role, state.context.send
    if not isinstance(role, Positioner) or not positioner.host_id:
        onward(state, request)
        return
    around = parent.insets if parent is not None else NONE
    said: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    if role.size is not None:
        said.append(("set_size", role.size, own.grow(*role.size)))
    if role.anchor is not None:
        x, y, *size = role.anchor
        place = _shifted(around, x, y)
        said.append(("set_anchor_rect", role.anchor, (*place, *size)))
    if role.parent_size is not None:
        grown = around.grow(*role.parent_size)
        said.append(("set_parent_size", role.parent_size, grown))
    changed = [each for each in said if each[1] != each[2]]
    for name, _, framed in changed:
        send(positioner, name, framed)
    onward(state, request)
    # The app may use it again, for a popup of another parent's.
    for name, plain, _ in changed:
        send(positioner, name, plain)
