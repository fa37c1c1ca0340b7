"""What every module promises: a docstring, a bounded length, a name that says something."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("wlproxy", "guest-agent/wlproxy_guest")
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)

MAX_LINES = 500
LONGER: dict[str, str] = {}
"""Module -> why it may be longer (and how it came to that)."""

EMPTY_WORDS = {
    *("base", "common", "data", "helper", "helpers", "info", "manager", "misc"),
    *("util", "utils"),
}


@pytest.mark.parametrize("module", MODULES)
def test_module_opens_with_a_docstring(module: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / module).read_text()))


@pytest.mark.parametrize("module", MODULES)
def test_module_fits_in_a_readers_head(module: str) -> None:
    lines = len((ROOT / module).read_text().splitlines())
    assert lines <= MAX_LINES or module in LONGER
    assert lines > MAX_LINES or module not in LONGER, "no exemption needed any more"


@pytest.mark.parametrize("module", MODULES)
def test_module_is_named_for_what_it_does(module: str) -> None:
    for part in Path(module).with_suffix("").parts:
        assert not EMPTY_WORDS & set(part.split("_"))


def test_exemptions_are_for_modules_that_exist() -> None:
    assert LONGER.keys() <= set(MODULES)
