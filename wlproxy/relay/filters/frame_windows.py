"""xdg-shell where windows are framed: sizes and places with the frame, and without.

The app has those of its own window, the compositor those of the window and the frame around it.
Each function is given what is to be done about a message otherwise (`onward`).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from wlproxy.relay.frame.boxes import at
from wlproxy.relay.frame.frames import Frames
from wlproxy.relay.frame.layout import MOST
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
    """The role of an `xdg_positioner`, as far as it is about the parent.

    Attributes:
        anchor: the anchor rectangle; None until it is set.
        parent_size: the size that the parent will have; None if that was not said.
    """

    anchor: tuple[int, int, int, int] | None = None
    parent_size: tuple[int, int] | None = None


@dataclass(slots=True, eq=False)
class Popup:
    """The role of an `xdg_popup`.

    Attributes:
        framed: its parent is a framed window.
    """

    framed: bool


# ---------------------------------------------------------------- windows


def get_toplevel(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_surface.get_toplevel`: a window, which is to be framed."""
    surface = surface_of(request)
    onward(state, request)
    toplevel = state.context.objects.guest(request.new_id)
    state.frames.add_window(surface, request.object, toplevel)


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
    """`xdg_toplevel.configure`: what the frame leaves, tiled at all edges."""
    width, height = event.integers("width", "height")
    states = event.array("states")
    if event.object.version >= TILED_SINCE:
        known = {
            each for (each,) in struct.iter_unpack("=I", states[: len(states) & ~3])
        }
        states += b"".join(
            struct.pack("=I", each) for each in TILED if each not in known
        )
    onward(state, event.saying((*state.frames.insets.shrink(width, height), states)))


def configure_bounds(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`xdg_toplevel.configure_bounds`: what the frame leaves."""
    width, height = event.integers("width", "height")
    onward(state, event.saying(state.frames.insets.shrink(width, height)))


def show_window_menu(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_toplevel.show_window_menu`: at a place in the window."""
    seat, serial, x, y = request.numbers
    x, y = _shifted(state.frames, x, y)
    onward(state, request.saying((seat, serial, x, y)))


def drag(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_toplevel_drag_v1.attach`: likewise."""
    toplevel, x, y = request.numbers
    x, y = _shifted(state.frames, x, y)
    onward(state, request.saying((toplevel, x, y)))


def _shifted(frames: Frames, x: int, y: int) -> tuple[int, int]:
    """Say where in the framed window a place in the app's is."""
    return _bounded(x + frames.insets.left), _bounded(y + frames.insets.top)


def _bounded(number: int) -> int:
    return min(max(number, -MOST - 1), MOST)


# ---------------------------------------------------------------- popups


def create_positioner(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_wm_base.create_positioner`."""
    onward(state, request)
    state.context.objects.guest(request.new_id).role = Positioner()


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
    """`xdg_surface.get_popup`: placed in the framed window."""
    objects = state.context.objects
    parent_id = request.integer("parent")
    parent = objects.guest(parent_id).role if parent_id else None
    framed = state.frames.window_of(parent) is not None
    positioner = objects.guest(request.integer("positioner"))
    _place(state, request, onward, positioner, framed=framed)
    objects.guest(request.new_id).role = Popup(framed)


def reposition(state: ClientState, request: Request, onward: Onward) -> None:
    """`xdg_popup.reposition`: the same."""
    role = request.object.role
    positioner = state.context.objects.guest(request.integer("positioner"))
    framed = isinstance(role, Popup) and role.framed
    _place(state, request, onward, positioner, framed=framed)


def configure_popup(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`xdg_popup.configure`: placed in the app's window."""
    role = event.object.role
    if isinstance(role, Popup) and role.framed:
        x, y, width, height = event.integers("x", "y", "width", "height")
        insets = state.frames.insets
        x, y = _bounded(x - insets.left), _bounded(y - insets.top)
        event = event.saying((x, y, width, height))
    onward(state, event)


def _place(
    state: ClientState,
    request: Request,
    onward: Onward,
    positioner: ProtocolObject,
    *,
    framed: bool,
) -> None:
    """Pass a request on, with a positioner that knows of the frame meanwhile."""
    role = positioner.role
    if not framed or not isinstance(role, Positioner) or not positioner.host_id:
        onward(state, request)
        return
    send, frames = state.context.send, state.frames
    if role.anchor is not None:
        x, y, *size = role.anchor
        send(positioner, "set_anchor_rect", (*_shifted(frames, x, y), *size))
    if role.parent_size is not None:
        send(positioner, "set_parent_size", frames.insets.grow(*role.parent_size))
    onward(state, request)
    # The app may use it again, for a popup of another parent's.
    if role.anchor is not None:
        send(positioner, "set_anchor_rect", role.anchor)
    if role.parent_size is not None:
        send(positioner, "set_parent_size", role.parent_size)
