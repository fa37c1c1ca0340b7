"""The agent's socket: listening, activation, fds both ways."""

import array
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.transport.fd_stream import FdsLostError
from wlproxy.transport.fds import FdState, OwnedFd
from wlproxy_guest.unix_socket import (
    AppSocket,
    Listener,
    SocketError,
    adopt_activated,
    executable_name,
    listen,
    lock_path,
)


async def send(ours: AppSocket, data: bytes, fds: Sequence[OwnedFd] = ()) -> None:
    """As a client does: at once, and the rest later."""
    if not ours.send_at_once(data, fds):
        await ours.send_rest()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[AppSocket, socket.socket]]:
    ours, apps = socket.socketpair()
    app = AppSocket(ours)
    yield app, apps
    app.close()
    apps.close()


def rights(*fds: int) -> "list[tuple[int, int, array.array[int]]]":
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


async def test_fds_are_received_close_on_exec(
    pair: tuple[AppSocket, socket.socket],
) -> None:
    ours, app = pair
    app.sendmsg([b"x"], rights(1, 2))

    data, fds = await ours.receive(100)

    assert data == b"x"
    assert len(fds) == 2
    assert not any(os.get_inheritable(fd.fileno()) for fd in fds)
    for fd in fds:
        fd.close()


async def test_lost_fds_are_an_error(
    pair: tuple[AppSocket, socket.socket],
) -> None:
    ours, app = pair
    app.sendmsg([b"x"], rights(*[1] * 20))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 4, hard)
    )
    try:
        with pytest.raises(FdsLostError):
            await ours.receive(100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_sending_everything_to_a_slow_app(
    pair: tuple[AppSocket, socket.socket],
) -> None:
    ours, app = pair
    app.setblocking(False)
    sent = os.urandom(1_000_000)
    received = bytearray()
    fds = 0

    passed = [OwnedFd(os.memfd_create("x")) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, ours, sent, passed)
        while len(received) < len(sent):
            await trio.lowlevel.wait_readable(app)
            data, ancillary, _, _ = app.recvmsg(65536, 1000)
            for _, _, content in ancillary:
                numbers = array.array("i", content)
                assert not received  # with the first byte
                fds += len(numbers)
                for fd in numbers:
                    os.close(fd)
            received += data

    assert received == sent
    assert fds == 3
    for each in passed:
        each.close()


async def test_more_batches_of_fds_than_bytes(
    pair: tuple[AppSocket, socket.socket],
) -> None:
    with (
        OwnedFd(os.memfd_create("x")) as fd,
        pytest.raises(LocalProtocolError, match="too few bytes to carry 29 fds"),
    ):
        await send(pair[0], b"x", [fd] * 29)


async def test_after_half_an_event_nothing_is_told(
    pair: tuple[AppSocket, socket.socket],
) -> None:
    ours, app = pair
    event = struct.pack("=II", 3, (1 << 16) - 4 << 16) + bytes((1 << 16) - 12)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, ours, event * 100)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    ours.say(b"goodbye")

    received = bytearray()
    while data := app.recv(1 << 20):
        received += data
    assert received
    assert received == (event * 100)[: len(received)]


async def test_what_a_cancelled_send_left_is_never_sent(
    pair: tuple[AppSocket, socket.socket], autojump_clock: trio.testing.MockClock
) -> None:
    ours, app = pair
    event = struct.pack("=III", 3, 12 << 16, 7)
    sent = 0
    with OwnedFd(os.memfd_create("x")) as fd:
        while ours.send_at_once(event, [fd]):
            sent += 1
        assert fd.state.name == "OPEN"
        with trio.CancelScope() as scope:
            scope.cancel()
            await ours.send_rest()
    assert fd.state is FdState.CLOSED
    received = b""
    while len(received) < sent * len(event):
        received += app.recv(1 << 20)  # and close the fds that came

    await ours.bid_farewell(b"goodbye")

    assert received == event * sent
    assert app.recv(100) == b"goodbye"
    assert app.recv(100) == b""


async def test_last_words_do_not_wait(pair: tuple[AppSocket, socket.socket]) -> None:
    ours, app = pair

    ours.say(b"goodbye")
    assert app.recv(100) == b"goodbye"
    for _ in range(10):
        ours.say(bytes(100_000))
    app.close()
    ours.say(b"nobody")
    ours.close()
    ours.close()


def test_executable_of_what_is_not_there() -> None:
    assert executable_name(2**31 - 1) == ""


def test_executable_names_are_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "readlink", lambda _: Path("/usr/bin/\x1b[31m\udcff"))

    assert executable_name(os.getpid()) == "?[31m?"


async def test_socket_and_lock_are_removed_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "wayland-0"
    listener = listen(path)
    assert str(listener) == str(path)
    assert path.is_socket()
    assert lock_path(path).exists()

    listener.close()
    listener.close()

    assert os.listdir(tmp_path) == []


async def test_socket_of_a_dead_listener_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "wayland-0"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    lock_path(path).touch()

    listen(path).close()


async def test_socket_of_a_live_listener_is_not(tmp_path: Path) -> None:
    path = tmp_path / "wayland-0"
    listener = listen(path)

    with pytest.raises(SocketError, match="in use by another"):
        listen(path)

    assert path.is_socket()
    listener.close()


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match=r"cannot lock .*No such file"):
        listen(tmp_path / "nowhere" / "wayland-0")


def test_path_that_is_no_socket_path(tmp_path: Path) -> None:
    (tmp_path / "wayland-0").mkdir()

    with pytest.raises(SocketError, match="cannot listen"):
        listen(tmp_path / "wayland-0")


ADOPT = """
import os, sys, trio
from wlproxy_guest.unix_socket import SocketError, adopt_activated
os.environ["LISTEN_PID"] = str(os.getpid())
os.dup2(int(sys.argv[1]), 3)
async def main():
    listener = adopt_activated()
    print("none" if listener is None else listener, os.get_inheritable(3))
    print([name for name in os.environ if name.startswith("LISTEN_")])
    if listener:
        (await listener.accept()).close()
        listener.close()
try:
    trio.run(main)
except SocketError as exc:
    print(exc)
"""


def adopt(passed: socket.socket, count: str = "1") -> str:
    """Run a process that was passed a socket as fd 3."""
    done = subprocess.run(
        [sys.executable, "-c", ADOPT, str(passed.fileno())],
        pass_fds=[passed.fileno()],
        env={**os.environ, "LISTEN_FDS": count},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout


def test_socket_that_systemd_passed(tmp_path: Path) -> None:
    path = tmp_path / "wayland-0"
    with socket.socket(socket.AF_UNIX) as passed, socket.socket(socket.AF_UNIX) as app:
        passed.bind(str(path))
        passed.listen()
        app.connect(str(path))

        assert adopt(passed) == f"{path} False\n[]\n"
    assert path.exists()  # it is systemd's


@pytest.mark.parametrize("count", ["1", "2"])
def test_something_else_that_systemd_passed(count: str) -> None:
    with socket.socket(socket.AF_INET) as passed:
        assert "something else" in adopt(passed, count)


def test_nothing_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert adopt_activated() is None
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "0")
    assert adopt_activated() is None


async def test_app_that_is_accepted(tmp_path: Path) -> None:
    listener: Listener = listen(tmp_path / "wayland-0")
    with socket.socket(socket.AF_UNIX) as app:
        app.connect(str(tmp_path / "wayland-0"))

        accepted = await listener.accept()

        assert accepted.peer.pid == os.getpid()
        assert str(accepted.peer) == f"{accepted.peer.executable} (pid {os.getpid()})"
        accepted.close()
    listener.close()


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    path.write_text("dear")
    with pytest.raises(SocketError, match="diary: it exists, and is no socket"):
        listen(path)
    assert path.read_text() == "dear"
