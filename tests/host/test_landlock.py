"""Threads confine themselves, which the others do not notice."""

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from wlproxy.host import landlock
from wlproxy.host.landlock import Access, Rule, abi, confine_thread, no_new_privileges

needs_landlock = pytest.mark.skipif(not abi(), reason="this kernel has no Landlock")


def in_confined_thread(
    rules: Sequence[Rule],
    *tried: Callable[[], object],
    abstract_sockets: bool = False,
) -> list[bool]:
    """Return which of the deeds succeed in a thread that has confined itself."""
    done: list[bool] = []

    def confined() -> None:
        confine_thread(rules, abstract_sockets=abstract_sockets)
        for deed in tried:
            try:
                deed()
            except PermissionError:
                done.append(False)
            else:
                done.append(True)

    thread = threading.Thread(target=confined)
    thread.start()
    thread.join()
    return done


@needs_landlock
def test_what_no_rule_allows_is_forbidden(tmp_path: Path) -> None:
    file, other = tmp_path / "directory" / "file", tmp_path / "other"
    file.parent.mkdir()
    file.write_text("")
    other.write_text("")
    rules = [
        Rule(file.parent, Access.READ_FILE),
        # A rule for a file can have nothing that is of directories, which is left out.
        Rule(other, Access.WRITE_FILE | Access.READ_DIR),
        Rule(tmp_path, Access.REFER & Access.TRUNCATE),
        Rule(tmp_path / "missing", Access.READ_FILE),
    ]
    tried = (
        file.read_text,
        lambda: file.write_text("more"),
        file.unlink,
        other.read_text,
        lambda: other.open("ab").close(),
    )
    assert in_confined_thread(rules, *tried) == [True, False, False, False, True]
    assert (file.read_text(), other.read_text()) == ("", "")


@pytest.mark.skipif(abi() < 6, reason="this kernel's Landlock has no scopes")
@pytest.mark.parametrize("allowed", [True, False])
def test_abstract_sockets(allowed: bool) -> None:
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        listener.bind("")  # the kernel names it
        listener.listen()
        name = listener.getsockname()
        said = in_confined_thread(
            [], lambda: connection.connect(name), abstract_sockets=allowed
        )
    assert said == [allowed]


@needs_landlock
@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_kernels_are_asked_only_for_what_they_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int
) -> None:
    """What is not forbidden is what such a kernel does not know: here, by this one."""
    if version > abi():
        pytest.skip("this kernel's Landlock is older")
    monkeypatch.setattr(landlock, "abi", lambda: version)
    file = tmp_path / "file"
    file.write_text("full")
    with socket.socket() as tcp:
        done = in_confined_thread(
            [Rule(file, Access.READ_FILE | Access.IOCTL_DEV)],
            file.read_text,
            lambda: os.truncate(file, 0),
            lambda: tcp.bind(("127.0.0.1", 0)),
        )
    assert done == [True, version < 3, version < 4]


@needs_landlock
def test_a_kernel_that_does_not_do_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landlock, "_RESTRICT_SELF", -1)
    errors: list[OSError] = []

    def confined() -> None:
        try:
            confine_thread([], abstract_sockets=True)
        except OSError as exc:
            errors.append(exc)

    thread = threading.Thread(target=confined)
    thread.start()
    thread.join()
    assert "not implemented" in str(errors[0])


def test_no_landlock_is_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_CREATE_RULESET", -1)
    assert abi() == 0


def test_no_new_privileges() -> None:
    said: list[bool] = []
    libc = ctypes.CDLL(None)

    def ask() -> None:
        said.append(bool(libc.prctl(39, 0, 0, 0, 0)))  # PR_GET_NO_NEW_PRIVS
        no_new_privileges()
        said.append(bool(libc.prctl(39, 0, 0, 0, 0)))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert said[1:] == [True]


def test_what_the_kernel_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_PR_SET_NO_NEW_PRIVS", -1)
    with pytest.raises(OSError, match="Invalid argument"):
        no_new_privileges()
