"""What every module promises: a docstring, a bounded length, a name that says something."""

import ast
import re
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


def missing_siblings(package: Path) -> set[str]:
    """Returns names that a package's docstring gives as modules but that do not exist.

    A name counts if it stands in backticks and is a lower-case identifier: paths, classes
    and constants do not look like modules.

    Args:
        package: the package's directory.
    """
    docstring = (
        ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    )
    return {
        name
        for name in re.findall(r"`([a-z][a-z0-9_]*)`", docstring)
        if not (package / f"{name}.py").is_file()
        and not (package / name / "__init__.py").is_file()
    }


@pytest.mark.parametrize("module", [m for m in MODULES if m.endswith("/__init__.py")])
def test_package_names_modules_that_exist(module: str) -> None:
    assert missing_siblings((ROOT / module).parent) == set()


def test_a_module_that_is_gone_is_missed(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text(
        '"""`here`, `room`, `gone`, `Class`, `a/path`."""\n'
    )
    (tmp_path / "here.py").touch()
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").touch()
    assert missing_siblings(tmp_path) == {"gone"}
