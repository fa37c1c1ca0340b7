"""What commands have in common that serve a Unix socket until a signal ends them."""

import errno
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wlproxy.commands.listening import exit_at_signals, listening, listening_for
from wlproxy.host.errors import HostError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SAID = ("no socket", "somebody listens")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Whatever a test has signals do, they do the same afterwards as before."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_it_and_its_socket(
    handlers: None, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "socket"

    def serve() -> None:
        with listening(path, socket.SOCK_SEQPACKET, *SAID) as listener:
            exit_at_signals()
            assert listener.type is socket.SOCK_SEQPACKET
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as program:
                program.connect(str(path))
            signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        serve()
    assert ended.value.code == 0
    assert not path.exists()


def test_a_users_socket_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening_for(os.geteuid(), path, *SAID):
        assert path.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with (
            pytest.raises(HostError, match="somebody listens"),
            listening_for(os.geteuid(), path, *SAID),
        ):
            pass
        assert path.exists()
    assert not path.exists()


def test_a_user_who_cannot_be_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # as to who is not root
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refuse)
    path = tmp_path / "socket"
    with (
        pytest.raises(HostError, match="cannot let the user in") as refused,
        listening_for(1000, path, *SAID),
    ):
        pass
    assert refused.value.tried == f"chown {path}"
    assert not path.exists()
