"""What `docs/powers.md` says of our own switches and defaults is so, and no switch is missing."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.docs.blocks import ROOT
from wlproxy import cli
from wlproxy.relay.policy_tree import ROWS, Globals, Policy, Row
from wlproxy.relay.verdicts import VERDICTS, Access

PAGE = ROOT / "docs/powers.md"
KEYS = {row.path: row for row in ROWS}
COLUMNS = 8
ELSEWHERE = {"ask", "CPUQuota="}
"""Words in the column of switches that are a value, and systemd's."""


class Power(NamedTuple):
    """A row of the page: its first three columns, and what is said of others."""

    name: str
    default: str
    switch: str
    others: tuple[str, ...]


def read() -> Iterator[Power]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| a guest can |")):
            name, default, switch, *others = (
                cell.strip() for cell in line.strip("|").split("|")
            )
            yield Power(name, default, switch, tuple(others))


POWERS = list(read())


def spans(text: str) -> list[str]:
    """What is in backticks."""
    return re.findall("`([^`]+)`", text)


def options() -> set[str]:
    """Every option of `wlproxy run`."""
    run = cli.main.get_command(None, "run")  # type: ignore[arg-type]
    assert run is not None
    return {name for each in run.params for name in each.opts}


@pytest.mark.parametrize("power", POWERS, ids=lambda power: power.name[:40])
def test_a_switch_is_one_that_there_is(power: Power) -> None:
    known = KEYS.keys() | VERDICTS.keys() | options() | ELSEWHERE
    assert set(spans(power.switch)) <= known
    assert spans(power.switch) or power.switch == "none"
    assert 3 + len(power.others) == COLUMNS
    assert all(power.others), "? stands for what is not known"


@pytest.mark.parametrize("power", POWERS, ids=lambda power: power.name[:40])
def test_a_default_is_the_one_that_there_is(power: Power) -> None:
    keys = [KEYS[each] for each in spans(power.switch) if each in KEYS]
    asked = [row for row in keys if row.group != "globals"]
    assert [_written(row) for row in asked] == spans(power.default)
    names = [each for each in spans(power.switch) if each in VERDICTS]
    if "`globals.allow`" in power.switch:
        assert {VERDICTS[name].access for name in names} == {Access.ON_REQUEST}
        assert power.default.startswith("no")
    elif "`globals.deny`" in power.switch:
        assert {VERDICTS[name].access for name in names} == {Access.ALLOWED}
        assert names[0] in Globals().caps


def test_every_key_of_the_policy_is_a_power_of_the_guests() -> None:
    named = {each for power in POWERS for each in spans(power.switch)}
    assert KEYS.keys() - named == {"globals.versions"}


def _written(row: Row) -> str:
    return row.written(Policy()).removeprefix('"').removesuffix('"')
