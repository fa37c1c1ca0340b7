"""Where sockets are, and that nobody else can listen there."""

import grp
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import (
    ACCESS_LIST,
    access_list,
    check_name,
    check_place,
    let_in,
    listen_at,
    vm_name,
)


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


@pytest.fixture
def listening() -> Iterator[Path]:
    """A socket of ours, where everybody may get."""
    with tempfile.TemporaryDirectory(prefix="wl-") as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "ram")
        with listen_at(path, socket.SOCK_STREAM, "cannot", "busy"):
            yield path


def may_connect(path: Path, user: int, group: int) -> bool:
    """Ask a process of that user, in no group but this one."""
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code],
        user=user,
        group=group,
        extra_groups=[],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


def test_a_group_that_we_are_in_is_let_in(listening: Path) -> None:
    own = grp.getgrgid(os.getegid()).gr_name
    let_in(listening, own)
    assert stat.S_IMODE(listening.stat().st_mode) == 0o660


def test_a_group_that_is_not(listening: Path) -> None:
    with pytest.raises(HostError, match="there is no group 'no-such-group'"):
        let_in(listening, "no-such-group")
    assert stat.S_IMODE(listening.stat().st_mode) == 0o600


def test_a_group_that_we_are_not_in_is_let_in_by_a_list(
    listening: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an ordinary user's proxy lets QEMU in; root, as a test may be, could give it away."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    try:
        let_in(listening, "4712")
    except HostError as exc:
        pytest.skip(f"this file system has no access control lists: {exc}")
    assert os.getxattr(listening, ACCESS_LIST) == access_list(4712)
    monkeypatch.undo()
    if os.geteuid() or not Path("/usr/bin/python3").exists():
        pytest.skip("needs root, to be somebody else, and a Python for all")
    assert may_connect(listening, 4711, 4712)
    assert not may_connect(listening, 4711, 4713)


@pytest.mark.parametrize(
    ("domain", "name"),
    [("debian12", "debian12"), ("vm.1 x", "vm-1-x"), ("-a", "_-a"), ("é", "_-")],
)
def test_a_domains_name_names_windows(domain: str, name: str) -> None:
    assert vm_name(domain) == name
    assert check_name(vm_name(domain * 99))
