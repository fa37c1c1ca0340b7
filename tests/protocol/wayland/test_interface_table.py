"""The table that is shipped: read lazily, and sound."""

import pytest

from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES


def test_known_messages() -> None:
    attach = INTERFACES["wl_surface"].request("attach")
    assert (attach.opcode, attach.since) == (1, 1)
    assert attach.args == (
        ArgSpec(ArgKind.OBJECT, nullable=True, interface="wl_buffer"),
        ArgSpec(ArgKind.INT),
        ArgSpec(ArgKind.INT),
    )
    damage_buffer = INTERFACES["wl_surface"].request("damage_buffer")
    assert (damage_buffer.opcode, damage_buffer.since) == (9, 4)
    keymap = INTERFACES["wl_keyboard"].event("keymap")
    assert [arg.kind for arg in keymap.args] == [ArgKind.UINT, ArgKind.FD, ArgKind.UINT]


def test_names_are_those_of_the_protocol() -> None:
    assert INTERFACES["wl_registry"].event("global").opcode == 0
    for interface in INTERFACES.values():
        for message in (*interface.requests, *interface.events):
            assert message.interface == interface.name
            assert not message.name.startswith("_")
            assert not message.name.endswith("_")


def test_stable_xdg_shell_wins_over_its_draft() -> None:
    assert INTERFACES["xdg_surface"].version > 1
    assert "xdg_wm_base" in INTERFACES
    assert "xdg_shell" not in INTERFACES


def test_opcodes_count_up() -> None:
    for interface in INTERFACES.values():
        for messages in (interface.requests, interface.events):
            assert [spec.opcode for spec in messages] == list(range(len(messages)))


def test_messages_refer_to_known_interfaces() -> None:
    for interface in INTERFACES.values():
        for message in (*interface.requests, *interface.events):
            for arg in message.args:
                assert arg.interface is None or arg.interface in INTERFACES


def test_only_bind_creates_what_its_table_does_not_name() -> None:
    untyped = [
        str(message)
        for interface in INTERFACES.values()
        for message in (*interface.requests, *interface.events)
        if message.has_untyped_new_id
    ]
    assert untyped == ["wl_registry.bind"]


def test_a_message_creates_at_most_one_object() -> None:
    for interface in INTERFACES.values():
        for message in (*interface.requests, *interface.events):
            kinds = [arg.kind for arg in message.args]
            assert kinds.count(ArgKind.NEW_ID) <= 1


def test_is_a_mapping() -> None:
    assert len(INTERFACES) == len(set(INTERFACES))
    assert "wl_display" in INTERFACES
    with pytest.raises(KeyError):
        INTERFACES["no_such_interface"]


def test_version_and_protocol_are_read_without_the_messages() -> None:
    assert INTERFACES.version("wl_surface") == INTERFACES["wl_surface"].version
    assert INTERFACES.protocol("wl_surface") == "wayland"
    assert INTERFACES.protocol("zwlr_layer_shell_v1") == "wlr_layer_shell_unstable_v1"


def test_an_interface_is_made_once() -> None:
    assert INTERFACES["wl_surface"] is INTERFACES["wl_surface"]


@pytest.mark.parametrize(
    ("interface", "request_name", "ends"),
    [
        ("wl_surface", "destroy", True),
        ("wl_pointer", "release", True),
        ("xdg_session_v1", "remove", True),
        ("wp_drm_lease_device_v1", "release", False),  # it ends with an event
        ("wl_surface", "commit", False),
    ],
)
def test_destructors(interface: str, request_name: str, *, ends: bool) -> None:
    assert INTERFACES[interface].request(request_name).is_destructor is ends


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (
            INTERFACES["wl_shm_pool"].request("create_buffer"),
            ["new_id", "offset", "width", "height", "stride", "format"],
        ),
        (INTERFACES["wl_registry"].request("bind"), ["name", "new_id"]),
        (
            INTERFACES["wl_registry"].event("global"),
            ["name", "interface", "version"],
        ),
        (INTERFACES["wl_data_device"].event("data_offer"), ["id"]),
        (INTERFACES["wl_shell_surface"].request("set_class"), ["class_"]),
    ],
    ids=str,
)
def test_arguments_have_the_names_of_the_protocol(
    spec: MessageSpec, names: list[str]
) -> None:
    assert [arg.name for arg in spec.args] == names
    assert spec.places == {name: place for place, name in enumerate(names)}


def test_every_argument_has_a_name_of_its_own() -> None:
    for interface in INTERFACES.values():
        for spec in (*interface.requests, *interface.events):
            assert len(spec.places) == len(spec.args), spec
            assert "" not in spec.places, spec
