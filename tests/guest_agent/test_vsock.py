"""The agent's end of a vsock; its kernel's own loopback needs the lab (host/channel)."""

import errno
import socket
from collections import deque
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing

from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.cli import parse
from wlproxy_guest.vsock import FirstOf, VsockPort, parse_port
from wlproxy_guest.wire import InheritedFd, NoWireError, UnixSocket, Wire


class FakeListener(socket.socket):
    """A Unix socket that says of each connection that it comes from the next context id."""

    cids: ClassVar[deque[int]] = deque()

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        connection, _ = super().accept()
        return connection, (self.cids.popleft(), 1234)


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "vsock"

    def listen(_: VsockPort) -> socket.socket:
        listener = FakeListener(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(1)
        return listener

    monkeypatch.setattr(VsockPort, "_listen", listen)
    return path


async def connect(path: Path) -> socket.socket:
    await trio.testing.wait_all_tasks_blocked()
    host = socket.socket(socket.AF_UNIX)
    host.settimeout(10)
    with closed_on_error(host):
        host.connect(str(path))
    return host


async def test_only_the_host_is_one(
    listening: Path, caplog: pytest.LogCaptureFixture
) -> None:
    FakeListener.cids = deque([1, 5, 2])
    wires: list[Wire] = []
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            wires.append(await VsockPort(5000).open())

        nursery.start_soon(listen)
        for _ in range(2):
            with await connect(listening) as stranger:
                assert await trio.to_thread.run_sync(stranger.recv, 1) == b""
        host = await connect(listening)
    with host:
        assert wires[0].send_at_once(b"x")
        assert host.recv(9) == b"x"
        with pytest.raises(ConnectionRefusedError):  # there is a host now
            await connect(listening)
    wires[0].close()
    for cid in (1, 5):
        assert f"vsock port 5000: context {cid}, which is no host" in caplog.text


async def test_the_wire_that_has_a_host_first_is_used(
    listening: Path, tmp_path: Path
) -> None:
    both = FirstOf(VsockPort(5000), UnixSocket(str(tmp_path / "other")))
    assert str(both) == f"vsock port 5000 or unix:{tmp_path}/other"
    FakeListener.cids = deque([2])
    for path in (listening, tmp_path / "other"):
        wires: list[Wire] = []
        with socket.socket(socket.AF_UNIX) as other:
            async with trio.open_nursery() as nursery:

                async def look() -> None:
                    wires.append(await both.open())  # noqa: B023 - ends in this round

                nursery.start_soon(look)
                if path is listening:
                    host = await connect(path)
                else:
                    other.bind(str(path))
                    other.listen()
            if path is not listening:
                host, _ = other.accept()
            with host:
                assert wires[0].send_at_once(b"x")
                assert host.recv(9) == b"x"
            wires[0].close()


class AtOnce:
    """A wire that has its host when all of its kind have."""

    def __init__(self, others: trio.Event) -> None:
        self.others = others
        self.host, self.agents = socket.socketpair()

    async def open(self) -> Wire:
        with trio.CancelScope(shield=True):
            await self.others.wait()
        return Wire(OwnedFd(self.agents.detach()))


async def test_two_hosts_at_once_are_one() -> None:
    ready = trio.Event()
    sources = [AtOnce(ready), AtOnce(ready)]
    ready.set()
    wire = await FirstOf(*sources).open()
    wire.send_at_once(b"x")
    assert sorted(source.host.recv(1) for source in sources) == [b"", b"x"]
    wire.close()
    for source in sources:
        source.host.close()


async def test_cancelled_it_keeps_none(tmp_path: Path, listening: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other, trio.CancelScope() as scope:
        other.bind(str(tmp_path / "s"))
        other.listen()
        scope.cancel()
        await FirstOf(UnixSocket(str(tmp_path / "s")), VsockPort(1)).open()
    assert scope.cancelled_caught


async def test_none_can_have_a_host_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(NoWireError, match=r"fd 999\d: .*; fd 999\d: "):
        await FirstOf(InheritedFd(9999), InheritedFd(9998)).open()
    assert caplog.text.count("Bad file descriptor") == 1


async def test_a_kernel_without_vsock(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSocket(socket.socket):
        def __init__(self, *_: object) -> None:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    monkeypatch.setattr(socket, "socket", NoSocket)
    with pytest.raises(NoWireError, match="the kernel has none"):
        await VsockPort(5000).open()


async def test_a_port_that_is_taken_is_waited_for(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    try:
        taken = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as exc:
        pytest.skip(f"the kernel has no AF_VSOCK ({exc.strerror})")
    with taken:
        taken.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        taken.listen()
        port = taken.getsockname()[1]
        with trio.move_on_after(3):
            await VsockPort(port).open()
    assert "Address already in use" in caplog.text
    with trio.move_on_after(1) as scope:  # it is free now, and nobody comes
        await VsockPort(port).open()
    assert scope.cancelled_caught


@pytest.mark.parametrize("text", ["0", "-1", "x", "4294967295"])
def test_what_is_no_port(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"port|invalid literal"):
        parse_port(text)
    with pytest.raises(SystemExit):
        parse([f"--vsock={text}"])
    assert "--vsock" in capsys.readouterr().err


def test_vsock_is_beside_the_port() -> None:
    assert str(parse([]).source) == "virtio port org.wlproxy.0"
    both = parse(["--vsock=5000"]).source
    assert str(both) == "vsock port 5000 or virtio port org.wlproxy.0"
