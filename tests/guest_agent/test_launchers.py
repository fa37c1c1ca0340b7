"""The agent between launchers and a host that speaks by the real codec, and may be hostile."""

import os
import pwd
import resource
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.guest_agent.conftest import Wires
from tests.guest_agent.fakes import FakeHost, FileOffsetLocator, hello
from tests.guest_agent.hung_fuse import HungFile
from wlproxy.protocol.channel.codec import encode_frame
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseReason,
    Credit,
    Data,
    Feature,
    FileData,
    Frame,
    Goodbye,
    Launch,
    LauncherOpened,
    Locate,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.session import SessionLost
from wlproxy.transport import pumps
from wlproxy.transport.stream_end import make_pipe
from wlproxy_guest import launchers as launchers_module
from wlproxy_guest.launchers import (
    Launchers,
    launching,
    listen_for_launchers,
    user_name,
)
from wlproxy_guest.quotas import Limits
from wlproxy_guest.server import Server
from wlproxy_guest.unix_socket import SocketError, listen

ME = pwd.getpwuid(os.getuid()).pw_name
OFFER = replace(hello(), features=Feature.LOCATE_MEMFD | Feature.EXEC)


class Guest:
    """An agent that lets launchers in, and its host."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "wayland-0"
        self.launch = directory / "launch"
        self.wires = Wires()
        self.host: FakeHost

    async def connect(self) -> socket.socket:
        launcher = socket.socket(socket.AF_UNIX)
        launcher.connect(str(self.launch))
        return launcher

    async def opened(self) -> LauncherOpened:
        return await self.host.expect(LauncherOpened)


@pytest.fixture
async def guest(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Guest]:
    guest = Guest(tmp_path)
    listener = listen(guest.path)
    launchers = Launchers(listen_for_launchers(guest.launch))
    server = Server(
        listener,
        guest.wires,
        FileOffsetLocator(),
        Limits(),
        grace=0,
        launchers=launchers,
    )
    scope, stopped = trio.CancelScope(), trio.Event()

    async def serve() -> None:
        with scope:
            await server.run()
        stopped.set()

    nursery.start_soon(serve)
    guest.host = await guest.wires.plug_in()
    yield guest
    scope.cancel()
    await stopped.wait()
    await guest.host.stream.aclose()
    listener.close()
    launchers.close()


@pytest.fixture
async def launcher(guest: Guest) -> AsyncIterator[socket.socket]:
    """One that is known to the host, as client 1."""
    await guest.host.start(OFFER)
    with await guest.connect() as launcher:
        assert await guest.opened() == LauncherOpened(1, os.getuid(), ME)
        yield launcher


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def passed(launcher: socket.socket, closing: ExitStack) -> list[int]:
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(launcher)
    said, fds, _, _ = socket.recv_fds(launcher, 1, 5)
    assert said == b"L"
    for fd in fds:
        closing.callback(os.close, fd)
    return list(fds)


async def read(fd: int) -> bytes:
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(fd)
    return os.read(fd, 99)


async def ends(host: FakeHost, count: int) -> set[int]:
    """Streams that end, so many of them."""
    return {(await host.expect(StreamClosed)).stream_id for _ in range(count)}


async def test_it_has_the_feature(guest: Guest) -> None:
    ack = await guest.host.start(OFFER)

    assert Feature.EXEC in ack.features


async def test_it_has_not_what_was_not_offered(guest: Guest) -> None:
    ack = await guest.host.start(hello())
    with await guest.connect():
        assert Feature.EXEC not in ack.features
        assert await guest.host.silence() == []


async def test_whoever_may_be_anybody_runs_no_commands(guest: Guest) -> None:
    """The host's kernel lets each of its users connect to a vsock."""
    await guest.host.stream.aclose()
    guest.host = await guest.wires.plug_in(anybody=True)
    ack = await guest.host.start(OFFER)
    with await guest.connect():
        assert Feature.EXEC not in ack.features
        assert await guest.host.silence() == []


async def test_bytes_go_through_the_pipes(
    guest: Guest, launcher: socket.socket, closing: ExitStack
) -> None:
    await guest.host.send(Launch(1, 11), StreamData(1, 11, b"what"))
    request, answers, stdin, stdout, stderr = await passed(launcher, closing)

    assert await read(request) == b"what"
    os.write(answers, b"why")
    assert await guest.host.expect(StreamData) == StreamData(1, 13, b"why")
    await guest.host.send(StreamData(1, 15, b"in"))
    assert await read(stdin) == b"in"
    os.write(stdout, b"out")
    assert await guest.host.expect(StreamData) == StreamData(1, 17, b"out")
    os.write(stderr, b"err")
    assert await guest.host.expect(StreamData) == StreamData(1, 19, b"err")


async def test_ends_go_both_ways(
    guest: Guest, launcher: socket.socket, closing: ExitStack
) -> None:
    await guest.host.send(Launch(1, 1))
    fds = await passed(launcher, closing)
    closing.pop_all()
    for fd in fds:
        os.close(fd)

    assert await ends(guest.host, 5) == {1, 3, 5, 7, 9}


async def test_a_launcher_that_leaves_and_its_pipes_stay(
    guest: Guest, launcher: socket.socket, closing: ExitStack
) -> None:
    await guest.host.send(Launch(1, 1))
    fds = await passed(launcher, closing)
    launcher.close()

    closed = await guest.host.expect(ClientClosed)
    assert (closed.client_id, closed.reason) == (1, CloseReason.NORMAL)
    await guest.host.send(ClientReleased(1))
    os.write(fds[3], b"still here")
    assert await guest.host.expect(StreamData) == StreamData(1, 7, b"still here")


async def test_a_launcher_that_passes_a_file_that_hangs(
    guest: Guest, launcher: socket.socket
) -> None:
    """It is hung up on, and nobody waits for the file: the agent goes on."""
    with tempfile.TemporaryDirectory() as directory, HungFile(Path(directory)) as file:
        for _ in range(3):  # what is behind the first is dropped with the connection
            socket.send_fds(launcher, [b"x"], [file.fd])

        assert (await guest.host.expect(ClientClosed)).client_id == 1
        with await guest.connect():
            assert (await guest.opened()).client_id == 2


async def test_fds_of_a_launcher_are_let_go_of(
    guest: Guest, launcher: socket.socket
) -> None:
    reader, writer = os.pipe()
    socket.send_fds(launcher, [b"x"], [writer])
    os.close(writer)

    assert (await guest.host.expect(ClientClosed)).client_id == 1
    assert await read(reader) == b""
    os.close(reader)


async def test_what_crosses_the_end_of_a_launcher(
    guest: Guest, launcher: socket.socket
) -> None:
    launcher.close()
    await guest.host.expect(ClientClosed)

    await guest.host.send(Launch(1, 1))
    assert await ends(guest.host, 5) == {1, 3, 5, 7, 9}
    await guest.host.send(ClientReleased(1), Launch(1, 11))
    assert await ends(guest.host, 5) == {11, 13, 15, 17, 19}


async def test_ids_are_those_of_clients(guest: Guest, launcher: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as app:
        app.connect(str(guest.path))
        assert (await guest.host.expect(ClientOpened)).client_id == 2


async def test_a_launcher_that_hangs_is_not_waited_for(
    guest: Guest, launcher: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is full of pipes that it does not take: those that follow break."""
    before = await guest.host.settle()
    assert before == []

    async def refused() -> bool:
        for number in range(60):
            await guest.host.send(Launch(1, 10 * number + 1))
            if any(isinstance(f, StreamClosed) for f in await guest.host.silence()):
                return True
        return False

    launcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    monkeypatch.setattr(
        "wlproxy.transport.fd_stream.FdStream.send_at_once", lambda *_: False
    )
    assert await refused()


@pytest.fixture
def exhaust() -> Iterator[Callable[[int], None]]:
    """Takes all fds that this process may have but so many."""
    taken: list[int] = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def take(left: int) -> None:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 50, limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())

    yield take
    for each in taken:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("left", range(10))
async def test_an_agent_out_of_fds_ends_what_it_cannot_launch(
    guest: Guest, launcher: socket.socket, exhaust: Callable[[int], None], left: int
) -> None:
    """All of it, so that whoever waits for the command on the host gets to know: ten are needed."""
    exhaust(left)
    await guest.host.send(Launch(1, 1))

    closed = [await guest.host.expect(StreamClosed) for _ in range(5)]
    assert {each.stream_id for each in closed} == {1, 3, 5, 7, 9}
    assert CloseReason.FAILED in {each.reason for each in closed}
    with pytest.raises(BlockingIOError):
        launcher.recv(1, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("made", range(5))
@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
async def test_without_all_pipes_there_is_none(
    guest: Guest,
    launcher: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    made: int,
) -> None:
    left = made
    make = make_pipe

    def make_some(*, we_write: bool) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise error
        return make(we_write=we_write)

    monkeypatch.setattr(pumps, "make_pipe", make_some)
    await guest.host.send(Launch(1, 1))

    assert await ends(guest.host, 5) == {1, 3, 5, 7, 9}
    with pytest.raises(BlockingIOError):
        launcher.recv(1, socket.MSG_DONTWAIT)


async def test_too_many_streams_end_at_once(
    guest: Guest, launcher: socket.socket, closing: ExitStack
) -> None:
    """The agent's limit for one client holds for a launcher, too."""
    for number in range(103):
        await guest.host.send(Launch(1, 10 * number + 1))
        await passed(launcher, closing)

    assert await ends(guest.host, 3) == {1025, 1027, 1029}


@pytest.mark.parametrize(
    "frame",
    [
        Data(1, b"x"),
        FileData(1, 1, b"x"),
        Locate(1, 1, 1, 0, 1, 0),
        ClientClosed(1, CloseReason.NORMAL, ""),
        ClientReleased(1),
        StreamData(1, 1, b"x"),
        Credit(1, 1, 1),
    ],
    ids=lambda frame: type(frame).__name__,
)
async def test_frames_that_are_not_for_a_launcher(
    guest: Guest, launcher: socket.socket, frame: Frame
) -> None:
    await guest.host.send(frame)

    goodbye = await guest.host.expect(Goodbye)
    assert goodbye.reason is CloseReason.PROTOCOL_ERROR


async def test_launching_what_is_no_launcher(guest: Guest) -> None:
    await guest.host.start(OFFER)
    with socket.socket(socket.AF_UNIX) as app:
        app.connect(str(guest.path))
        await guest.host.expect(ClientOpened)

        await guest.host.send(Launch(1, 1))

        assert "no launcher" in (await guest.host.expect(Goodbye)).message


async def test_ids_of_streams_that_are_used_again(
    guest: Guest, launcher: socket.socket, closing: ExitStack
) -> None:
    await guest.host.send(Launch(1, 1))
    await passed(launcher, closing)

    await guest.host.send(Launch(1, 9))

    assert "stream 9 is not new" in (await guest.host.expect(Goodbye)).message


async def test_launching_without_the_feature(guest: Guest) -> None:
    """A host that sends what it has not offered breaks the session."""
    await guest.host.start(hello())
    await guest.host.stream.send_all(encode_frame(Launch(1, 1)))

    async def receive_all() -> None:
        with trio.fail_after(10):
            while True:
                await guest.host.receive()

    with pytest.raises(SessionLost):
        await receive_all()


async def test_too_many_launchers(
    guest: Guest, launcher: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers_module, "MAX_CONNECTED", 1)
    with await guest.connect() as second:
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(second)
        assert second.recv(1) == b""


async def test_names_of_users() -> None:
    assert await user_name(os.getuid()) == ME
    assert await user_name(4_000_000_000) == "4000000000"


def test_a_place_where_nobody_may_listen(tmp_path: Path) -> None:
    with pytest.raises(SocketError):
        listen_for_launchers(tmp_path / "none" / "launch")


def test_everybody_may_connect(tmp_path: Path) -> None:
    listener = listen_for_launchers(tmp_path / "launch")
    assert (tmp_path / "launch").stat().st_mode & 0o777 == 0o666
    listener.close()


def test_nobody_connects_where_that_is_not_wanted(tmp_path: Path) -> None:
    with launching(None, ()) as launchers:
        assert launchers is None
    with launching(tmp_path / "launch", ["ada"]) as launchers:
        assert launchers is not None
        assert (tmp_path / "launch").is_socket()
    assert not (tmp_path / "launch").exists()
