"""The agent's end of a vsock; its kernel's own loopback needs the lab (host/channel)."""

import errno
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing

from tests.guest_agent.conftest import Wires
from tests.guest_agent.fakes import FileOffsetLocator, hello
from tests.host.conftest import nobody
from wlproxy.protocol.channel.frames import RESYNC_PADDING, Side
from wlproxy.protocol.channel.session import Session
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.cli import parse
from wlproxy_guest.quotas import Limits
from wlproxy_guest.server import Server
from wlproxy_guest.unix_socket import listen
from wlproxy_guest.vsock import (
    HELLO_SECONDS,
    MAX_STRANGERS,
    FirstOf,
    VsockPort,
    parse_port,
)
from wlproxy_guest.wire import InheritedFd, NoWireError, UnixSocket, Wire, WireSource


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


async def hung_up_on(stranger: socket.socket) -> bool:
    with stranger:
        with suppress(ConnectionResetError):
            return await trio.to_thread.run_sync(stranger.recv, 1) == b""
        return True


def greeting() -> bytes:
    return Session(Side.HOST).start(hello())


async def takes_hello(wire: Wire) -> bool:
    """Whether the first frame to be received is the `Hello` of `greeting`."""
    session = Session(Side.GUEST)
    with trio.fail_after(10):
        while True:
            session.feed(await wire.receive(4096))
            if (frame := session.next_frame()) is not None:
                return frame == hello()


async def test_only_the_host_is_one(
    listening: Path, caplog: pytest.LogCaptureFixture
) -> None:
    FakeListener.cids = deque([1, 5, 2])
    port = VsockPort(5000)
    wires: list[Wire] = []
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            wires.append(await port.open())

        nursery.start_soon(listen)
        for _ in range(2):
            assert await hung_up_on(await connect(listening))
        host = await connect(listening)
        host.sendall(greeting())
    with host:
        assert await takes_hello(wires[0])
        assert wires[0].send_at_once(b"x")
        assert host.recv(9) == b"x"
    wires[0].close()
    port.close()
    for cid in (1, 5):
        assert f"vsock port 5000: context {cid}, which is no host" in caplog.text


async def test_the_port_stays_taken_while_there_is_a_host(
    listening: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else any process of the guest could take it (EADDRINUSE for the agent, for ever)."""
    FakeListener.cids = deque([2, 5, 2, 2])
    port = VsockPort(5000)
    first = await connected(port, listening)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.turn_away, first.wire)
        for _ in range(2):
            assert await hung_up_on(await connect(listening))
        first.host.close()
        # Who comes now may be the next host: it is left for `open`.
        with await connect(listening) as second:
            second.sendall(greeting())
            await trio.testing.wait_all_tasks_blocked()
            first.wire.close()
            wire = await port.open()
            assert await takes_hello(wire)
            wire.close()
    port.close()
    assert caplog.text.count("is turned away: it is in use") == 2


@dataclass
class Connected:
    wire: Wire
    host: socket.socket


async def connected(source: WireSource, path: Path) -> Connected:
    wires: list[Wire] = []
    async with trio.open_nursery() as nursery:

        async def look() -> None:
            wires.append(await source.open())

        nursery.start_soon(look)
        host = await connect(path)
        host.sendall(greeting())
    return Connected(wires[0], host)


async def test_who_says_nothing_is_in_nobodys_way(
    listening: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger at the vsock may be anybody on the host; others are heard beside it."""
    FakeListener.cids = deque([2] * (MAX_STRANGERS + 2))
    port = VsockPort(5000)
    wires: list[Wire] = []
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            wires.append(await port.open())

        nursery.start_soon(listen)
        strangers = [await connect(listening) for _ in range(MAX_STRANGERS + 1)]
        assert await hung_up_on(strangers.pop(0))  # the oldest, of too many
        host = await connect(listening)
        host.sendall(greeting())
    for stranger in strangers:
        assert await hung_up_on(stranger)
    with host:
        assert await takes_hello(wires[0])
    wires[0].close()
    port.close()
    assert "and does not say hello" in caplog.text


async def test_who_says_no_hello_is_hung_up_on_in_time(
    listening: Path, autojump_clock: trio.testing.MockClock
) -> None:
    FakeListener.cids = deque([2])
    port = VsockPort(5000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.open)
        stranger = await connect(listening)
        stranger.sendall(b"what is this?" * 1000)
        began = trio.current_time()
        with trio.fail_after(HELLO_SECONDS + 1):
            await trio.lowlevel.wait_readable(stranger)
        assert trio.current_time() - began == pytest.approx(HELLO_SECONDS, abs=0.5)
        assert await hung_up_on(stranger)
        nursery.cancel_scope.cancel()
    port.close()


async def test_the_wire_whose_host_says_hello_first_is_used(
    listening: Path, tmp_path: Path
) -> None:
    """Whoever connects to the other and says nothing does not keep it."""
    port = VsockPort(5000)
    both = FirstOf(port, UnixSocket(str(tmp_path / "other")))
    assert str(both) == f"vsock port 5000 or unix:{tmp_path}/other"
    FakeListener.cids = deque([2, 2])
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        other.listen()
        for by_vsock in (True, False):
            wires: list[Wire] = []
            async with trio.open_nursery() as nursery:

                async def look() -> None:
                    wires.append(await both.open())  # noqa: B023 - ends in this round

                nursery.start_soon(look)
                at_vsock = await connect(listening)
                at_other, _ = other.accept()
                await trio.testing.wait_all_tasks_blocked()
                speaking, silent = at_vsock, at_other
                if not by_vsock:
                    speaking, silent = silent, speaking
                speaking.sendall(greeting())
            with speaking, silent:
                assert await takes_hello(wires[0])
                wires[0].close()
                silent.settimeout(10)
                with suppress(ConnectionResetError):
                    while silent.recv(65536):
                        pass  # until it is hung up on
    port.close()


class AtOnce(WireSource):
    """A wire that has its host when all of its kind have."""

    def __init__(self, others: trio.Event, *, says_hello: bool = True) -> None:
        self.others = others
        self.host, self.agents = socket.socketpair()
        if says_hello:
            self.host.sendall(greeting())

    async def open(self) -> Wire:
        with trio.CancelScope(shield=True):
            await self.others.wait()
        return Wire(OwnedFd(self.agents.detach()))


async def test_a_host_of_an_earlier_agent_is_sent_all_the_padding() -> None:
    """It may be in the middle of a frame, and says hello once it has noticed."""
    ready = trio.Event()
    ready.set()
    source = AtOnce(ready, says_hello=False)
    source.agents.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    source.host.settimeout(10)

    def notice() -> None:
        received = 0
        while received < RESYNC_PADDING:
            data = source.host.recv(1000)
            assert data, "the agent hung up"
            received += len(data)
        source.host.sendall(greeting())

    with source.host, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, notice)
            wire = await FirstOf(source).open()
        assert await takes_hello(wire)
        wire.close()


async def test_a_host_that_hangs_up_is_looked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        async with trio.open_nursery() as nursery:
            wires: list[Wire] = []

            async def look() -> None:
                wires.append(await FirstOf(UnixSocket(str(path))).open())

            nursery.start_soon(look)
            await trio.lowlevel.wait_readable(other)
            other.accept()[0].close()
            await trio.lowlevel.wait_readable(other)
            host, _ = other.accept()
            host.sendall(greeting())
        with host:
            assert await takes_hello(wires[0])
            wires[0].close()


async def test_two_hosts_at_once_are_one() -> None:
    ready = trio.Event()
    sources = [AtOnce(ready), AtOnce(ready)]
    ready.set()
    wire = await FirstOf(*sources).open()
    assert wire.send_at_once(b"x")
    wire.close()
    ends = []
    for source in sources:
        source.host.settimeout(10)
        said = b""
        with suppress(ConnectionResetError):
            while more := source.host.recv(65536):
                said += more
        ends.append(said.endswith(b"x"))
        source.host.close()
    assert sorted(ends) == [False, True]


async def test_cancelled_it_keeps_none(tmp_path: Path, listening: Path) -> None:
    port = VsockPort(1)
    with socket.socket(socket.AF_UNIX) as other, trio.CancelScope() as scope:
        other.bind(str(tmp_path / "s"))
        other.listen()
        scope.cancel()
        await FirstOf(UnixSocket(str(tmp_path / "s")), port).open()
    port.close()
    assert scope.cancelled_caught


async def test_both_ports_are_kept_while_one_has_a_host(listening: Path) -> None:
    """By the virtio port, too: the vsock's is not free meanwhile."""
    FakeListener.cids = deque([2])
    port = VsockPort(5000)
    ours, agents = socket.socketpair()
    with ours:
        wire = Wire(OwnedFd(agents.detach()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FirstOf(port, UnixSocket("/nowhere")).turn_away, wire)
            assert await hung_up_on(await connect(listening))
            nursery.cancel_scope.cancel()
        wire.close()
    port.close()


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
    ours = VsockPort(port)
    with trio.move_on_after(1) as scope:  # it is free now, and nobody comes
        await ours.open()
    assert scope.cancelled_caught
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as squatter:
        with pytest.raises(OSError, match="in use"):
            squatter.bind((socket.VMADDR_CID_ANY, port))
        ours.close()
        squatter.bind((socket.VMADDR_CID_ANY, port))


async def test_a_port_that_only_the_privileged_may_have(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """As the drop-in's: whoever else is in the guest cannot take it."""
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError as exc:
        pytest.skip(f"the kernel has no AF_VSOCK ({exc.strerror})")
    with nobody(), trio.move_on_after(1):
        await VsockPort(500).open()
    assert "Permission denied (a port below 1024 takes CAP_NET_BIND_SERVICE" in (
        caplog.text
    )


async def test_a_silent_stranger_keeps_no_app_from_its_host(
    listening: Path, tmp_path: Path
) -> None:
    """The whole agent: the stranger at the vsock came first, the host at the other wire."""
    FakeListener.cids = deque([2, 2])
    port, wires = VsockPort(5000), Wires()
    listener = listen(tmp_path / "wayland-0")
    server = Server(
        listener, FirstOf(port, wires), FileOffsetLocator(), Limits(), grace=0
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with await connect(listening) as stranger:
            await trio.testing.wait_all_tasks_blocked()
            host = await wires.plug_in()
            ack = await host.start(hello())
            assert ack.nonce == hello().nonce
            assert await hung_up_on(stranger)
        # And nobody gets in between, nor can the port be had.
        assert await hung_up_on(await connect(listening))
        assert await host.settle() == []
        await host.stream.aclose()
        nursery.cancel_scope.cancel()
    listener.close()
    port.close()


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
