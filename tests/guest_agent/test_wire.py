"""Finding the wire and moving bytes over it.  A virtio port itself needs the lab."""

import errno
import os
import pty
import socket
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
import pyudev
import trio
import trio.testing

from wlproxy.transport.fds import OwnedFd
from wlproxy_guest import wire as channel
from wlproxy_guest.wire import (
    HostGoneError,
    InheritedFd,
    NoWireError,
    Port,
    UnixSocket,
    Wire,
    explain_open,
    find_port,
    parse_source,
)


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    ours, agents = socket.socketpair()
    wire = Wire(OwnedFd(agents.detach()))
    yield wire, ours
    trio.run(close, wire)
    ours.close()


async def close(wire: Wire) -> None:
    wire.close()
    wire.close()


async def test_bytes_both_ways(pair: tuple[Wire, socket.socket]) -> None:
    wire, host = pair

    await send(wire, b"hello")
    assert host.recv(100) == b"hello"

    host.send(b"answer")
    assert await wire.receive(2) == b"an"
    assert await wire.receive(100) == b"swer"


async def test_what_need_not_wait_is_a_checkpoint_too(
    pair: tuple[Wire, socket.socket], tmp_path: Path
) -> None:
    wire, host = pair
    host.send(b"answer")
    with trio.testing.assert_checkpoints():
        await wire.flush()
    with trio.testing.assert_checkpoints():
        assert await wire.receive(100) == b"answer"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "host"))
        listening.listen()
        with trio.testing.assert_checkpoints():
            other = await UnixSocket(str(tmp_path / "host")).open()
    other.close()


async def test_what_does_not_go_at_once_is_told(
    pair: tuple[Wire, socket.socket],
) -> None:
    wire, host = pair
    assert wire.send_at_once(b"hello")
    assert host.recv(100) == b"hello"
    sent = os.urandom(2_000_000)
    assert not wire.send_at_once(sent)
    assert not wire.send_at_once(b"!")
    received = b""
    host.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            received += host.recv(1 << 20)
    assert 0 < len(received) < len(sent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.flush)
        while len(received) < len(sent) + 1:
            await trio.lowlevel.wait_readable(host)
            received += host.recv(1 << 20)
    assert received == sent + b"!"
    host.close()
    assert not wire.send_at_once(b"x")
    with pytest.raises(HostGoneError):
        await send(wire, b"x")


async def test_a_cancelled_call_takes_nothing(
    pair: tuple[Wire, socket.socket],
) -> None:
    wire, host = pair
    host.send(b"answer")
    with trio.CancelScope() as scope:
        scope.cancel()
        await wire.receive(100)
    assert scope.cancelled_caught
    assert await wire.receive(100) == b"answer"


async def send(wire: Wire, data: bytes) -> None:
    """Send all of it, as the agent's link does."""
    if not wire.send_at_once(data):
        assert wire.backlog
        await wire.flush()
    assert not wire.backlog


async def test_sending_waits_for_room(pair: tuple[Wire, socket.socket]) -> None:
    wire, host = pair
    host.setblocking(False)
    sent = os.urandom(2_000_000)
    received = bytearray()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, wire, sent)
        while len(received) < len(sent):
            await trio.lowlevel.wait_readable(host)
            received += host.recv(65536)

    assert received == sent


async def test_host_that_hangs_up(pair: tuple[Wire, socket.socket]) -> None:
    wire, host = pair
    host.close()

    with pytest.raises(HostGoneError):
        await wire.receive(100)
    with pytest.raises(HostGoneError):
        await send(wire, b"x")


async def test_port_without_a_host_does_not_spin() -> None:
    """As a virtio port without one: never writable, yet epoll always wakes."""
    reader, writer = os.pipe()
    wire = Wire(OwnedFd(writer))
    with trio.move_on_after(0):
        await send(wire, bytes(200_000))
    os.close(reader)

    with pytest.raises(HostGoneError):
        await send(wire, bytes(200_000))
    wire.close()


@pytest.fixture
def device() -> Iterator[tuple[int, Path]]:
    """A character device: the slave of a terminal; the master is the host."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    path = Path(os.ttyname(slave))
    os.close(slave)
    yield master, path
    with pytest.raises(OSError, match="Bad file"):
        os.close(master)


async def test_device_by_its_path(device: tuple[int, Path]) -> None:
    master, path = device

    wire = await Port(path=str(path)).open()

    os.write(master, b"hello")
    assert await wire.receive(100) == b"hello"
    await send(wire, b"answer")
    assert os.read(master, 100) == b"answer"
    os.close(master)
    with pytest.raises(HostGoneError):
        await wire.receive(100)
    wire.close()


async def test_device_that_is_not_there_yet(
    tmp_path: Path,
    device: tuple[int, Path],
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    master, path = device
    link = tmp_path / "port"
    started = trio.current_time()

    async def appear() -> None:
        await trio.sleep(10)
        link.symlink_to(path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(appear)
        wire = await Port(path=str(link)).open()

    assert 10 <= trio.current_time() - started < 12
    assert [record.message for record in caplog.records] == [
        f"{link}: No such file or directory"
    ]
    wire.close()
    os.close(master)


async def test_port_that_has_no_host_yet(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    fifo = tmp_path / "port"
    os.mkfifo(fifo)
    hangs_up = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, b"stale")
    os.close(writer)
    from wlproxy_guest.wire import host_appears

    async def appear() -> None:
        nonlocal writer
        await trio.sleep(5)
        writer = os.open(fifo, os.O_WRONLY)
        os.write(writer, b"fresh")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(appear)
        port = OwnedFd(hangs_up)
        assert await host_appears(port)

    assert os.read(hangs_up, 100) == b"fresh"
    os.close(writer)
    port.close()


async def test_port_that_goes_away_while_it_has_no_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fifo = tmp_path / "port"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.close(os.open(fifo, os.O_WRONLY))
    from wlproxy_guest.wire import host_appears

    def gone(_: int, __: int) -> bytes:
        raise OSError(errno.ENODEV, "No such device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", gone)
        assert not await host_appears(OwnedFd(fd))


async def test_unix_socket_that_is_not_there_yet(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "host"
    listening = socket.socket(socket.AF_UNIX)

    async def appear() -> None:
        await trio.sleep(5)
        listening.bind(str(path))
        listening.listen()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(appear)
        wire = await UnixSocket(str(path)).open()

    accepted, _ = listening.accept()
    with listening, accepted:
        await send(wire, b"x")
        assert accepted.recv(1) == b"x"
    wire.close()


async def test_inherited_fd_is_used_once() -> None:
    ours, agents = socket.socketpair()
    os.set_inheritable(agents.fileno(), True)
    source = InheritedFd(agents.detach())

    wire = await source.open()

    await send(wire, b"x")
    assert ours.recv(1) == b"x"
    with pytest.raises(NoWireError, match="used up"):
        await source.open()
    wire.close()
    ours.close()


async def test_inherited_fd_that_is_none() -> None:
    with pytest.raises(NoWireError, match="fd 9999: Bad file descriptor"):
        await InheritedFd(9999).open()


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("org.wlproxy.0", Port, "virtio port org.wlproxy.0"),
        ("/dev/vport0p1", Port, "/dev/vport0p1"),
        ("unix:/run/host", UnixSocket, "unix:/run/host"),
        ("fd:3", InheritedFd, "fd:3"),
    ],
)
def test_names_of_wires(text: str, kind: type, shown: str) -> None:
    source = parse_source(text)

    assert type(source) is kind
    assert str(source) == shown


def test_path_of_a_socket_is_connected_to(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))

        assert isinstance(parse_source(str(tmp_path / "s")), UnixSocket)


def test_fd_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="x"):
        parse_source("fd:x")


def fake_context(*ports: tuple[bytes, str | None]) -> pyudev.Context:
    devices = [
        SimpleNamespace(attributes={"name": name}, device_node=node)
        for name, node in ports
    ]
    return cast("Any", SimpleNamespace(list_devices=lambda subsystem: devices))


def test_port_is_found_by_its_name() -> None:
    context = fake_context(
        (b"org.qemu.guest_agent.0", "/dev/vport0p1"),
        (b"org.wlproxy.0", None),
        (b"org.wlproxy.0", "/dev/vport0p2"),
    )

    assert find_port(context, "org.wlproxy.0") == "/dev/vport0p2"
    assert find_port(context, "org.wlproxy.1") is None


def test_this_machine_has_no_such_port() -> None:
    assert find_port(pyudev.Context(), "org.wlproxy.test") is None


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EBUSY, "another agent"),
        (errno.EACCES, "udev rule"),
        (errno.ENXIO, "No such device or address"),
    ],
)
def test_why_a_port_cannot_be_opened(number: int, remedy: str) -> None:
    assert remedy in explain_open("/dev/vport0p1", OSError(number, os.strerror(number)))


Call = TypeVar("Call", bound=Callable[..., Any])


def fail_first(call: Call, *errors: BaseException) -> Call:
    """Make a call that first fails, in these ways one after the other."""
    left = list(errors)

    def failing(*args: Any) -> Any:
        if left:
            raise left.pop(0)
        return call(*args)

    return cast(Call, failing)


NO_MEMORY = (MemoryError(), OSError(errno.ENOMEM, "read"))


async def test_no_memory_for_bytes_costs_time(
    pair: tuple[Wire, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire, host = pair
    host.send(b"hello")
    monkeypatch.setattr(os, "read", fail_first(os.read, *NO_MEMORY))
    monkeypatch.setattr(os, "write", fail_first(os.write, *NO_MEMORY))

    assert await wire.receive(100) == b"hello"
    await send(wire, b"answer")

    assert host.recv(100) == b"answer"


async def test_no_memory_to_wait_with_costs_time(
    pair: tuple[Wire, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
) -> None:
    wire, host = pair
    wait = fail_first(trio.lowlevel.wait_readable, OSError(errno.ENOMEM, "epoll_ctl"))
    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait)

    async def answer() -> None:
        host.send(b"hello")

    nursery.start_soon(answer)
    assert await wire.receive(100) == b"hello"


async def test_no_fd_to_connect_with_costs_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    path = tmp_path / "host"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        connect = fail_first(socket.socket, OSError(errno.EMFILE, "socket"))
        monkeypatch.setattr(socket, "socket", connect)

        wire = await UnixSocket(str(path)).open()

    assert trio.current_time() > 0
    wire.close()


async def test_no_fd_to_find_the_port_with_costs_time(
    device: tuple[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    master, path = device

    async def found(name: str) -> str:
        return str(path)

    errors = (
        OSError(errno.EMFILE, "Too many open files"),
        pyudev.DeviceNotFoundAtPathError("/sys/class/virtio-ports/vport0p1"),
        MemoryError(),
    )
    monkeypatch.setattr(channel, "wait_for_port", fail_first(found, *errors))

    wire = await Port(name="org.wlproxy.test").open()

    assert "org.wlproxy.test: Too many open files" in caplog.text
    wire.close()
    os.close(master)


def test_libudev_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[object] = []
    monkeypatch.setattr(pyudev, "Context", lambda: contexts.append(1))
    channel.udev.cache_clear()
    channel.udev()
    channel.udev()
    channel.udev.cache_clear()
    assert len(contexts) == 1


async def test_without_libudev_there_is_no_wire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise ImportError("No library named udev")

    monkeypatch.setattr(channel, "udev", fail)
    with pytest.raises(NoWireError, match="install libudev1, or give --port"):
        await Port(name="org.wlproxy.test").open()


@pytest.mark.parametrize(
    "lacking", [MemoryError(), OSError(errno.ENOBUFS, "no buffers")]
)
def test_without_memory_nothing_is_sent_at_once(
    pair: tuple[Wire, socket.socket],
    lacking: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> int:
        raise lacking

    wire, host = pair
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        assert not wire.send_at_once(b"x")
    assert wire.backlog
    assert wire.send_at_once(b"y")
    assert host.recv(100) == b"xy"
