import importlib
import itertools
import pkgutil
import subprocess
import sys
from collections import defaultdict
from typing import Any

import pytest
import pywayland.protocol
from pywayland.protocol_core.interface import Interface as PywaylandInterface

from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES


def described_in() -> dict[str, dict[str, type[Any]]]:
    """Interface name -> pywayland module -> its description there."""
    found: dict[str, dict[str, type[Any]]] = defaultdict(dict)
    for module in pkgutil.iter_modules(pywayland.protocol.__path__):
        source = importlib.import_module(f"pywayland.protocol.{module.name}")
        for value in vars(source).values():
            if (
                isinstance(value, type)
                and issubclass(value, PywaylandInterface)
                and value.__module__ == source.__name__
            ):
                found[value.name][module.name] = value
    return found


def test_every_described_interface_is_known_in_its_highest_version() -> None:
    for name, sources in described_in().items():
        sources.pop("xdg_shell_unstable_v5", None)
        if sources:
            highest = max(source.version for source in sources.values())
            assert INTERFACES[name].version == highest
        else:
            assert name not in INTERFACES


def test_a_lower_version_is_the_beginning_of_the_higher() -> None:
    # Otherwise an object bound at the lower version would be misread.
    def messages(source: type[Any], side: str) -> list[tuple[str, list[str]]]:
        return [
            (message.name, [argument.signature for argument in message.arguments])
            for message in getattr(source, side)
        ]

    for sources in described_in().values():
        sources.pop("xdg_shell_unstable_v5", None)
        ordered = sorted(sources.values(), key=lambda source: source.version)
        for low, high in itertools.pairwise(ordered):
            for side in ("requests", "events"):
                beginning = messages(low, side)
                assert messages(high, side)[: len(beginning)] == beginning


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


def test_importing_reads_no_protocol_module() -> None:
    program = (
        "import sys, wlproxy.protocol.wayland.interface_table\n"
        "sys.exit('pywayland.protocol.xdg_shell' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


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
        (INTERFACES["wl_shell_surface"].request("set_class"), ["class"]),
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
