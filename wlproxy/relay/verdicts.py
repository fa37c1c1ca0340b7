"""What a guest may see: every global that there is, one row each, with the reason.

`policy` applies it.  `docs/protocols.md` is made of it (`make tables`).  Tests see to it that
each global of our tables has a row, that each row names the filters that there are for it, and
that whatever passes an fd can be carried if it can be allowed.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

NEWEST: Final = 1 << 31
"""No cap but what our tables know."""


class Access(Enum):
    """Whether a guest sees a global."""

    ALLOWED = "allowed"
    """Unless it is denied with `--deny`."""
    ON_REQUEST = "on request"
    """Only with `--allow`."""
    DENIED = "denied"
    """Never: it could not be relayed."""


class Verdict(NamedTuple):
    """A row.

    Attributes:
        access: whether a guest sees it.
        why: the reason, or what it is for.
        filters: modules of `relay.filters` that change or answer some of its messages, or
            those of what it makes; if there are none, all are forwarded as they are.
        most: the highest version that a guest may have, if that is less than our tables have.
        reaches: it reaches beyond a client's own windows: a compositor's isolation should
            hide it.  That a guest sees none of it rests on us where it does not.
    """

    access: Access
    why: str
    filters: tuple[str, ...] = ()
    most: int = NEWEST
    reaches: bool = False


def _yes(why: str, *filters: str, most: int = NEWEST) -> Verdict:
    return Verdict(Access.ALLOWED, why, filters, most)


def _ask(why: str, *filters: str) -> Verdict:
    return Verdict(Access.ON_REQUEST, why, filters)


def _far(why: str, *filters: str) -> Verdict:
    return Verdict(Access.ON_REQUEST, why, filters, reaches=True)


def _no(why: str, *filters: str, reaches: bool = False) -> Verdict:
    return Verdict(Access.DENIED, why, filters, reaches=reaches)


VERDICTS: Final[Mapping[str, Verdict]] = MappingProxyType(
    {
        # ------------------------------------------------ the core protocol
        "wl_compositor": _yes(
            "surfaces; not version 7, whose releases end an app if its buffer has no room "
            "and is left out",
            "surface",
            most=6,
        ),
        "wl_data_device_manager": _yes(
            "clipboard, drag and drop", "selections", "gestures"
        ),
        "wl_fixes": _yes(
            "ends registries; not version 2, by which removed globals are acknowledged: "
            "nobody would, of hidden ones",
            "registry",
            most=1,
        ),
        "wl_output": _yes("monitors; their serial numbers are left out", "devices"),
        "wl_seat": _yes(
            "pointer, keyboard and touch", "surface", "gestures", "shortcuts"
        ),
        "wl_shell": _ask("windows, before xdg-shell", "toplevel", "powers"),
        "wl_shm": _yes("buffers in memory, served by the proxy", "shm"),
        "wl_subcompositor": _yes("surfaces in surfaces", "surface"),
        # ------------------------------------------------ windows
        "org_kde_kwin_server_decoration_manager": _yes(
            "title bars of the compositor's, which GTK 3 asks for in no other way"
        ),
        "xdg_activation_v1": _yes(
            "asks for attention or the focus, as far as the compositor gives them",
            "toplevel",
            "powers",
        ),
        "xdg_session_manager_v1": _ask(
            "puts windows back where they were, if the host's proxy is still the same",
            "sessions",
        ),
        "xdg_system_bell_v1": _yes("rings the bell"),
        "xdg_toplevel_drag_manager_v1": _yes(
            "drags a window along: the app's own, and while the user drags"
        ),
        "xdg_toplevel_icon_manager_v1": _yes("a window's icon", "toplevel", "powers"),
        "xdg_toplevel_tag_manager_v1": _ask("names for window rules", "toplevel"),
        "xdg_wm_base": _yes(
            "windows, whose titles are labelled", "toplevel", "powers", "gestures"
        ),
        "xdg_wm_dialog_v1": _yes("modal dialogs"),
        "zxdg_decoration_manager_v1": _yes("who draws the title bar"),
        "zxdg_exporter_v1": _yes("lends a window to another app of the VM", "foreign"),
        "zxdg_exporter_v2": _yes("lends a window to another app of the VM", "foreign"),
        "zxdg_importer_v1": _yes(
            "puts a dialog over a window that an app of the VM lends", "foreign"
        ),
        "zxdg_importer_v2": _yes(
            "puts a dialog over a window that an app of the VM lends", "foreign"
        ),
        "zxdg_shell_v6": _ask(
            "windows, a draft of xdg-shell", "toplevel", "powers", "gestures"
        ),
        # ------------------------------------------------ surfaces
        "wp_alpha_modifier_v1": _yes("opacity"),
        "wp_color_manager_v1": _yes(
            "which colours pixels mean; by ICC profiles of the guest's only if policy has it so",
            "colour",
        ),
        "wp_color_representation_manager_v1": _yes("which colours YUV pixels mean"),
        "wp_commit_timing_manager_v1": _yes(
            "frames at a time, once the guest's clock is known", "surface", "timing"
        ),
        "wp_content_type_manager_v1": _yes("photo, video or game"),
        "wp_fifo_manager_v1": _yes("frames in a queue", "surface"),
        "wp_fractional_scale_manager_v1": _yes("scales like 1.5"),
        "wp_presentation": _yes("when a frame was shown", "timing"),
        "wp_single_pixel_buffer_manager_v1": _yes("plain colours", "shm"),
        "wp_tearing_control_manager_v1": _yes("frames at once, torn"),
        "wp_viewporter": _yes("crops and scales", "surface", "powers"),
        "zwp_idle_inhibit_manager_v1": _yes(
            "keeps the screen on while a window is visible", "powers"
        ),
        "zwp_linux_dmabuf_v1": _yes(
            "buffers of the guest's GPU, served by the proxy whatever the compositor has; "
            "version 6 is about devices of the host",
            "dmabuf",
            "shm",
            most=5,
        ),
        # ------------------------------------------------ outputs
        "zxdg_output_manager_v1": _yes("where monitors are", "devices"),
        # ------------------------------------------------ input
        "gtk_primary_selection_device_manager": _ask(
            "middle-click paste, of GTK's", "selections", "gestures"
        ),
        "wl_text_input_manager": _ask("input methods, a draft of KDE's"),
        "wp_cursor_shape_manager_v1": _yes("cursors by name"),
        "wp_pointer_warp_v1": _yes("moves the pointer within a window", "powers"),
        "zwp_input_timestamps_manager_v1": _yes("exact times of input"),
        "zwp_keyboard_shortcuts_inhibit_manager_v1": _ask(
            "takes the host's key bindings, until the user presses Ctrl+Alt+G",
            "shortcuts",
        ),
        "zwp_pointer_constraints_v1": _yes(
            "holds the pointer in a window with focus", "powers"
        ),
        "zwp_pointer_gestures_v1": _yes("swipes and pinches"),
        "zwp_primary_selection_device_manager_v1": _yes(
            "middle-click paste", "selections", "gestures"
        ),
        "zwp_relative_pointer_manager_v1": _yes("motion of a pointer that is held"),
        "zwp_tablet_manager_v1": _ask(
            "pens, a draft; without serials", "devices", "surface", "gestures"
        ),
        "zwp_tablet_manager_v2": _yes(
            "pens, without their serial numbers; what buttons do is labelled",
            *("devices", "surface", "gestures", "toplevel"),
        ),
        "zwp_text_input_manager_v1": _yes(
            "input methods, for Chromium: of text in the window with the focus"
        ),
        "zwp_text_input_manager_v2": _ask("input methods, for Qt 5"),
        "zwp_text_input_manager_v3": _yes(
            "input methods: of text in the window with the focus"
        ),
        # ------------------------------------------------ looks, in a desktop's own ways
        "ext_background_effect_manager_v1": _ask("blurs what is behind a window"),
        "org_kde_kwin_blur_manager": _ask("blurs what is behind a window"),
        "org_kde_kwin_contrast_manager": _ask("contrast of what is behind a window"),
        "org_kde_kwin_shadow_manager": _ask("shadows of the app's own"),
        "org_kde_kwin_slide_manager": _ask("lets windows slide in"),
        # ------------------------------------------------ sees the screen, or other apps
        "ext_foreign_toplevel_image_capture_source_manager_v1": _far(
            "captures windows of the VM, which are all that it can name"
        ),
        "ext_foreign_toplevel_list_v1": _far(
            "sees which windows of the VM there are, and no others", "toplevel_list"
        ),
        "ext_image_copy_capture_manager_v1": _far(
            "captures what it may name besides: windows of the VM, or screens"
        ),
        "ext_output_image_capture_source_manager_v1": _far("captures screens"),
        "org_kde_plasma_activation_feedback": _far("sees which apps are started"),
        "org_kde_plasma_window_management": _far("sees and rules all windows"),
        "zwlr_foreign_toplevel_manager_v1": _far("sees and rules all windows"),
        "zwlr_screencopy_manager_v1": _far("captures screens"),
        # ------------------------------------------------ types, points, or listens
        "ext_transient_seat_manager_v1": _far("makes a seat of its own"),
        "org_kde_kwin_fake_input": _far("types and points"),
        "org_kde_kwin_keystate": _far("sees caps lock and its like"),
        "zwlr_input_inhibit_manager_v1": _far("takes all input"),
        "zwlr_virtual_pointer_manager_v1": _far("points"),
        "zwp_input_method_manager_v2": _far("is an input method: sees all typing"),
        "zwp_input_method_v1": _far("is an input method: sees all typing", "gestures"),
        "zwp_input_panel_v1": _far("shows an input method's windows"),
        "zwp_xwayland_keyboard_grab_manager_v1": _ask("takes keys, for an Xwayland"),
        # ------------------------------------------------ reads what is copied, unseen
        "ext_data_control_manager_v1": _far(
            "reads the VM's own selections, and replaces them, at any time",
            "selections",
            "gestures",
        ),
        "zwlr_data_control_manager_v1": _far(
            "reads the VM's own selections, and replaces them, at any time",
            "selections",
            "gestures",
        ),
        # ------------------------------------------------ covers or rearranges the desktop
        "_wl_fullscreen_shell": _far("shows one surface and nothing else, unlabelled"),
        "ext_idle_notifier_v1": _ask("sees whether the user is there"),
        "ext_session_lock_manager_v1": _far("locks the session"),
        "ext_workspace_manager_v1": _far("sees and rules workspaces"),
        "kde_external_brightness_v1": _far("is asked to dim monitors"),
        "kde_lockscreen_overlay_v1": _far("shows a window on the lock screen"),
        "kde_output_order_v1": _ask("which monitor is the first"),
        "kde_primary_output_v1": _ask("which monitor is the first"),
        "kde_screen_edge_manager_v1": _far("hides panels at the screen's edge"),
        "org_kde_kwin_dpms_manager": _far("switches monitors off"),
        "org_kde_kwin_idle": _ask("sees whether the user is there"),
        "org_kde_kwin_outputdevice": _far(
            "sees all of a monitor's settings", "devices"
        ),
        "org_kde_kwin_outputmanagement": _far("sets monitors up"),
        "org_kde_plasma_shell": _far("panels and windows at any place, unlabelled"),
        "org_kde_plasma_virtual_desktop_management": _far("sees and rules desktops"),
        "xwayland_shell_v1": _ask("windows of an Xwayland"),
        "zwlr_layer_shell_v1": _far("panels, over other windows", "toplevel"),
        "zwlr_output_manager_v1": _far("sets monitors up", "devices"),
        "zwlr_output_power_manager_v1": _far("switches monitors off"),
        "zwp_fullscreen_shell_v1": _far(
            "shows one surface and nothing else, unlabelled"
        ),
        # ------------------------------------------------ what cannot be relayed
        "frog_color_management_factory_v1": _no(
            "not in our tables; a draft of wp_color_manager_v1"
        ),
        "gtk_shell1": _no("not in our tables; names services of a D-Bus, the host's"),
        "hyprland_global_shortcuts_manager_v1": _no("not in our tables", reaches=True),
        "hyprland_toplevel_export_manager_v1": _no("not in our tables", reaches=True),
        "kde_output_device_registry_v2": _no(
            "names files of the host, of colour profiles", reaches=True
        ),
        "kde_output_device_v2": _no(
            "names files of the host, of colour profiles", reaches=True
        ),
        "kde_output_management_v2": _no(
            "names files of the host, of colour profiles", reaches=True
        ),
        "mutter_x11_interop": _no("not in our tables; names windows of X11's"),
        "org_kde_kwin_appmenu_manager": _no("names services of a D-Bus, the host's"),
        "org_kde_kwin_remote_access_manager": _no(
            "passes buffers of the host's GPU", reaches=True
        ),
        "org_kde_kwin_server_decoration_palette_manager": _no(
            "names a file, the host's"
        ),
        "qt_surface_extension": _no("gives windows properties past our labels"),
        "weston_capture_v1": _no("not in our tables", reaches=True),
        "weston_content_protection": _no("not in our tables"),
        "weston_debug_v1": _no("not in our tables; tells of all apps", reaches=True),
        "weston_desktop_shell": _no(
            "not in our tables; is the desktop's own shell", reaches=True
        ),
        "weston_direct_display_v1": _no("not in our tables; is about the host's GPU"),
        "weston_touch_calibration": _no("not in our tables", reaches=True),
        "wl_drm": _no("not in our tables; names buffers by what only one kernel knows"),
        "wl_eglstream_controller": _no("is about the host's GPU"),
        "wp_drm_lease_device_v1": _no("passes devices of the host"),
        "wp_linux_drm_syncobj_manager_v1": _no("passes fences of one kernel's"),
        "wp_security_context_manager_v1": _no("passes sockets that are listened at"),
        "xdg_shell": _no(
            "a draft with other interfaces under the names of xdg_wm_base's"
        ),
        "xx_color_manager_v4": _no("not in our tables; a draft of wp_color_manager_v1"),
        "xx_session_manager_v1": _no(
            "not in our tables; a draft of xdg_session_manager_v1"
        ),
        "zkde_screencast_unstable_v1": _no(
            "captures screens through PipeWire, the host's", reaches=True
        ),
        "zwlr_export_dmabuf_manager_v1": _no(
            "passes buffers of the host's GPU", reaches=True
        ),
        "zwlr_gamma_control_manager_v1": _no(
            "passes tables in files of the guest, which are not carried", reaches=True
        ),
        "zwp_linux_explicit_synchronization_v1": _no("passes fences of one kernel's"),
        "zwp_virtual_keyboard_manager_v1": _no(
            "types, by keymaps in files of the guest, which are not carried",
            reaches=True,
        ),
    }
)
"""Interface to its row."""

NO_GLOBALS: Final = MappingProxyType(
    {
        "wl_display": "is there from the start",
        "wp_image_description_reference_v1": "other protocols make it",
    }
)
"""Interfaces that no message of our tables makes, and that are no globals all the same."""
