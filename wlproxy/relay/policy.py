"""Which globals a guest may see, and up to which version.

Everything else is hidden at the registry: an interface that is not in this list, and
one that our tables do not know, since its messages could not be decoded.  A protocol
that needs no filter needs a line here and nothing else.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from wlproxy.protocol.wayland.interfaces import INTERFACES

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

linux-dmabuf is served by us (`relay.offer`), whatever the compositor has, and only to a
guest whose agent can locate dma-bufs; version 6 is about devices of the host.
"""


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
            raise ValueError(
                f"cannot allow {name}: pywayland's tables do not have this interface"
            )
        policy.setdefault(name, NEWEST)
    for name in deny:
        policy.pop(name, None)
    return {
        name: min(cap, INTERFACES[name].version)
        for name, cap in policy.items()
        if name in INTERFACES
    }
