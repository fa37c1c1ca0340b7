"""A whole server at whose socket QEMU connects, and whoever else."""

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.host.conftest import nobody
from tests.host.fake_tap import FakeTap
from tests.host.scripted import Agent
from tests.host.test_server import Bench, FakeDesktop
from wlproxy.host.channel_address import HybridVsock, Listen, Vsock
from wlproxy.host.config import HostConfig
from wlproxy.host.errors import (
    GuestRamError,
    GuestRamUnreadableError,
    HostError,
    NotQemuError,
)
from wlproxy.host.pages import PageSource
from wlproxy.host.qemu.discovery import check_ram_is_told, qemu_ram
from wlproxy.host.report.progress import State
from wlproxy.host.server import Server
from wlproxy.transport.fd_stream import FdStream, connect_unix

STRANGER = (
    "import socket, sys\n"
    "s = socket.socket(socket.AF_UNIX)\n"
    "s.connect(sys.argv[1])\n"
    "assert s.recv(1) == b''\n"
)


class ListeningBench(Bench):
    """A server that listens, and a QEMU that is this very process."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, once=False)
        self.config = replace(self.config, channel=Listen(self.path))
        self.server = Server(
            self.config,
            desktop=self.desktop,  # type: ignore[arg-type]
            provide_pages=self.provide_pages,
            make_relay=self.make_relay,
        )

    def provide_pages(self, stream: FdStream) -> PageSource:
        """Judge as for a QEMU: others have no RAM, and no right to be looked into."""
        try:
            qemu_ram(replace(self.config, qemu_pid=os.getpid()), stream)
        except NotQemuError:
            raise
        except GuestRamError:  # it is we who have connected
            return super().provide_pages(stream)
        raise AssertionError("the tests have RAM of a guest")

    async def listen(self) -> None:
        """Listening is the server's part."""

    async def connect(self) -> Agent:
        """Be QEMU."""
        while not self.path.exists():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)
        self.agents.append(Agent(await connect_unix(self.path)))
        return self.agents[-1]


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[ListeningBench]:
    bench = ListeningBench(directory)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.run)
            yield bench
            bench.server.stop()
            await bench.close()
            await bench.ended.wait()
    finally:
        with trio.CancelScope(shield=True):
            await bench.close()
    assert not bench.path.exists()


async def be_a_stranger(path: Path) -> None:
    words = [sys.executable, "-c", STRANGER, str(path)]
    await trio.run_process(words)


async def test_qemu_comes_back_and_strangers_cost_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.connect()
        await bench.begin(agent)
        compositor = await bench.open(agent)
        await be_a_stranger(bench.path)  # while there is a session
        assert bench.server.state is State.SERVING
        await agent.stream.aclose()
        assert bench.desktop.connections[-1] is compositor
        await be_a_stranger(bench.path)  # while there is none
        await bench.begin(await bench.connect())
        assert bench.server.metrics.sessions == 2
        assert bench.error is None
    assert "is turned away: it is in use" in caplog.text
    (line,) = (each for each in caplog.messages if "turned away: process" in each)
    assert f"--qemu-pid says process {os.getpid()}" in line


async def test_a_second_proxy_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        await bench.begin(await bench.connect())
        status = tmp_path / "wlproxy" / "other.sock"
        config = replace(bench.config, name="other", status=status)
        other = Server(config, desktop=FakeDesktop())  # type: ignore[arg-type]
        with pytest.raises(HostError, match="another proxy has this channel: test"):
            await other.run()
        assert bench.server.state is State.SERVING
        assert bench.path.exists()


async def test_with_a_tap_it_is_the_taps_vmm_that_counts(tmp_path: Path) -> None:
    tap = FakeTap(tmp_path / "tap")
    ours, theirs = socket.socketpair()
    config = HostConfig(Listen(tmp_path / "c"), ram_tap=tap.path)
    async with FdStream(ours) as stream:
        for pid, error in ((1, NotQemuError), (os.getpid(), GuestRamError)):
            async with trio.open_nursery() as nursery:

                async def ask(expected: type[HostError]) -> None:
                    with pytest.raises(expected) as caught:
                        await trio.to_thread.run_sync(partial(qemu_ram, config, stream))
                    assert caught.type is not GuestRamError
                    assert (caught.type is NotQemuError) == (expected is NotQemuError)

                nursery.start_soon(ask, error)
                with await trio.to_thread.run_sync(tap.accept) as proxy:
                    tap.tell(proxy, pid=pid)
    theirs.close()
    tap.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
async def test_a_qemu_that_may_not_be_looked_into_is_a_stranger(tmp_path: Path) -> None:
    """Else any VM of libvirt's could end the proxy by connecting."""
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        async with trio.open_nursery() as nursery:
            words = ["qemu-of-mine", "-c", STRANGER, str(path)]
            start = partial(trio.run_process, words, executable=sys.executable)
            await nursery.start(start)
            connected, _ = await trio.to_thread.run_sync(listener.accept)
            async with FdStream(connected) as stream:
                with nobody():
                    with pytest.raises(GuestRamUnreadableError, match="may not be"):
                        qemu_ram(HostConfig(path), stream)
                    with pytest.raises(NotQemuError, match="may not be") as caught:
                        qemu_ram(HostConfig(Listen(path)), stream)
    assert "same user and group" in caught.value.remedy


@pytest.mark.parametrize(
    "channel", [Vsock(3, 5000), HybridVsock(Path("/v"), 52)], ids=str
)
async def test_a_vsock_shows_no_ram(channel: Vsock | HybridVsock) -> None:
    config = HostConfig(channel)
    with pytest.raises(GuestRamError, match="not found by a vsock") as caught:
        check_ram_is_told(config)
    assert "ram-tap" in caught.value.remedy
    assert "--qemu-pid" in caught.value.remedy
    check_ram_is_told(replace(config, qemu_pid=7))
    check_ram_is_told(replace(config, ram_tap=Path("/tap")))
