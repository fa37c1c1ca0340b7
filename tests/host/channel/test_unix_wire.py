"""Sockets of QEMU's, and sockets for it."""

import grp
import os
import resource
import socket
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from wlproxy.host.channel.unix_wire import (
    OUT_OF_FDS_PAUSE,
    ConnectingWire,
    ListeningWire,
)
from wlproxy.host.channel.wire import LAST_RETRY
from wlproxy.host.channel.wires import make_wire
from wlproxy.host.channel_address import HybridVsock, Listen, Vsock
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog

LOG = VmLog("test")
GROUP = grp.getgrgid(os.getegid()).gr_name


async def test_connecting_waits_for_qemu(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "channel"
    wire = ConnectingWire(path, None, "test")
    async with trio.open_nursery() as nursery:

        async def connect() -> None:
            stream = await wire.open(LOG)
            await stream.aclose()

        nursery.start_soon(connect)
        await trio.sleep(100)
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            listener.bind(str(path))
            await trio.sleep(LAST_RETRY)  # nobody listens yet
            listener.listen()
            await trio.sleep(2 * LAST_RETRY)
            listener.accept()[0].close()


async def test_a_channel_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot connect"):
        await ConnectingWire(tmp_path / ("x" * 200), None, "test").open(LOG)


def connect(path: Path) -> socket.socket:
    qemu = socket.socket(socket.AF_UNIX)
    qemu.settimeout(10)
    qemu.connect(str(path))
    return qemu


@pytest.mark.parametrize(
    ("group", "mode"), [(None, 0o600), (GROUP, 0o660), (str(os.getegid()), 0o660)]
)
async def test_listening_takes_who_connects(
    tmp_path: Path,
    group: str | None,
    mode: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wlproxy.host.runtime_dir._may_enter", lambda *_: True)
    path = tmp_path / "channel"
    with ListeningWire(Listen(path, group), None, "test") as wire:
        wire.claim()
        assert stat.S_IMODE(path.stat().st_mode) == mode
        for said in (b"a", b"b"):
            with connect(path) as qemu:
                qemu.send(said)
                async with await wire.open(LOG) as stream:
                    assert (await stream.receive())[0] == said
    assert not path.exists()


async def test_who_has_hung_up_is_no_obstacle(tmp_path: Path) -> None:
    with ListeningWire(Listen(tmp_path / "c"), None, "test") as wire:
        wire.claim()
        connect(tmp_path / "c").close()
        with connect(tmp_path / "c"):
            async with await wire.open(LOG) as stream:
                assert (await stream.receive())[0] == b""
            async with await wire.open(LOG):
                pass


async def test_while_it_is_in_use_others_are_turned_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ListeningWire(Listen(tmp_path / "c"), None, "test") as wire:
        wire.claim()
        qemu = connect(tmp_path / "c")
        async with await wire.open(LOG) as current, trio.open_nursery() as nursery:
            nursery.start_soon(wire.turn_away, current, LOG)
            for _ in range(3):
                with connect(tmp_path / "c") as late:
                    assert await trio.to_thread.run_sync(late.recv, 1) == b""
            qemu.close()
            with connect(tmp_path / "c") as late:  # its successor
                await trio.testing.wait_all_tasks_blocked()
                async with await wire.open(LOG) as successor:
                    await successor.send(b"x")
                    assert await trio.to_thread.run_sync(late.recv, 1) == b"x"
    assert caplog.text.count("is turned away: it is in use") == 1


async def test_without_fds_it_waits_to_turn_others_away(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The listener stays readable: looking at it all the time would cost a processor."""
    with ListeningWire(Listen(tmp_path / "c"), None, "test") as wire:
        wire.claim()
        with connect(tmp_path / "c"):
            async with await wire.open(LOG) as current, trio.open_nursery() as nursery:
                with connect(tmp_path / "c") as late:
                    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
                    try:
                        nursery.start_soon(wire.turn_away, current, LOG)
                        await trio.sleep(4.1 * OUT_OF_FDS_PAUSE)
                    finally:
                        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    assert caplog.text.count("nobody can connect: Too many open") == 5
                    await trio.sleep(OUT_OF_FDS_PAUSE)
                    assert late.recv(1) == b""
                nursery.cancel_scope.cancel()


def test_a_second_proxy_is_refused_before_it_listens(tmp_path: Path) -> None:
    address = Listen(tmp_path / "c")
    with make_wire(address, tmp_path, "work") as wire:
        wire.claim()
        (tmp_path / "link").symlink_to(tmp_path)
        for same in (address, Listen(tmp_path / "link" / "c")):
            other = make_wire(same, tmp_path, "other")
            with pytest.raises(HostError, match="another proxy has this channel: work"):
                other.claim()
            other.close()
        connect(tmp_path / "c").close()
    assert list(tmp_path.glob("*.lock")) == []


@pytest.mark.parametrize(
    "address", [Vsock(3, 5000), HybridVsock(Path("/nowhere/v"), 52)], ids=str
)
def test_a_vsock_is_one_proxys_too(
    tmp_path: Path, address: Vsock | HybridVsock
) -> None:
    """Before anything connects: the agent would leave the second one without an answer."""
    with make_wire(address, tmp_path, "work") as wire:
        wire.claim()
        with pytest.raises(HostError, match="another proxy has this channel: work"):
            make_wire(address, tmp_path, "other").claim()
    with make_wire(address, tmp_path, "other") as wire:
        wire.claim()


def test_somebody_else_listens_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "c"))
        listener.listen()
        with pytest.raises(HostError, match="somebody listens"):
            ListeningWire(Listen(tmp_path / "c"), None, "test").claim()
        assert (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("mode", "group", "complaint"),
    [
        (0o777, None, "others can write to"),
        (0o770, GROUP, "others can write to"),
        (0o700, GROUP, f"group {GROUP} cannot enter"),
        (0o755, "no such group", "there is no group"),
    ],
)
def test_a_directory_that_will_not_do(
    tmp_path: Path, mode: int, group: str | None, complaint: str
) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(HostError, match=complaint) as caught:
        ListeningWire(Listen(directory / "c", group), None, "test").claim()
    assert not (directory / "c").exists()
    assert caught.value.remedy


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="ENOENT") as caught:
        ListeningWire(Listen(tmp_path / "d" / "c"), None, "test").claim()
    assert "install -d" in caught.value.remedy


def test_who_has_set_an_acl_has_thought_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listxattr", lambda _: ["system.posix_acl_access"])
    with ListeningWire(Listen(tmp_path / "c", GROUP), None, "test") as wire:
        wire.claim()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a directory away")
def test_a_directory_of_somebody_elses(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(HostError, match="others can write to"):
        ListeningWire(Listen(tmp_path / "c"), None, "test").claim()
