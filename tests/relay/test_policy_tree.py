"""The keys of a policy: each has a reason, reads what it writes, and judges what it is given."""

import re
import tomllib
from contextlib import suppress
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.relay.playbook import NOTHING
from tests.relay.shell import guest_memory
from tests.relay.twins import known
from wlproxy.protocol.channel.frames import ClientOpened
from wlproxy.protocol.notation import Plain
from wlproxy.relay import quotas
from wlproxy.relay.inputs import PolicyChanged
from wlproxy.relay.policy_keys import Choice, Kind, Names, Number, Versions
from wlproxy.relay.policy_tree import (
    ROWS,
    Clipboard,
    Direction,
    Globals,
    Limits,
    Policy,
    Row,
    check_names,
)
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.context import RelayConfig


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_a_key_has_a_reason_and_reads_its_default(row: Row) -> None:
    assert row.key.what.endswith(".")
    assert row.key.why.endswith(".")
    policy = Policy()
    value = tomllib.loads(f"key = {row.written(policy)}")["key"]
    assert row.key.kind.read(value) == row.of(policy)


@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.text() | st.integers())
    | st.dictionaries(st.text(), st.integers() | st.text())
)
def test_whatever_a_file_says_is_a_value_or_told_to_be_none(value: object) -> None:
    for row in ROWS:
        with suppress(ValueError):
            read = row.key.kind.read(value)
            again = tomllib.loads(f"key = {row.key.kind.write(read)}")["key"]
            assert row.key.kind.read(again) == read


class Word(Enum):
    ONE = "one"
    OTHER = "other"


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (Choice(Word), "othr", 'one of "one", "other". Did you mean other?'),
        (Choice(Word), 1, 'one of "one", "other"'),
        (Choice(Word, {"other": "cannot be"}), "other", "cannot be"),
        (Number(1), 0, "from 1 to"),
        (Number(1), True, "is to be a number from 1 on"),
        (Number(1, 2), 3, "from 1 to 2"),
        (Names("words"), "one", "is to be an array of words"),
        (Names("words"), [1], "is to be an array of words"),
        (Versions(), ["wl_seat"], "is to be a table of versions"),
        (Versions(), {"wl_seat": 0}, "wl_seat: is to be a number from 1"),
    ],
)
def test_what_is_no_value(kind: Kind[Any], value: object, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        kind.read(value)


def test_globals_that_there_are_not() -> None:
    for option in ("allow", "deny"):
        with pytest.raises(ValueError, match="wl_seet"):
            check_names(option, ("wl_seet",))
    with pytest.raises(ValueError, match=r"cannot cap wl_seet.*mean wl_seat\?"):
        Globals(versions={"wl_seet": 3})


def test_mime_types() -> None:
    rules = Clipboard(types=("text/*", "STRING"))
    assert rules.has_type(b"text/html")
    assert rules.has_type(b"STRING")
    assert not rules.has_type(b"TEXT/html")
    assert not rules.has_type(b"image/png\xff")
    assert Clipboard().has_type(b"\xff")
    assert not Clipboard(types=()).has_type(b"text/plain")


def test_who_may_have_what() -> None:
    assert [each.value for each in Direction if each.to_guest] == [
        *("both", "to-guest", "ask"),
    ]
    assert [each.value for each in Direction if each.to_host] == [
        *("both", "to-host", "ask"),
    ]


def test_limits_are_those_of_the_quotas() -> None:
    limits = Limits(
        app_copy_bytes=1,
        vm_copy_bytes=2,
        app_locations=3,
        vm_locations=4,
        app_runs=5,
        vm_runs=6,
        ram_times=7,
    )
    memory = guest_memory()
    relay = Relay(RelayConfig(policy=Policy(limits=limits)), memory, NOTHING)
    relay.receive(ClientOpened(1, 1, 1, 1, "app"))
    [context] = known(relay, "Context")
    assert shares(context["shares"]) == {"copy_bytes": 1, "locations": 3, "runs": 5}
    assert quota_limits(relay) == [2, 4, 7 * memory.size, 6]
    relay.receive(PolicyChanged(Policy()))
    assert quota_limits(relay) == [
        quotas.MAX_VM_COPY_BYTES,
        quotas.MAX_VM_LOCATIONS,
        quotas.MAX_RAM_LOCATED * memory.size,
        quotas.MAX_VM_RUNS,
    ]


def shares(plain: Plain) -> dict[str, Plain]:
    """The limits of what a client may take, but for the RAM."""
    assert isinstance(plain, dict)
    return {
        name: share["limit"]
        for name, share in plain.items()
        if isinstance(share, dict) and name != "located_bytes"
    }


def quota_limits(relay: Relay) -> list[Plain]:
    """The limits of the VM: copied bytes, locations, located bytes, runs."""
    return [quota["limit"] for quota in known(relay, "Quota")]
