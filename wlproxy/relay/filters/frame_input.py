"""Pointers, fingers, pens and drags on a frame: they are ours, and the app hears nothing of them.

A press on a frame moves or resizes its window.  Each function is given what is to be done about
a message otherwise (`onward`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.frame.layout import Edge
from wlproxy.relay.frame.window import Part
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import IGNORED, ProtocolObject

Onward = Callable[[ClientState, Request], None]
OnwardEvent = Callable[[ClientState, Event], None]

BTN_LEFT: Final = 0x110
BTN_RIGHT: Final = 0x111
"""linux/input-event-codes.h."""

PRESSED: Final = 1
"""`wl_pointer.button_state`."""

FIXED: Final = 256

SHAPES: Final = {
    Edge.NONE: 1,
    Edge.TOP: 19,
    Edge.BOTTOM: 22,
    Edge.LEFT: 25,
    Edge.RIGHT: 18,
    Edge.TOP | Edge.LEFT: 21,
    Edge.TOP | Edge.RIGHT: 20,
    Edge.BOTTOM | Edge.LEFT: 24,
    Edge.BOTTOM | Edge.RIGHT: 23,
}
"""`wp_cursor_shape_device_v1.shape`: the arrow, or the one that says what can be pulled."""


@dataclass(slots=True, eq=False)
class Device:
    """The role of what points: a pointer, a pen, a gesture.

    Attributes:
        seat: whose.
        part: of a frame, that it is at.
        at: where, in coordinates of the window's surface.
        open: the app was told something that no `frame` has ended yet.
        serial: of its coming to the frame.
        shapes: a pointer's `wp_cursor_shape_device_v1`, once it was needed.
        shape: the cursor that was set.
    """

    seat: ProtocolObject | None = None
    part: Part | None = None
    at: tuple[int, int] = (0, 0)
    open: bool = False
    serial: int = 0
    shapes: ProtocolObject | None = None
    shape: int = 0

    @property
    def edge(self) -> Edge:
        """What is pulled at by who presses now."""
        part = self.part
        if part is None or part.window.layout is None or part.window.toplevel is None:
            return Edge.NONE  # a popup is neither moved nor resized
        labelled = any(strip.side is None for strip in part.window.strips)
        return part.window.layout.edge_at(*self.at, labelled=labelled)

    @property
    def _toplevel(self) -> ProtocolObject | None:
        """The window whose frame it is at, if that is shown; a popup is none."""
        shown = self.part is not None and self.part.window.layout is not None
        return self.part.window.toplevel if self.part is not None and shown else None

    def come(self, part: Part | None, x: int = 0, y: int = 0) -> None:
        """It is at a part of a frame, or at none."""
        self.part = part
        self.go(x, y)

    def go(self, x: int, y: int) -> None:
        """It is elsewhere there: x and y are FIXED, as seen from the part."""
        if self.part is not None:
            box = self.part.strip.box
            self.at = box.left + x // FIXED, box.top + y // FIXED

    def press(self, context: Context, serial: int) -> None:
        """Move or resize the window."""
        toplevel, seat, edge = self._toplevel, self.seat, self.edge
        if toplevel is None or not (seat and seat.host_id):
            return
        if edge is Edge.NONE:
            context.send(toplevel, "move", (seat.host_id, serial))
        else:
            context.send(toplevel, "resize", (seat.host_id, serial, int(edge)))

    def menu(self, context: Context, serial: int) -> None:
        """Have the compositor show its menu of the window."""
        toplevel, seat = self._toplevel, self.seat
        if toplevel is None or not (seat and seat.host_id):
            return
        assert self.part is not None  # it is of its window
        assert self.part.window.layout is not None
        outer = self.part.window.layout.outer
        place = self.at[0] - outer.left, self.at[1] - outer.top
        args = (seat.host_id, serial, *place)
        context.send(toplevel, "show_window_menu", args)


@dataclass(slots=True, eq=False)
class Fingers:
    """The role of a `wl_touch`.

    Attributes:
        seat: whose.
        ours: ids of fingers that came down on a frame.
        open: as of `Device`.
    """

    seat: ProtocolObject
    ours: set[int] = field(default_factory=set)
    open: bool = False


@dataclass(frozen=True, slots=True)
class Follower:
    """The role of an object that tells more of a pointer: the role of that."""

    device: Device


@dataclass(frozen=True, slots=True)
class Tablets:
    """The role of a `zwp_tablet_seat_v2`: its seat."""

    seat: ProtocolObject


def _part(state: ClientState, event: Event) -> Part | None:
    """Find the part of a frame that an event is about, if it is."""
    entry = state.context.objects.host(event.integer("surface"))
    return entry.role if entry is not None and isinstance(entry.role, Part) else None


# ---------------------------------------------------------------- where they come from


def get_pointer(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_seat.get_pointer`."""
    onward(state, request)
    made = state.context.objects.guest(request.new_id)
    made.role = Device(request.object)


def get_touch(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_seat.get_touch`."""
    onward(state, request)
    made = state.context.objects.guest(request.new_id)
    made.role = Fingers(request.object)


def get_gesture(state: ClientState, request: Request, onward: Onward) -> None:
    """`zwp_pointer_gestures_v1`: swipes, pinches, and fingers at rest."""
    onward(state, request)
    state.context.objects.guest(request.new_id).role = Device()


def follow_pointer(state: ClientState, request: Request, onward: Onward) -> None:
    """`get_relative_pointer`, `get_pointer_timestamps`: it tells of the same pointer."""
    device = state.context.objects.guest(request.integer("pointer")).role
    onward(state, request)
    if isinstance(device, Device):
        state.context.objects.guest(request.new_id).role = Follower(device)


def get_tablet_seat(state: ClientState, request: Request, onward: Onward) -> None:
    """`zwp_tablet_manager_v2.get_tablet_seat`."""
    seat = state.context.objects.guest(request.integer("seat"))
    onward(state, request)
    state.context.objects.guest(request.new_id).role = Tablets(seat)


def add_tool(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`zwp_tablet_seat_v2.tool_added`."""
    onward(state, event)
    made = state.context.objects.host(event.integer("id"))
    role = event.object.role
    if made is not None and isinstance(role, Tablets):
        made.role = Device(role.seat)


def release_pointer(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_pointer.release`: what sets its cursor goes first."""
    role = request.object.role
    if isinstance(role, Device) and role.shapes is not None:
        state.context.send(role.shapes, "destroy")
        role.shapes = None
    onward(state, request)


# ---------------------------------------------------------------- pointers, and others


def enter(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_pointer.enter`: at a frame, nothing is said."""
    device, part = event.object.role, _part(state, event)
    if not isinstance(device, Device):
        onward(state, event)
        return
    device.come(part, *event.integers("surface_x", "surface_y"))
    if part is None:
        device.open = True
        onward(state, event)
    else:
        device.serial, device.shape = event.integer("serial"), 0
        _set_cursor(state.context, event.object, device)


def leave(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`leave` of a pointer: the frame, or the app's surface."""
    device = event.object.role
    if isinstance(device, Device):
        if device.part is not None:
            device.part = None
            if _part(state, event) is not None:
                return
        device.open = True
    onward(state, event)


def enter_drag(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_data_device.enter`: likewise."""
    dragged = state.frames.dragged
    dragged.discard(event.object.host_id)
    if _part(state, event) is not None:
        dragged.add(event.object.host_id)
        state.give_back(event.integer("id"))  # there is another one with each `enter`
        return
    onward(state, event)


def go_on_dragging(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_data_device.motion`: nothing is said of it on a frame."""
    if event.object.host_id not in state.frames.dragged:
        onward(state, event)


def leave_drag(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_data_device.leave`, `drop`: of a frame, or of the app's surface."""
    dragged = state.frames.dragged
    if event.object.host_id in dragged:
        dragged.discard(event.object.host_id)
        return
    onward(state, event)


def motion(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_pointer.motion`: on a frame, the cursor says what can be pulled at."""
    device = event.object.role
    if isinstance(device, Device) and device.part is not None:
        device.go(*event.integers("surface_x", "surface_y"))
        _set_cursor(state.context, event.object, device)
        return
    pass_on(state, event, onward)


def button(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_pointer.button`: on a frame, it moves or resizes."""
    device = event.object.role
    if isinstance(device, Device) and device.part is not None:
        serial, number, pressed = event.integers("serial", "button", "state")
        if pressed == PRESSED and number == BTN_LEFT:
            device.press(state.context, serial)
        elif pressed == PRESSED and number == BTN_RIGHT:
            device.menu(state.context, serial)
        return
    pass_on(state, event, onward)


def pass_on(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """What a pointer, a pen or a gesture does: nothing is said of it on a frame."""
    device = event.object.role
    if isinstance(device, Follower):
        device = device.device
    if isinstance(device, Device):
        if device.part is not None:
            return
        device.open = True
    onward(state, event)


def end_frame(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`frame`: ends what the app was told, if it was."""
    device = event.object.role
    if isinstance(device, Device | Fingers):
        if not device.open:
            return
        device.open = False
    onward(state, event)


def begin(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`begin` of a gesture: until it ends, it is the frame's or the app's."""
    device = event.object.role
    if isinstance(device, Device):
        device.part = _part(state, event)
        if device.part is not None:
            return
    onward(state, event)


def end(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`end` of a gesture."""
    device = event.object.role
    if isinstance(device, Device) and device.part is not None:
        device.part = None
        return
    onward(state, event)


def _set_cursor(context: Context, pointer: ProtocolObject, device: Device) -> None:
    """Have the cursor say what can be pulled at, if the compositor has cursors by name."""
    shape = SHAPES.get(device.edge, 1)
    if shape == device.shape or not pointer.guest_id:
        return
    if device.shapes is None:
        manager = context.own_global("wp_cursor_shape_manager_v1", 1)
        if manager is None:
            return
        kind = INTERFACES["wp_cursor_shape_device_v1"]
        device.shapes = context.objects.add_own(kind, 1, IGNORED)
        args = (device.shapes.host_id, pointer.host_id)
        context.send(manager, "get_pointer", args)
    device.shape = shape
    context.send(device.shapes, "set_shape", (device.serial, shape))


# ---------------------------------------------------------------- pens


def come_near(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`zwp_tablet_tool_v2.proximity_in`."""
    device = event.object.role
    if isinstance(device, Device):
        device.come(_part(state, event))
    pass_on(state, event, onward)


def go_away(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`zwp_tablet_tool_v2.proximity_out`."""
    pass_on(state, event, onward)
    if isinstance(device := event.object.role, Device):
        device.part = None


def move_pen(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`zwp_tablet_tool_v2.motion`."""
    if isinstance(device := event.object.role, Device):
        device.go(*event.integers("x", "y"))
    pass_on(state, event, onward)


def press_pen(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`zwp_tablet_tool_v2.down`."""
    if isinstance(device := event.object.role, Device):
        device.press(state.context, event.integer("serial"))
    pass_on(state, event, onward)


# ---------------------------------------------------------------- fingers


def touch_down(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_touch.down`: on a frame, it moves or resizes."""
    fingers, part = event.object.role, _part(state, event)
    if isinstance(fingers, Fingers):
        finger, serial, x, y = event.integers("id", "serial", "x", "y")
        if part is not None:
            fingers.ours.add(finger)
            device = Device(fingers.seat)
            device.come(part, x, y)
            device.press(state.context, serial)
            return
        fingers.ours.discard(finger)
        fingers.open = True
    onward(state, event)


def touch(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_touch.motion`, `up`, `shape`, `orientation`: nothing is said of ours."""
    fingers = event.object.role
    if isinstance(fingers, Fingers):
        finger = event.integer("id")
        if finger in fingers.ours:
            if event.spec.name == "up":
                fingers.ours.discard(finger)
            return
        fingers.open = True
    onward(state, event)


def touch_cancel(state: ClientState, event: Event, onward: OnwardEvent) -> None:
    """`wl_touch.cancel`: of all fingers."""
    if isinstance(fingers := event.object.role, Fingers):
        fingers.ours.clear()
    onward(state, event)
