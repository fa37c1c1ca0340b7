"""The tables are those of the protocols: compared with the XML, and with pywayland's."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pywayland.protocol
from pywayland.protocol_core.interface import Interface as PywaylandInterface

from tests.tables.packages import NoPackagesError, Package, fetch
from tests.tables.protocol_xml import UnfitXmlError, begins, merge, read
from tests.tables.written import (
    TABLES,
    described_in,
    interfaces_in,
    recorded_versions,
    written,
)
from wlproxy.protocol.wayland.interface import ArgKind, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES

# ---------------------------------------------------------------- what is shipped


@pytest.mark.slow
def test_the_tables_are_current(tmp_path: Path) -> None:
    """They are what `make tables` writes of the XML in Debian's packages.

    A package that is newer than the one that they were made of is no fault of a commit:
    then what is known must be the beginning of what is new, and the rest is left to
    whoever runs `make tables`.
    """
    try:
        packages = fetch(tmp_path)
    except NoPackagesError as exc:
        pytest.skip(f"the protocols' XML cannot be had: {exc}")
    shipped = TABLES.read_text()
    recorded, ours = recorded_versions(shipped), described_in(shipped)
    assert recorded.keys() == {package.name for package in packages}
    newer = [each for each in packages if recorded[each.name] != each.version]
    if not newer:
        assert written(packages) == shipped, "run: make tables"
        return
    for package in packages:
        for name, theirs in merge(interfaces_in(package)).items():
            if name in ours:
                low, high = sorted((ours[name], theirs), key=lambda each: each.version)
                assert begins(low, high), f"{name} of {package.name} {package.version}"
            assert name in ours or package in newer, f"{name}: run: make tables"
    changed = ", ".join(f"{each.name} {each.version}" for each in newer)
    pytest.skip(f"unchanged as far as known, and Debian has {changed}: make tables")


def test_the_file_is_as_it_is_written() -> None:
    """Nobody has edited it: each block is spelled as the generator spells it."""
    shipped = TABLES.read_text()
    blocks = [each.block() for each in described_in(shipped).values()]
    assert shipped.partition("\n\n")[2] == "\n".join(blocks)
    assert described_in(shipped).keys() == set(INTERFACES)


# ---------------------------------------------------------------- pywayland's


def described_by_pywayland() -> Iterator[type[Any]]:
    """Every interface of pywayland's modules, except the draft that is superseded."""
    for module in pkgutil.iter_modules(pywayland.protocol.__path__):
        source = importlib.import_module(f"pywayland.protocol.{module.name}")
        for value in vars(source).values():
            if (
                isinstance(value, type)
                and issubclass(value, PywaylandInterface)
                and value.__module__ == source.__name__
                and module.name != "xdg_shell_unstable_v5"
            ):
                yield value


KINDS = {
    "Int": ArgKind.INT,
    "Uint": ArgKind.UINT,
    "Fixed": ArgKind.FIXED,
    "String": ArgKind.STRING,
    "Object": ArgKind.OBJECT,
    "NewId": ArgKind.NEW_ID,
    "Array": ArgKind.ARRAY,
    "FileDescriptor": ArgKind.FD,
}


def ours(spec: MessageSpec) -> tuple[Any, ...]:
    args = [(arg.kind, arg.nullable, arg.interface) for arg in spec.args]
    return spec.name, spec.since, args


def theirs(message: Any) -> tuple[Any, ...]:
    args = [
        (
            KINDS[arg.argument_type.name],
            bool(arg.nullable),
            arg.interface.name if arg.interface else None,
        )
        for arg in message.arguments
    ]
    return message.name, message.version or 1, args


def test_pywayland_says_the_same() -> None:
    """A scanner of other people's, of XML that they chose: two readings agree."""
    compared = 0
    for source in described_by_pywayland():
        known = INTERFACES[source.name]
        assert source.version <= known.version, f"{source.name}: run: make tables"
        for specs, messages in (
            (known.requests, source.requests),
            (known.events, source.events),
        ):
            beginning = [theirs(message) for message in messages]
            assert [ours(spec) for spec in specs[: len(messages)]] == beginning
            compared += len(messages)
    assert compared


# ---------------------------------------------------------------- reading XML

XML = """<protocol name="test">
  <copyright>All of it.</copyright>
  <interface name="test_thing" version="{version}">
    <description summary="words">Prose.</description>
    <request name="destroy" type="destructor"/>
    <request name="show" {since}>
      <arg name="id" type="new_id" interface="test_made"/>
      <arg name="buffer" type="{kind}" interface="wl_buffer" allow-null="true"/>
      <arg name="fd" type="fd" summary="words"/>
    </request>
    <event name="shown"><arg name="at" type="uint" enum="when"/></event>
    <enum name="when"><entry name="now" value="0"/></enum>
  </interface>
</protocol>
"""


def xml(directory: Path, name: str = "test.xml", since: str = "", **words: str) -> Path:
    path = directory / name
    path.write_text(
        XML.format(since=since, **{"version": "2", "kind": "object", **words})
    )
    return path


def test_facts_are_kept_and_prose_is_not(tmp_path: Path) -> None:
    [described] = read(xml(tmp_path, since='since="2"'))

    assert described.block() == (
        "test_thing 2 test\n"
        "  request destroy 1 destructor\n"
        "  request show 2 id:new_id:test_made buffer:object?:wl_buffer fd:fd\n"
        "  event shown 1 at:uint\n"
    )
    assert described.creates == {"test_made"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"kind": "float"}, "an argument of type 'float'"),
        ({"since": 'since="3"'}, "a version beyond its own"),
        ({"since": 'type="constructor"'}, "is a constructor"),
    ],
)
def test_what_cannot_be_held_is_an_error(
    tmp_path: Path, words: dict[str, str], problem: str
) -> None:
    with pytest.raises(UnfitXmlError, match=problem):
        read(xml(tmp_path, **words))


def test_the_highest_version_is_taken(tmp_path: Path) -> None:
    low, high = xml(tmp_path, "a.xml", version="1"), xml(tmp_path, "b.xml")
    both = [*read(high), *read(low)]

    assert merge(both)["test_thing"].version == 2


def test_a_version_that_contradicts_a_lower_one_is_an_error(tmp_path: Path) -> None:
    low, high = xml(tmp_path, "a.xml", version="1"), xml(tmp_path, "b.xml", kind="uint")

    with pytest.raises(UnfitXmlError, match="test_thing of test contradicts"):
        merge([*read(low), *read(high)])


def test_a_file_is_written_with_what_it_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "usr/share").mkdir(parents=True)
    xml(tmp_path / "usr/share")
    xml(tmp_path / "usr/share", "xdg-shell-unstable-v5.xml", kind="uint")  # passed over

    text = written([Package("protocols", "1.2-3", tmp_path)])

    assert recorded_versions(text) == {"protocols": "1.2-3"}
    assert described_in(text) == merge(read(tmp_path / "usr/share/test.xml"))
