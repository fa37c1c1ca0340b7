"""`docs/architecture.md` names files and rooms that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/architecture.md").read_text()
HOUSES = (ROOT, ROOT / "wlproxy", ROOT / "guest-agent/wlproxy_guest")
FILES = sorted(set(re.findall(r"`([a-z_/-]+/[a-z_]+\.py)`", TEXT)))
ROOMS = sorted(set(re.findall(r"`((?:wlproxy|guest-agent)/[a-z_/-]+)`", TEXT)))
PACKAGES = sorted(
    path.parent.relative_to(ROOT).as_posix()
    for house in HOUSES[1:]
    for path in house.glob("**/__init__.py")
    if path.parent not in (*HOUSES, ROOT / "wlproxy/protocol")  # two rooms, and no more
)


def is_there(name: str) -> bool:
    return any((house / name).exists() for house in HOUSES)


@pytest.mark.parametrize("name", [*FILES, *ROOMS])
def test_what_is_named_is_there(name: str) -> None:
    assert is_there(name) or is_there(f"{name}.py")


def test_what_is_not_there_is_found() -> None:
    assert not is_there("relay/elsewhere.py")


@pytest.mark.parametrize("room", PACKAGES)
def test_every_room_is_named(room: str) -> None:
    assert f"`{room}`" in TEXT
