"""The status socket: one document per connection, one proxy per name."""

import errno
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import trio

from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import (
    PAUSE,
    listen_status,
    next_asker,
    read_status,
    running_names,
    serve_status,
)
from wlproxy.host.runtime_dir import check_name, dump_path, status_path


def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


async def test_everyone_gets_the_document(tmp_path: Path) -> None:
    path = status_path(environ(tmp_path), "vm")
    served = listen_status(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    asked = 0

    def snapshot() -> dict[str, int]:
        nonlocal asked
        asked += 1
        return {"asked": asked}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_status, served, snapshot, lambda: {"all": 1})
        for number in range(1, 4):
            document = await trio.to_thread.run_sync(read_status, path)
            assert document == {"asked": number}
        dump = await trio.to_thread.run_sync(read_status, dump_path(path))
        assert dump == {"all": 1}
        nursery.cancel_scope.cancel()
    assert running_names(environ(tmp_path)) == ["vm"]
    served.close()
    assert running_names(environ(tmp_path)) == []


async def test_a_reader_that_leaves_or_stalls_is_not_waited_for(
    tmp_path: Path,
) -> None:
    path = status_path(environ(tmp_path), "vm")
    served = listen_status(path)
    async with trio.open_nursery() as nursery:
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(str(path))
        nursery.start_soon(serve_status, served, lambda: "x" * (1 << 20), dict)
        with pytest.raises(HostError, match="no wlproxy"):
            await trio.to_thread.run_sync(read_status, path)
        nursery.cancel_scope.cancel()
    served.close()


async def test_what_a_dead_proxy_left_is_replaced(tmp_path: Path) -> None:
    path = status_path(environ(tmp_path), "vm")
    dead = listen_status(path)
    dead.status.listener.close()
    dead.dump.listener.close()
    assert path.exists()
    assert running_names(environ(tmp_path)) == []
    with pytest.raises(HostError, match="no proxy answers"):
        read_status(path)
    served = listen_status(path)
    with pytest.raises(HostError, match="running already"):
        listen_status(path)
    served.close()
    assert not list(path.parent.iterdir())


async def test_both_sockets_are_made_or_none(tmp_path: Path) -> None:
    path = status_path(environ(tmp_path), "vm")
    other = listen_status(path)
    other.status.close()
    with pytest.raises(HostError, match="running already"):
        listen_status(path)
    assert not path.exists()
    other.dump.close()


def test_a_socket_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot make"):
        listen_status(tmp_path / "no" / "such" / "directory.sock")


@pytest.mark.parametrize("name", ["", "../x", ".x", "a/b", "x" * 65, "a b"])
def test_a_name_must_be_a_file_name(name: str) -> None:
    with pytest.raises(HostError, match="cannot name"):
        check_name(name)


@pytest.mark.parametrize("name", ["a.b", "vm.", "ä", "-x", "a\u202eb", "vm\n"])
def test_a_name_must_not_be_mistaken_in_titles_and_app_ids(name: str) -> None:
    with pytest.raises(HostError, match="cannot name"):
        check_name(name)


@pytest.mark.parametrize("runtime", [{}, {"XDG_RUNTIME_DIR": "relative"}])
def test_without_a_runtime_directory_there_is_no_place(
    runtime: dict[str, str],
) -> None:
    with pytest.raises(HostError, match="XDG_RUNTIME_DIR"):
        status_path(runtime, "vm")


class Listener:
    """Fails as the kernel does, and then lets somebody in."""

    def __init__(self, fails: Sequence[int]) -> None:
        self.fails = list(fails)

    async def accept(self) -> tuple[trio.socket.SocketType, None]:
        if self.fails:
            raise OSError(self.fails.pop(0), "x")
        ours, theirs = trio.socket.socketpair()
        theirs.close()
        return ours, None


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE])
async def test_who_cannot_be_let_in_is_looked_for_again(
    number: int, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    began = trio.current_time()
    listener = cast("trio.socket.SocketType", Listener([number, number]))
    async with await next_asker(listener) as stream:
        assert await stream.receive_some() == b""
    assert trio.current_time() - began == 2 * PAUSE


async def test_a_listener_that_is_broken_is_a_bug() -> None:
    listener = cast("trio.socket.SocketType", Listener([errno.EBADF]))
    with pytest.raises(OSError, match="x") as caught:
        await next_asker(listener)
    assert caught.value.errno == errno.EBADF
