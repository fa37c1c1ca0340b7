"""Which globals a guest may see, and up to which version.

Everything else is hidden at the registry: an interface that is not in this list, and
one that our tables do not know, since its messages could not be decoded.  A protocol
that needs no filter needs a line here, and one in `wire.passed_fds` if its messages pass fds.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from wlproxy.protocol.wayland.interface_table import INTERFACES

NEWEST: Final = 1 << 31
"""No cap but what our tables know."""

ALLOWED_BY_DEFAULT: Final[Mapping[str, int]] = MappingProxyType(
    {
        # Core.
        "wl_compositor": NEWEST,
        "wl_data_device_manager": NEWEST,
        "wl_output": NEWEST,
        "wl_seat": NEWEST,
        "wl_shm": NEWEST,
        "wl_subcompositor": NEWEST,
        # Windows.
        "xdg_activation_v1": NEWEST,
        "xdg_system_bell_v1": NEWEST,
        "xdg_toplevel_drag_manager_v1": NEWEST,
        "xdg_toplevel_icon_manager_v1": NEWEST,
        "xdg_wm_base": NEWEST,
        "xdg_wm_dialog_v1": NEWEST,
        "zxdg_decoration_manager_v1": NEWEST,
        # Surfaces.
        "wp_alpha_modifier_v1": NEWEST,
        "wp_commit_timing_manager_v1": NEWEST,
        "wp_content_type_manager_v1": NEWEST,
        "wp_fifo_manager_v1": NEWEST,
        "wp_fractional_scale_manager_v1": NEWEST,
        "wp_presentation": NEWEST,
        "wp_single_pixel_buffer_manager_v1": NEWEST,
        "wp_tearing_control_manager_v1": NEWEST,
        "wp_viewporter": NEWEST,
        "zwp_linux_dmabuf_v1": 5,  # our own, see below
        "zwp_idle_inhibit_manager_v1": NEWEST,
        # Outputs.
        "zxdg_output_manager_v1": NEWEST,
        # Input.
        "wp_cursor_shape_manager_v1": NEWEST,
        "wp_pointer_warp_v1": NEWEST,
        "zwp_input_timestamps_manager_v1": NEWEST,
        "zwp_pointer_constraints_v1": NEWEST,
        "zwp_pointer_gestures_v1": NEWEST,
        "zwp_primary_selection_device_manager_v1": NEWEST,
        "zwp_relative_pointer_manager_v1": NEWEST,
        "zwp_tablet_manager_v2": NEWEST,
        "zwp_text_input_manager_v1": NEWEST,
        "zwp_text_input_manager_v3": NEWEST,
    }
)
"""Interface to highest version.

Left out on purpose, among others: screen capture, virtual input, data control, layer
shell, session lock, output and toplevel management, security context (they reach beyond
the guest's own windows); keyboard-shortcuts-inhibit (takes the host's keys); the foreign
toplevel handles of xdg-foreign (a guest could name a host window);
wp_linux_drm_syncobj_manager_v1 (explicit fences cannot be carried); wl_drm (names
buffers by what only one kernel knows).

linux-dmabuf is served by us (`relay.buffers.offer`), whatever the compositor has, and only to a
guest whose agent can locate dma-bufs; version 6 is about devices of the host.
"""


PRIVILEGED: Final = frozenset(
    {
        # Sees the screen, or other clients' windows.
        "ext_foreign_toplevel_image_capture_source_manager_v1",
        "ext_foreign_toplevel_list_v1",
        "ext_image_copy_capture_manager_v1",
        "ext_output_image_capture_source_manager_v1",
        "hyprland_toplevel_export_manager_v1",
        "org_kde_plasma_window_management",
        "weston_capture_v1",
        "zkde_screencast_unstable_v1",
        "zwlr_export_dmabuf_manager_v1",
        "zwlr_foreign_toplevel_manager_v1",
        "zwlr_screencopy_manager_v1",
        # Types, points, or listens in their place.
        "hyprland_global_shortcuts_manager_v1",
        "org_kde_kwin_fake_input",
        "org_kde_kwin_keystate",
        "zwlr_input_inhibit_manager_v1",
        "zwlr_virtual_pointer_manager_v1",
        "zwp_input_method_manager_v2",
        "zwp_input_method_v1",
        "zwp_virtual_keyboard_manager_v1",
        # Reads what is copied, without a window that has the focus.
        "ext_data_control_manager_v1",
        "zwlr_data_control_manager_v1",
        # Covers the desktop, or rearranges it.
        "ext_session_lock_manager_v1",
        "ext_workspace_manager_v1",
        "kde_output_management_v2",
        "zwlr_gamma_control_manager_v1",
        "zwlr_layer_shell_v1",
        "zwlr_output_manager_v1",
        "zwlr_output_power_manager_v1",
    }
)
"""What reaches beyond a client's own windows: a compositor's isolation should hide it.

A guest sees none of it unless it is allowed; this list only serves to say how much rests
on that.  keyboard-shortcuts-inhibit is not in it: compositors grant it to sandboxed apps,
and have a way out."""


NEEDS_CLOCK: Final = frozenset({"wp_commit_timing_manager_v1"})
"""Offered once the guest's clock is known well: apps name times to the compositor, which
would hold their windows back until then, for days if it is another clock."""


def effective_policy(
    allow: Iterable[str] = (), deny: Iterable[str] = ()
) -> dict[str, int]:
    """Make the policy of a VM: the defaults, plus `allow`, minus `deny`.

    Returns:
        Interface name to the highest version that a guest may bind.

    Raises:
        ValueError: a name in `allow` is no interface of our tables.
    """
    policy = dict(ALLOWED_BY_DEFAULT)
    for name in allow:
        if name not in INTERFACES:
            raise ValueError(_unknown(name))
        policy.setdefault(name, NEWEST)
    for name in deny:
        policy.pop(name, None)
    return {
        name: min(cap, INTERFACES[name].version)
        for name, cap in policy.items()
        if name in INTERFACES
    }


def _unknown(name: str) -> str:
    """Say why an interface cannot be allowed, and what may have been meant."""
    why = (
        f"cannot allow {name}: its messages are not known here, so they could not be "
        "passed on (wlproxy knows the protocols that the Python package pywayland has)"
    )
    close = get_close_matches(name, INTERFACES, n=1, cutoff=0.8)
    return f"{why}. Did you mean {close[0]}?" if close else why
