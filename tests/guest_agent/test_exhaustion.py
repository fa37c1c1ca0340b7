"""The agent as a process to which real limits are set while it runs: it goes on.

Limits are of file descriptors and of address space, where threads, mappings and large
allocations are the first that cannot be had.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.guest_agent.fakes import PAGE, App, FakeHost, hello, opened
from wlproxy.protocol.channel.frames import (
    RAM_TOKEN_SIZE,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientReleased,
    Data,
    FileData,
    Frame,
    Locate,
    Located,
    ProveRam,
    RamProof,
)

pytestmark = pytest.mark.slow


class Process:
    """An agent's process, whose host and apps are the test's."""

    def __init__(self, directory: Path) -> None:
        ours, agents = socket.socketpair()
        self.path = directory / "wayland-0"
        self.log = (directory / "log").open("w+")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "wlproxy_guest", "--socket", self.path),
                *("--port", f"fd:{agents.fileno()}"),
            ],
            pass_fds=[agents.fileno()],
            stderr=self.log,
        )
        agents.close()
        self.host = FakeHost(ours)

    @property
    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def limit(self, kind: int, most: int) -> None:
        _, hard = resource.prlimit(self.process.pid, kind)
        resource.prlimit(self.process.pid, kind, (most, hard))

    def unlimit(self, kind: int) -> None:
        _, hard = resource.prlimit(self.process.pid, kind)
        resource.prlimit(self.process.pid, kind, (hard, hard))

    def address_space(self) -> int:
        """Bytes of it that are in use."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[0]
        return int(pages) * resource.getpagesize()

    async def connect(self) -> App:
        connecting = trio.socket.socket(socket.AF_UNIX)
        await connecting.connect(str(self.path))
        return App(connecting)

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Process]:
    agent = Process(tmp_path)
    yield agent
    agent.close()
    await agent.host.stream.aclose()


async def works(agent: Process) -> None:
    """An app is served, its memory located, a file reaches it."""
    pool = os.memfd_create("pool")
    os.ftruncate(pool, 4 * PAGE)
    host = agent.host
    with await agent.connect() as app:
        client = await opened(host)
        await app.send(b"x", pool)
        os.close(pool)
        data = await host.expect(Data)
        [memory] = data.attachments
        await host.send(Locate(client, 1, memory.object_id, 0, 4 * PAGE, 0))
        await host.expect(Located)
        file = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 1, 1)
        await host.send(FileData(client, 1, b"k"), Data(client, b"event", (file,)))
        received, fds = await app.receive()
        assert received == b"event"
        for fd in fds:
            os.close(fd)
    await host.expect(ClientClosed)
    await host.send(ClientReleased(client))
    host.frames.clear()


@pytest.mark.parametrize("spare", range(9))
async def test_hello_with_few_fds_left(agent: Process, spare: int) -> None:
    host = agent.host
    await host.start(hello())
    agent.limit(resource.RLIMIT_NOFILE, agent.fds + spare)

    await host.start(hello(2))
    await host.send(ProveRam(bytes(RAM_TOKEN_SIZE)))
    await host.expect(RamProof)

    agent.unlimit(resource.RLIMIT_NOFILE)
    await works(agent)


@pytest.mark.parametrize("spare", range(6))
async def test_apps_with_few_fds_left(agent: Process, spare: int) -> None:
    """Some of it fails; all of it is answered, and the agent goes on."""
    host = agent.host
    await host.start(hello())
    await works(agent)
    agent.limit(resource.RLIMIT_NOFILE, agent.fds + spare)
    pool = os.memfd_create("pool")
    os.ftruncate(pool, PAGE)

    with await agent.connect() as app, trio.move_on_after(1):
        await app.send(b"x", pool)
        client = await opened(host)
        frame: Frame = await first_of(host, Data, ClientClosed)
        if isinstance(frame, Data):
            [memory] = frame.attachments
            await host.send(Locate(client, 1, memory.object_id, 0, PAGE, 0))
            await first_of(host, Located, ClientClosed)
    os.close(pool)

    agent.unlimit(resource.RLIMIT_NOFILE)
    host.frames.clear()
    await host.start(hello(2))
    await works(agent)


async def first_of(host: FakeHost, *kinds: type[Frame]) -> Frame:
    with trio.fail_after(10):
        while True:
            for frame in host.frames:
                if isinstance(frame, kinds):
                    host.frames.remove(frame)
                    return frame
            await host.receive()


@pytest.mark.parametrize("spare", [0, 1 << 18, 1 << 20, 1 << 22, 1 << 24])
async def test_little_address_space_left(agent: Process, spare: int) -> None:
    host = agent.host
    await host.start(hello())
    await host.settle()
    agent.limit(resource.RLIMIT_AS, agent.address_space() + spare)
    pool = os.memfd_create("pool")
    os.ftruncate(pool, 1 << 22)

    with await agent.connect() as app, trio.move_on_after(2):
        client = await opened(host)
        await app.send(b"x", pool)
        frame = await first_of(host, Data, ClientClosed)
        if isinstance(frame, Data):
            [memory] = frame.attachments
            for number in range(1, 4):
                await host.send(Locate(client, number, memory.object_id, 0, 1 << 22, 0))
                await first_of(host, Located, ClientClosed)
            await host.send(FileData(client, 1, bytes(60_000)))
    os.close(pool)

    agent.unlimit(resource.RLIMIT_AS)
    host.frames.clear()
    await host.start(hello(2))
    await works(agent)
