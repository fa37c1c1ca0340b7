"""Which function changes what where windows are framed, and what is done otherwise.

This is no filter: it puts those of frames in front of all others.
"""

from collections.abc import Callable, Mapping
from typing import Final

from wlproxy.relay.filters import (
    EVENT_FILTERS,
    REQUEST_FILTERS,
    EventFilter,
    RequestFilter,
    frame_input,
    frame_surfaces,
    frame_windows,
)
from wlproxy.relay.filters.plans import event_planner, request_planner
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request

_Change = Callable[[ClientState, Request, RequestFilter], None]
_EventChange = Callable[[ClientState, Event, EventFilter], None]

_REQUESTS: Final[Mapping[tuple[str, str], _Change]] = {
    ("wl_compositor", "create_surface"): frame_surfaces.create,
    ("wl_pointer", "release"): frame_input.release_pointer,
    ("wl_seat", "get_pointer"): frame_input.get_pointer,
    ("wl_seat", "get_touch"): frame_input.get_touch,
    ("wl_subcompositor", "get_subsurface"): frame_surfaces.get_subsurface,
    ("wl_subsurface", "destroy"): frame_surfaces.destroy_subsurface,
    ("wl_subsurface", "set_desync"): frame_surfaces.set_desync,
    ("wl_subsurface", "set_position"): frame_surfaces.set_position,
    ("wl_subsurface", "set_sync"): frame_surfaces.set_sync,
    ("wl_surface", "attach"): frame_surfaces.attach,
    ("wl_surface", "commit"): frame_surfaces.commit,
    ("wl_surface", "destroy"): frame_surfaces.destroy,
    ("wl_surface", "offset"): frame_surfaces.offset,
    ("wl_surface", "set_buffer_scale"): frame_surfaces.set_scale,
    ("wl_surface", "set_buffer_transform"): frame_surfaces.set_transform,
    ("wp_viewport", "destroy"): frame_surfaces.destroy_viewport,
    ("wp_viewport", "set_destination"): frame_surfaces.set_destination,
    ("wp_viewport", "set_source"): frame_surfaces.set_source,
    ("wp_viewporter", "get_viewport"): frame_surfaces.get_viewport,
    ("xdg_popup", "destroy"): frame_windows.destroy_popup,
    ("xdg_popup", "reposition"): frame_windows.reposition,
    ("xdg_positioner", "set_anchor_rect"): frame_windows.set_anchor_rect,
    ("xdg_positioner", "set_parent_size"): frame_windows.set_parent_size,
    ("xdg_positioner", "set_size"): frame_windows.set_size,
    ("xdg_surface", "ack_configure"): frame_windows.acknowledge,
    ("xdg_surface", "destroy"): frame_windows.destroy,
    ("xdg_surface", "get_popup"): frame_windows.get_popup,
    ("xdg_surface", "get_toplevel"): frame_windows.get_toplevel,
    ("xdg_surface", "set_window_geometry"): frame_windows.set_window_geometry,
    ("xdg_toplevel", "destroy"): frame_windows.destroy,
    ("xdg_toplevel", "set_max_size"): frame_windows.set_size_limit,
    ("xdg_toplevel", "set_min_size"): frame_windows.set_size_limit,
    ("xdg_toplevel", "show_window_menu"): frame_windows.show_window_menu,
    ("xdg_toplevel_drag_v1", "attach"): frame_windows.drag,
    ("xdg_wm_base", "create_positioner"): frame_windows.create_positioner,
    ("zwp_input_timestamps_manager_v1", "get_pointer_timestamps"): (
        frame_input.follow_pointer
    ),
    ("zwp_pointer_gestures_v1", "get_hold_gesture"): frame_input.get_gesture,
    ("zwp_pointer_gestures_v1", "get_pinch_gesture"): frame_input.get_gesture,
    ("zwp_pointer_gestures_v1", "get_swipe_gesture"): frame_input.get_gesture,
    ("zwp_relative_pointer_manager_v1", "get_relative_pointer"): (
        frame_input.follow_pointer
    ),
    ("zwp_tablet_manager_v2", "get_tablet_seat"): frame_input.get_tablet_seat,
}

_EVENTS: Final[Mapping[tuple[str, str], _EventChange]] = {
    ("wl_data_device", "drop"): frame_input.leave_drag,
    ("wl_data_device", "enter"): frame_input.enter_drag,
    ("wl_data_device", "leave"): frame_input.leave_drag,
    ("wl_data_device", "motion"): frame_input.go_on_dragging,
    ("wl_pointer", "axis"): frame_input.pass_on,
    ("wl_pointer", "axis_discrete"): frame_input.pass_on,
    ("wl_pointer", "axis_relative_direction"): frame_input.pass_on,
    ("wl_pointer", "axis_source"): frame_input.pass_on,
    ("wl_pointer", "axis_stop"): frame_input.pass_on,
    ("wl_pointer", "axis_value120"): frame_input.pass_on,
    ("wl_pointer", "button"): frame_input.button,
    ("wl_pointer", "enter"): frame_input.enter,
    ("wl_pointer", "frame"): frame_input.end_frame,
    ("wl_pointer", "leave"): frame_input.leave,
    ("wl_pointer", "motion"): frame_input.motion,
    ("wl_pointer", "warp"): frame_input.motion,
    ("wl_touch", "cancel"): frame_input.touch_cancel,
    ("wl_touch", "down"): frame_input.touch_down,
    ("wl_touch", "frame"): frame_input.end_frame,
    ("wl_touch", "motion"): frame_input.touch,
    ("wl_touch", "orientation"): frame_input.touch,
    ("wl_touch", "shape"): frame_input.touch,
    ("wl_touch", "up"): frame_input.touch,
    ("xdg_popup", "configure"): frame_windows.configure_popup,
    ("xdg_surface", "configure"): frame_windows.end_configuration,
    ("xdg_toplevel", "configure"): frame_windows.configure,
    ("xdg_toplevel", "configure_bounds"): frame_windows.configure_bounds,
    ("zwp_input_timestamps_v1", "timestamp"): frame_input.pass_on,
    ("zwp_pointer_gesture_hold_v1", "begin"): frame_input.begin,
    ("zwp_pointer_gesture_hold_v1", "end"): frame_input.end,
    ("zwp_pointer_gesture_pinch_v1", "begin"): frame_input.begin,
    ("zwp_pointer_gesture_pinch_v1", "end"): frame_input.end,
    ("zwp_pointer_gesture_pinch_v1", "update"): frame_input.pass_on,
    ("zwp_pointer_gesture_swipe_v1", "begin"): frame_input.begin,
    ("zwp_pointer_gesture_swipe_v1", "end"): frame_input.end,
    ("zwp_pointer_gesture_swipe_v1", "update"): frame_input.pass_on,
    ("zwp_relative_pointer_v1", "relative_motion"): frame_input.pass_on,
    ("zwp_tablet_seat_v2", "tool_added"): frame_input.add_tool,
    ("zwp_tablet_tool_v2", "button"): frame_input.pass_on,
    ("zwp_tablet_tool_v2", "distance"): frame_input.pass_on,
    ("zwp_tablet_tool_v2", "down"): frame_input.press_pen,
    ("zwp_tablet_tool_v2", "frame"): frame_input.end_frame,
    ("zwp_tablet_tool_v2", "motion"): frame_input.move_pen,
    ("zwp_tablet_tool_v2", "pressure"): frame_input.pass_on,
    ("zwp_tablet_tool_v2", "proximity_in"): frame_input.come_near,
    ("zwp_tablet_tool_v2", "proximity_out"): frame_input.go_away,
    ("zwp_tablet_tool_v2", "rotation"): frame_input.pass_on,
    ("zwp_tablet_tool_v2", "slider"): frame_input.pass_on,
    ("zwp_tablet_tool_v2", "tilt"): frame_input.pass_on,
    ("zwp_tablet_tool_v2", "up"): frame_input.pass_on,
    ("zwp_tablet_tool_v2", "wheel"): frame_input.pass_on,
}


def _forward(state: ClientState, request: Request) -> None:
    state.forward(request)


def _forward_event(state: ClientState, event: Event) -> None:
    state.forward_event(event.object, event.spec, event.raw, event.fds)


def _before(change: _Change, onward: RequestFilter) -> RequestFilter:
    return lambda state, request: change(state, request, onward)


def _before_event(change: _EventChange, onward: EventFilter) -> EventFilter:
    return lambda state, event: change(state, event, onward)


FRAMED_REQUEST_FILTERS: Final[Mapping[tuple[str, str], RequestFilter]] = {
    **REQUEST_FILTERS,
    **{
        name: _before(change, REQUEST_FILTERS.get(name, _forward))
        for name, change in _REQUESTS.items()
    },
}
"""`REQUEST_FILTERS` of clients whose windows are framed."""

FRAMED_EVENT_FILTERS: Final[Mapping[tuple[str, str], EventFilter]] = {
    **EVENT_FILTERS,
    **{
        name: _before_event(change, EVENT_FILTERS.get(name, _forward_event))
        for name, change in _EVENTS.items()
    },
}
"""`EVENT_FILTERS` of the same."""

framed_request_plan: Final = request_planner(FRAMED_REQUEST_FILTERS)
"""`plans.request_plan` of clients whose windows are framed."""
framed_event_plan: Final = event_planner(FRAMED_EVENT_FILTERS)
"""`plans.event_plan` of the same."""
