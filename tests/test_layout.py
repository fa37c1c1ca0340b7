"""What every module promises: a docstring, a bounded length, a name that says something."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("wlproxy", "guest-agent/wlproxy_guest", "bench", "release")
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)

MAX_LINES = 500
LONGER: dict[str, str] = {}
"""Module -> why it may be longer (and how it came to that)."""

PROSE = sorted(
    {
        path.relative_to(ROOT).as_posix()
        for place in (*PACKAGES, "kernel", "lab", "tests", "docs", "guest-agent")
        for kind in ("*.py", "*.md")
        for path in (ROOT / place).rglob(kind)
    }
    | {path.name for path in ROOT.glob("*.md")}
)

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


def opens_with_a_line(docstring: str) -> bool:
    """Tell whether the first paragraph is one line that ends as a sentence does."""
    first, *_ = docstring.strip().split("\n\n")
    return "\n" not in first and first[-1] in ".:?!"


def test_every_modules_first_sentence_stands_alone() -> None:
    found = set()
    for name in PROSE:
        if name.endswith(".py"):
            docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
            if docstring is not None and not opens_with_a_line(docstring):
                found.add(name)
    assert found == set()


@pytest.mark.parametrize(
    ("docstring", "alone"),
    [
        ("What it is.", True),
        ("What it is.\n\nAnd more.", True),
        ("What it is.\nAnd more.", False),
        ("What it is", False),
    ],
)
def test_a_first_sentence_that_goes_on_is_found(docstring: str, *, alone: bool) -> None:
    assert opens_with_a_line(docstring) == alone


def prose(source: str) -> list[str]:
    """Return a module's docstrings, strings that stand alone, and comments.

    Args:
        source: the module's text.
    """
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return [*strings, *re.findall(r"(?:^|\s)# (.*)", source)]


def turned_round(texts: list[str]) -> list[str]:
    """Find sentences that begin with "Of": their words are in no English order."""
    pattern = re.compile(r"(^|[.:;?!|*]\s+|\n\s*\n\s*)Of\s")
    return [text for text in texts if pattern.search(text.strip())]


def test_no_sentence_begins_with_of() -> None:
    found = {}
    for name in PROSE:
        text = (ROOT / name).read_text()
        if not re.search(r"\bOf\s", text):
            continue
        if bad := turned_round(prose(text) if name.endswith(".py") else [text]):
            found[name] = bad
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        '"""Of a VM."""',
        'X = 1\n"""A name.  Of a VM."""',
        "x = 1  #" + " Of a VM.",  # in two, for this module is searched as well
        'def f():\n    """Do it.\n\n    Of a VM, all of it.\n    """',
    ],
)
def test_a_sentence_that_begins_with_of_is_found(text: str) -> None:
    assert len(turned_round(prose(text))) == 1


def test_of_within_a_sentence_is_none() -> None:
    assert not turned_round(prose('"""The name\nOf a VM, and not\nof another."""'))


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
