"""Where sockets are, and that nobody else can listen there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import check_place


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "up").mkdir(0o755)
    (tmp_path / "up" / "place").mkdir(0o755)
    return tmp_path / "up" / "place"


def test_a_directory_that_others_can_only_read(place: Path) -> None:
    check_place(place / "ram")


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775, 0o757])
def test_a_directory_that_others_can_write_to(place: Path, mode: int) -> None:
    """With a sticky bit, too: they cannot remove our socket, but be there first."""
    place.chmod(mode)
    with pytest.raises(HostError, match=f"{place}(.|\\n)*go-w {place}"):
        check_place(place / "ram")


def test_a_directory_whose_name_others_can_give_to_another(place: Path) -> None:
    place.parent.chmod(0o777)
    with pytest.raises(HostError, match=f"go-w {place.parent}$"):
        check_place(place / "ram")
    place.parent.chmod(0o1777)
    check_place(place / "ram")


def test_what_a_link_leads_to_counts(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(place)
    check_place(link / "ram")
    place.chmod(0o777)
    with pytest.raises(HostError, match="others can write"):
        check_place(link / "ram")


@pytest.fixture
def of_somebody_else(place: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("needs root, to give a directory away")
    os.chown(place, 4711, -1)
    yield place
    os.chown(place, 0, -1)


def test_a_directory_of_somebody_else(of_somebody_else: Path) -> None:
    with pytest.raises(HostError, match="others can write"):
        check_place(of_somebody_else / "ram")


def test_no_directory(place: Path) -> None:
    with pytest.raises(HostError, match="ENOENT"):
        check_place(place / "none" / "ram")
