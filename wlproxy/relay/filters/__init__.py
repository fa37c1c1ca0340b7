"""One module per interface family; a message that none claims is forwarded as it is.

`REQUEST_FILTERS` and `EVENT_FILTERS` say which function claims what; `plans` is all that is
special about a message, looked up once for all of its kind.
"""

from collections.abc import Callable, Mapping
from typing import Final

from wlproxy.relay.filters import (
    colour,
    devices,
    dmabuf,
    registry,
    shm,
    surface,
    timing,
    toplevel,
)
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request

RequestFilter = Callable[[ClientState, Request], None]
EventFilter = Callable[[ClientState, Event], None]

REQUEST_FILTERS: Final[Mapping[tuple[str, str], RequestFilter]] = {
    ("wl_compositor", "create_surface"): surface.create,
    ("wl_display", "get_registry"): registry.get_registry,
    ("wl_fixes", "destroy_registry"): registry.destroy_registry,
    ("wl_pointer", "set_cursor"): surface.set_cursor,
    ("wl_registry", "bind"): registry.bind,
    ("wl_shell", "get_shell_surface"): toplevel.get_shell_surface,
    ("wl_shell_surface", "set_class"): toplevel.set_class,
    ("wl_shell_surface", "set_title"): toplevel.set_title,
    ("wl_shm", "create_pool"): shm.create_pool,
    ("wl_shm_pool", "create_buffer"): shm.create_buffer,
    ("wl_shm_pool", "destroy"): shm.destroy_pool,
    ("wl_shm_pool", "resize"): shm.resize_pool,
    ("wl_buffer", "destroy"): shm.destroy_buffer,
    ("wl_surface", "attach"): surface.attach,
    ("wl_surface", "commit"): surface.commit,
    ("wl_surface", "damage"): surface.damage,
    ("wl_surface", "damage_buffer"): surface.damage,
    ("wl_surface", "destroy"): surface.destroy,
    ("wl_surface", "set_buffer_scale"): surface.transform,
    ("wl_surface", "set_buffer_transform"): surface.transform,
    ("wl_subcompositor", "get_subsurface"): surface.get_subsurface,
    ("wl_subsurface", "destroy"): surface.set_sync,
    ("wl_subsurface", "set_desync"): surface.set_sync,
    ("wl_subsurface", "set_sync"): surface.set_sync,
    ("wp_color_manager_v1", "create_icc_creator"): colour.create_icc_creator,
    ("wp_commit_timing_manager_v1", "get_timer"): surface.queue_commits,
    ("wp_commit_timer_v1", "set_timestamp"): timing.set_timestamp,
    ("wp_fifo_manager_v1", "get_fifo"): surface.queue_commits,
    ("wp_viewporter", "get_viewport"): surface.view,
    ("xdg_activation_token_v1", "set_app_id"): toplevel.set_activating_app_id,
    ("xdg_surface", "get_toplevel"): toplevel.get_toplevel,
    ("xdg_toplevel", "set_app_id"): toplevel.set_app_id,
    ("xdg_toplevel", "set_title"): toplevel.set_title,
    ("xdg_toplevel_icon_v1", "set_name"): toplevel.set_icon_name,
    ("xdg_toplevel_tag_manager_v1", "set_toplevel_description"): (
        toplevel.set_description
    ),
    ("xdg_toplevel_tag_manager_v1", "set_toplevel_tag"): toplevel.set_tag,
    ("xdg_wm_base", "get_xdg_surface"): toplevel.get_xdg_surface,
    ("zwlr_layer_shell_v1", "get_layer_surface"): toplevel.get_layer_surface,
    ("zwp_linux_buffer_params_v1", "add"): dmabuf.add,
    ("zwp_linux_buffer_params_v1", "create"): dmabuf.create,
    ("zwp_linux_buffer_params_v1", "create_immed"): dmabuf.create_immed,
    ("zwp_linux_buffer_params_v1", "destroy"): dmabuf.destroy_params,
    ("zwp_linux_dmabuf_feedback_v1", "destroy"): dmabuf.destroy,
    ("zwp_linux_dmabuf_v1", "create_params"): dmabuf.create_params,
    ("zwp_linux_dmabuf_v1", "destroy"): dmabuf.destroy,
    ("zwp_linux_dmabuf_v1", "get_default_feedback"): dmabuf.get_feedback,
    ("zwp_linux_dmabuf_v1", "get_surface_feedback"): dmabuf.get_feedback,
    ("zwp_tablet_tool_v2", "set_cursor"): surface.set_cursor,
    ("zxdg_output_manager_v1", "get_xdg_output"): devices.get_xdg_output,
    ("zxdg_shell_v6", "get_xdg_surface"): toplevel.get_xdg_surface,
    ("zxdg_surface_v6", "get_toplevel"): toplevel.get_toplevel,
    ("zxdg_toplevel_v6", "set_app_id"): toplevel.set_app_id,
    ("zxdg_toplevel_v6", "set_title"): toplevel.set_title,
}
"""(interface, request) to what claims it."""

IDLE_FILTERS: Final[Mapping[tuple[str, str], Callable[[object], bool]]] = {
    ("wl_surface", "damage"): surface.ignores_damage,
    ("wl_surface", "damage_buffer"): surface.ignores_damage,
}
"""(interface, request) to what says of an object's role that the filter would do no more
than forward the request: then it is not asked."""

EVENT_FILTERS: Final[Mapping[tuple[str, str], EventFilter]] = {
    ("org_kde_kwin_outputdevice", "edid"): devices.drop,
    ("org_kde_kwin_outputdevice", "serial_number"): devices.drop,
    ("org_kde_kwin_outputdevice", "uuid"): devices.drop,
    ("wl_buffer", "release"): shm.release_buffer,
    ("wl_display", "delete_id"): registry.free_id,
    ("wl_display", "error"): registry.report_error,
    ("wl_output", "description"): devices.describe,
    ("wl_output", "geometry"): devices.note_model,
    ("wl_registry", "global"): registry.advertise,
    ("wl_registry", "global_remove"): registry.withdraw,
    ("wl_shm", "format"): shm.offer_format,
    ("wp_color_manager_v1", "supported_feature"): colour.offer_feature,
    ("wp_presentation", "clock_id"): timing.note_clock,
    ("zwlr_output_head_v1", "description"): devices.describe,
    ("zwlr_output_head_v1", "serial_number"): devices.drop,
    ("zwp_tablet_pad_v2", "path"): devices.drop,
    ("zwp_tablet_tool_v1", "hardware_serial"): devices.drop,
    ("zwp_tablet_tool_v2", "hardware_serial"): devices.drop,
    ("zwp_tablet_v1", "path"): devices.drop,
    ("zwp_tablet_v2", "path"): devices.drop,
    ("zxdg_output_v1", "description"): devices.describe,
}
"""(interface, event) to what claims it."""
