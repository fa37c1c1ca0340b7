"""The allow-list: safe by default, changed by name."""

import pytest

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.policy import ALLOWED_BY_DEFAULT, PRIVILEGED, effective_policy

DANGEROUS = [
    *(
        "zwlr_screencopy_manager_v1",
        "zwlr_layer_shell_v1",
        "zwlr_data_control_manager_v1",
    ),
    *("ext_session_lock_manager_v1", "zwp_virtual_keyboard_manager_v1"),
    *("wp_security_context_manager_v1", "ext_image_copy_capture_manager_v1"),
    *("wp_linux_drm_syncobj_manager_v1", "zwp_keyboard_shortcuts_inhibit_manager_v1"),
]


@pytest.mark.parametrize("interface", DANGEROUS)
def test_what_reaches_beyond_the_guest_is_denied(interface: str) -> None:
    assert interface not in effective_policy()


def test_what_our_tables_do_not_know_is_left_out() -> None:
    policy = effective_policy()

    assert policy.keys() <= ALLOWED_BY_DEFAULT.keys()
    caps = {"wl_compositor": 6, "wl_fixes": 1, "zwp_linux_dmabuf_v1": 5}
    assert all(
        version == caps.get(name, INTERFACES[name].version)
        for name, version in policy.items()
    )


def test_allow_and_deny() -> None:
    policy = effective_policy(
        allow=["ext_session_lock_manager_v1", "zwp_linux_dmabuf_v1"],
        deny=["wl_seat", "zwlr_screencopy_manager_v1"],  # not allowed anyway
    )

    assert "ext_session_lock_manager_v1" in policy
    assert policy["zwp_linux_dmabuf_v1"] == 5  # served by us, as far as we can
    assert "wl_seat" not in policy


def test_nothing_privileged_is_allowed_by_default() -> None:
    assert not PRIVILEGED & ALLOWED_BY_DEFAULT.keys()


def test_a_name_that_is_nearly_right_is_recognized() -> None:
    with pytest.raises(ValueError, match=r"mean ext_session_lock_manager_v1\?"):
        effective_policy(allow=["ext_session_lock_manager"])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("zwp_idle_inhibit_manger_v1", r"mean zwp_idle_inhibit_manager_v1\?"),
        ("some_vendors_own_v1", "no such global is known"),
        ("wl_surface", "no global"),
    ],
)
def test_what_is_no_global_cannot_be_denied(name: str, problem: str) -> None:
    """Taken silently, a mistyped one would stay allowed."""
    with pytest.raises(ValueError, match=f"cannot deny {name}: .*{problem}"):
        effective_policy(deny=[name])


def test_an_interface_that_cannot_be_allowed() -> None:
    with pytest.raises(ValueError, match="cannot allow some_vendors_own_v1"):
        effective_policy(allow=["some_vendors_own_v1"])


@pytest.mark.parametrize(
    "name", ["wp_linux_drm_syncobj_manager_v1", "zwlr_export_dmabuf_manager_v1"]
)
def test_what_cannot_be_relayed_cannot_be_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot allow {name}: passes"):
        effective_policy(allow=[name])


def test_what_is_no_global_cannot_be_allowed() -> None:
    with pytest.raises(ValueError, match="no global"):
        effective_policy(allow=["wl_surface"])


@pytest.mark.parametrize(
    "name",
    [
        *("org_kde_kwin_server_decoration_manager", "wp_color_manager_v1"),
        *("wp_color_representation_manager_v1", "wl_fixes"),
    ],
)
def test_what_apps_look_right_with_is_allowed(name: str) -> None:
    assert name in effective_policy()
    assert name not in effective_policy(deny=[name])


@pytest.mark.parametrize(
    "name", ["zwlr_screencopy_manager_v1", "org_kde_plasma_window_management"]
)
def test_wlroots_and_kde_can_be_allowed(name: str) -> None:
    assert name not in effective_policy()
    assert name in effective_policy(allow=[name])
