"""`wlproxy-guest-agent xen-vchan`, without Xen: who gets in, what is served, what is said if it cannot be."""

import errno
import os
import pwd
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.vchan import FakeVchan, fake_vchan
from tests.peers.xenstore import XenStore
from wlproxy.transport.vchan import NODE
from wlproxy.transport.xenstore import Store
from wlproxy_guest import cli, vchan

ME = pwd.getpwuid(os.geteuid()).pw_name


class Library:
    """Makes one vchan."""

    def __init__(self) -> None:
        self.theirs, self.ours = fake_vchan()
        self.asked: list[tuple[int, str]] = []

    def serve(self, domid: int, path: str) -> FakeVchan:
        self.asked.append((domid, path))
        if len(self.asked) > 1:
            raise OSError(errno.ENOSPC, "cannot make a vchan")
        return self.ours


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    made = Library()
    monkeypatch.setattr(vchan, "Library", lambda: made)
    yield made
    made.ours.release()
    made.theirs.release()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[XenStore]:
    made = XenStore()
    monkeypatch.setattr(vchan, "Store", lambda: Store(made.path))
    yield made
    made.close()


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "socket")


def test_an_agent_is_joined(
    library: Library, store: XenStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = threading.Event()
    monkeypatch.setattr(vchan, "notify", lambda *_: ready.set())
    store.values[NODE] = b"of one that was killed"
    ended: list[str] = []

    def serve() -> None:
        ended.append(vchan.serve(path, ME, 7))

    serving = threading.Thread(target=serve)
    serving.start()
    assert ready.wait(20)
    assert NODE not in store.values
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
    library.theirs.write(b"from the host")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(20)
        agent.connect(str(path))
        assert agent.recv(100) == b"from the host"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(20)
        agent.connect(str(path))
        assert agent.recv(1) == b""
    serving.join(20)
    assert library.asked == [(7, NODE)] * 2
    [failure] = ended
    assert "for domain 7" in failure
    assert "modprobe -a xen-gntalloc" in failure
    assert not path.exists()


@pytest.mark.usefixtures("library")
def test_no_xenstore(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vchan, "Store", lambda: Store(path / "none"))
    assert "no vchan can be had" in vchan.serve(path, ME, 0)


@pytest.mark.usefixtures("library", "store")
def test_no_place_for_the_socket(path: Path) -> None:
    assert "no vchan can be had" in vchan.serve(path / "none" / "socket", ME, 0)


def test_no_such_user(path: Path) -> None:
    assert vchan.serve(path, "nobody-of-that-name", 0) == (
        "there is no user nobody-of-that-name"
    )


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked: list[tuple[Path, str, int]] = []

    def serve(*arguments: Any) -> str:
        asked.append(arguments)
        return "there is no user x"

    monkeypatch.setattr(vchan, "serve", serve)
    monkeypatch.setattr(cli, "log_to_stderr", lambda _: None)
    words = ["xen-vchan", "--vchan-socket", "/s", "--vchan-user", "x"]
    assert cli.main([*words, "--vchan-domid", "3"]) == 1
    assert asked == [(Path("/s"), "x", 3)]
    assert "there is no user x" in capsys.readouterr().err
