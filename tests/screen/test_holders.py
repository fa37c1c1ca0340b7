"""Who has the other ends of a process's sockets."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wlproxy.screen import holders as module
from wlproxy.screen.holders import (
    Holder,
    holders,
    sockets_of,
    unix_sockets,
    unnamed_pair,
)

_HOLD = "import sys; print(flush=True); sys.stdin.read()"


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_what_the_kernel_says_of_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    ours, theirs = socket.socketpair()
    listener, caller = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with ours, theirs, listener, caller:
        listener.bind(path)
        listener.listen()
        caller.connect(path)
        accepted, _ = listener.accept()
        with accepted:
            ends = unix_sockets()
            assert ends[inode(ours)] == (inode(theirs), False)
            assert ends[inode(accepted)] == (inode(caller), True)
            assert ends[inode(listener)] == (0, True)
            pairs = [unnamed_pair(ends, inode(each)) for each in (ours, caller)]
            assert pairs == [True, False]
            assert not unnamed_pair(ends, inode(listener))
            mine = sockets_of(os.getpid())
            assert {inode(each) for each in (ours, caller, accepted)} <= mine


def test_the_process_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            held = subprocess.Popen(
                [sys.executable, "-c", _HOLD, "a\tb"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        with held:
            assert held.stdout
            held.stdout.readline()
            # As QEMU does, this process has one end; and another one has the other.
            (found,) = holders(os.getpid())
            assert found.pid == held.pid
            assert found.command.startswith(f"{sys.executable} -c import sys;")
            assert found.command.endswith(" a?b")
            assert str(found).startswith(f"process {held.pid} (")
            held.communicate()
        assert holders(os.getpid()) == []


def test_a_process_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(FileNotFoundError):
        holders(ended.pid)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(module, "_pids", lambda: iter([ended.pid]))
        assert holders(os.getpid()) == []


def test_a_kernel_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANY_STATE", 0)
    assert unix_sockets() == {}
    monkeypatch.setattr(module, "_SOCK_DIAG_BY_FAMILY", 99)
    with pytest.raises(OSError, match="Invalid argument"):
        unix_sockets()


def test_it_says_who() -> None:
    assert str(Holder(7, "remote-viewer work")) == "process 7 (remote-viewer work)"
