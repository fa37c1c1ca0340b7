"""An agent between a fake host and apps, over real sockets."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.guest_agent.fakes import App, FakeHost, FileOffsetLocator, hello
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.gem_locate import DEVICE
from wlproxy_guest.quotas import Limits
from wlproxy_guest.server import Server
from wlproxy_guest.unix_socket import listen
from wlproxy_guest.wire import Wire, WireSource


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """What is to be closed when the test ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def device() -> None:
    """The kernel module's device: in the lab's machines only."""
    if not Path(DEVICE).exists():
        pytest.skip(f"no {DEVICE}: the lab's image has no gem_locate")


class Wires(WireSource):
    """A source of wires whose other ends are the test's."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[Wire](1)

    async def open(self) -> Wire:
        return await self.receive.receive()

    async def plug_in(self, *, anybody: bool = False) -> FakeHost:
        ours, agents = socket.socketpair()
        await self.send.send(Wire(OwnedFd(agents.detach()), anybody=anybody))
        return FakeHost(ours)


class Agent:
    """An agent that runs, and what it is connected to."""

    def __init__(self, path: Path, locator: FileOffsetLocator) -> None:
        self.path = path
        self.locator = locator
        self.wires = Wires()
        self.server: Server
        self.hosts: list[FakeHost] = []

    async def plug_in(self) -> FakeHost:
        host = await self.wires.plug_in()
        self.hosts.append(host)
        return host

    async def connect(self) -> App:
        connecting = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await connecting.connect(str(self.path))
        return App(connecting)


RunAgent = Callable[..., Awaitable[Agent]]


@pytest.fixture
async def run_agent(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[RunAgent]:
    """Start an agent, with limits of the test's choice."""
    agents: list[Agent] = []
    scope = trio.CancelScope()
    stopped = trio.Event()

    async def run(limits: Limits | None = None, host_wait: float = 10) -> Agent:
        agent = Agent(tmp_path / "wayland-0", FileOffsetLocator())
        listener = listen(agent.path)
        agent.server = Server(
            listener,
            agent.wires,
            agent.locator,
            limits or Limits(),
            host_wait=host_wait,
            grace=0,
        )

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await agent.server.run(task_status)
            listener.close()
            stopped.set()

        await nursery.start(serve)
        agents.append(agent)
        return agent

    yield run
    scope.cancel()
    for agent in agents:
        await stopped.wait()
        for host in agent.hosts:
            await host.stream.aclose()
        assert agent.locator.pinned == 0


@pytest.fixture
async def agent(run_agent: RunAgent) -> Agent:
    return await run_agent()


@pytest.fixture
async def host(agent: Agent) -> FakeHost:
    host = await agent.plug_in()
    await host.start(hello())
    return host


@pytest.fixture
async def app(agent: Agent, host: FakeHost) -> AsyncIterator[App]:
    """An app, connected as client 1."""
    with await agent.connect() as app:
        yield app
