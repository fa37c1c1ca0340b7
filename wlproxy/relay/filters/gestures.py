"""Seats, and where the user presses: everything is forwarded, this keeps `relay.gestures` informed."""

from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.ownership import heeds_gestures
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request


def follow_seat(state: ClientState, request: Request) -> None:
    """`get_pointer`, `get_data_device` and the like: what they make is of that seat."""
    seat = request.object
    if "seat" in request.spec.places:
        seat = state.context.objects.guest(request.integer("seat"))
    state.gestures.follow(state.forward_new(request), seat)


def add_tool(state: ClientState, event: Event) -> None:
    """`zwp_tablet_seat_v2.tool_added`: a pen is of the seat, too."""
    state.forward_event(event.object, event.spec, event.raw)
    made = state.context.objects.host(event.integer("id"))
    if made is not None:
        state.gestures.follow(made, event.object)


def get_popup(state: ClientState, request: Request) -> None:
    """`xdg_surface.get_popup`: a menu is of the window below it."""
    parent_id = request.integer("parent")
    parent = state.context.objects.guest(parent_id).role if parent_id else None
    state.forward_new(request)
    surface = request.object.role
    if isinstance(surface, Surface) and isinstance(parent, Surface):
        surface.below = parent


def come(state: ClientState, event: Event) -> None:
    """`enter` of a pointer, `proximity_in` of a pen."""
    state.gestures.come(event.object, _surface(state, event))
    state.forward_event(event.object, event.spec, event.raw)


def go(state: ClientState, event: Event) -> None:
    """`leave`, `proximity_out`."""
    state.gestures.come(event.object, None)
    state.forward_event(event.object, event.spec, event.raw)


def focus(state: ClientState, event: Event) -> None:
    """`wl_keyboard.enter`."""
    state.gestures.focus(event.object, _surface(state, event))
    state.forward_event(event.object, event.spec, event.raw)


def lose_focus(state: ClientState, event: Event) -> None:
    """`wl_keyboard.leave`."""
    state.gestures.focus(event.object, None)
    state.forward_event(event.object, event.spec, event.raw)


def release_keyboard(state: ClientState, request: Request) -> None:
    """`wl_keyboard.release`: nobody tells us any more where the seat's keyboard is."""
    state.gestures.focus(request.object, None)
    state.forward(request)


def press(state: ClientState, event: Event) -> None:
    """A key, a button, a finger or a pen: what is asked for now is asked for by the user."""
    if _pressed(event) and heeds_gestures(state.context.config.policy):
        touched = _surface(state, event) if "surface" in event.spec.places else None
        state.gestures.press(event.object, touched)
    state.forward_event(event.object, event.spec, event.raw)


def _pressed(event: Event) -> bool:
    """Whether it is the beginning: those that have no state have another event for the end."""
    return "state" not in event.spec.places or bool(event.integer("state"))


def _surface(state: ClientState, event: Event) -> Surface | None:
    entry = state.context.objects.host(event.integer("surface"))
    role = entry.role if entry is not None else None
    return role if isinstance(role, Surface) else None
