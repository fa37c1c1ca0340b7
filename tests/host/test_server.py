"""Sessions, channels and compositors that come and go, under a whole server."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.scripted import Agent, ScriptedRelay, guest_ram
from wlproxy.host.bugs import MISTAKE
from wlproxy.host.config import HostConfig
from wlproxy.host.errors import GuestRamNotSharedError, HostError, NoCompositorError
from wlproxy.host.guest_ram import GuestRam
from wlproxy.host.server import Server, State
from wlproxy.host.status import read_status
from wlproxy.host.unix_socket import FdStream
from wlproxy.memory.guest import ExtentError
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseReason,
    Data,
    Extent,
    Feature,
    Frame,
    Goodbye,
    Located,
    LocateStatus,
    Ping,
    Pong,
)
from wlproxy.relay.commands import CloseClient, Command, OpenCompositor
from wlproxy.relay.context import RelayConfig
from wlproxy.relay.presentation import CompositorCapabilities

NO_ZERO_COPY = CompositorCapabilities(shm_udmabuf=False, shm_udmabuf_reason="a test")


ZERO_COPY = CompositorCapabilities(shm_udmabuf=True)


class FakeWatch:
    """Tells of a device as often as the test says."""

    def __init__(self) -> None:
        self.tell, self.told = trio.open_memory_channel[None](9)

    async def wait(self) -> None:
        await self.told.receive()


class FakeDesktop:
    """A compositor whose coming and going the test decides."""

    def __init__(self) -> None:
        self.path = Path("/fake")
        self.capabilities = NO_ZERO_COPY
        self.isolated = False
        self.device: str | None = None
        self.looks = 0
        self.there = True
        self.gone = trio.Event()
        self.connections: list[FdStream] = []

    async def find_device(self) -> bool:
        await self._look()
        self.looks += 1
        if self.looks < 2:
            return False
        self.device = "device"
        self.capabilities = ZERO_COPY
        return True

    async def prepare(self) -> None:
        await self._look()
        self.gone = trio.Event()

    async def _look(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.there:
            raise NoCompositorError("no compositor at /fake")

    async def connect(self) -> FdStream:
        await self._look()
        ours, theirs = socket.socketpair()
        self.connections.append(FdStream(theirs))
        return FdStream(ours)

    async def wait_gone(self) -> None:
        await self.gone.wait()

    def close(self) -> None:
        self.there = False


class Bench:
    """A server, QEMU's listening socket, and the peers behind it."""

    def __init__(self, directory: Path, *, once: bool) -> None:
        self.path = directory / "channel"
        self.config = HostConfig(
            self.path, "test", once=once, status=directory / "wlproxy" / "test.sock"
        )
        self.desktop = FakeDesktop()
        self.relays: list[ScriptedRelay] = []
        self.rams: list[GuestRam] = []
        self.configs: list[RelayConfig] = []
        self.no_ram: HostError | None = None
        self.looked = self.looks_without = self.bad_relays = 0
        self.server = Server(
            self.config,
            desktop=self.desktop,  # type: ignore[arg-type]
            provide_ram=self.provide_ram,
            make_relay=self.make_relay,
        )
        self.error: HostError | None = None
        self.ended = trio.Event()
        self._listener = trio.socket.socket(socket.AF_UNIX)
        self.agents: list[Agent] = []

    def provide_ram(self, stream: FdStream) -> GuestRam:
        self.looked += 1
        if self.no_ram and (
            self.looked <= self.looks_without or not self.looks_without
        ):
            raise self.no_ram
        self.rams.append(guest_ram())
        return self.rams[-1]

    def make_relay(
        self, config: RelayConfig, ram: GuestRam, capabilities: CompositorCapabilities
    ) -> ScriptedRelay:
        if self.bad_relays:
            self.bad_relays -= 1
            raise KeyError
        relay = ScriptedRelay(self.respond)
        self.relays.append(relay)
        self.configs.append(config)
        return relay

    def respond(self, what: tuple[object, ...]) -> list[Command]:
        match what:
            case ("frame", ClientOpened(client_id=client_id)):
                self.relays[-1].clients.add(client_id)
                return [OpenCompositor(client_id, "app")]
            case ("frame", ClientClosed(client_id=client_id)):
                return [CloseClient(client_id, CloseReason.NORMAL, "", silent=True)]
            case ("frame", Located()):
                raise ExtentError("outside RAM")
            case ("frame", Data(data=b"bug")):
                raise ZeroDivisionError
            case _:
                return []

    async def run(self) -> None:
        try:
            await self.server.run()
        except HostError as exc:
            self.error = exc
        self.ended.set()

    async def listen(self) -> None:
        await self._listener.bind(str(self.path))
        self._listener.listen()

    async def accept(self) -> Agent:
        """Be QEMU: take the proxy's connection."""
        connection, _ = await self._listener.accept()
        stream = FdStream(socket.socket(fileno=connection.detach()))
        self.agents.append(Agent(stream))
        return self.agents[-1]

    async def begin(self, agent: Agent) -> None:
        """Be an agent that comes up."""
        await agent.greet()
        agent.ram = self.rams[-1]
        await agent.prove()
        await agent.send(Ping(9))
        assert await agent.receive() == Pong(9)

    async def open(self, agent: Agent, client_id: int = 1) -> FdStream:
        await agent.send(ClientOpened(client_id, 7, 0, 0, "app"), Ping(8))
        assert await agent.receive() == Pong(8)
        await trio.testing.wait_all_tasks_blocked()
        return self.desktop.connections[-1]

    async def close(self) -> None:
        self._listener.close()
        for agent in self.agents:
            await agent.stream.aclose()
        for connection in self.desktop.connections:
            await connection.aclose()


async def ask(bench: Bench) -> bytes:
    """Read the status socket."""
    assert bench.config.status is not None
    async with await trio.open_unix_socket(bench.config.status) as stream:
        return b"".join([chunk async for chunk in stream])


@asynccontextmanager
async def serving(directory: Path, *, once: bool = False) -> AsyncIterator[Bench]:
    bench = Bench(directory, once=once)
    try:
        await bench.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.run)
            yield bench
            bench.server.stop()
            await bench.close()
            await bench.ended.wait()
    finally:
        with trio.CancelScope(shield=True):
            await bench.close()


async def test_stopped_it_closes_its_clients_and_says_goodbye(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        compositor = await bench.open(agent)
        bench.server.stop()
        assert (await compositor.receive())[0] == b""
        await compositor.aclose()
        frames = await agent.receive_until(Goodbye)
        assert isinstance(frames[0], ClientClosed)
        assert frames[1] == ClientReleased(1)
        await bench.ended.wait()
        assert bench.error is None
        assert not (tmp_path / "wlproxy" / "test.sock").exists()


@pytest.mark.parametrize(
    ("features", "device", "told"),
    [
        (Feature.LOCATE_MEMFD, 0, (0, False)),
        (Feature.LOCATE_MEMFD, 0xE280, (0, False)),
        (Feature.LOCATE_MEMFD | Feature.LOCATE_DMABUF, 0xE280, (0xE280, False)),
        (Feature.LOCATE_DMABUF | Feature.IMPLICIT_LINEAR, 0xE280, (0xE280, True)),
        (Feature.LOCATE_DMABUF, 0, (0, False)),
        # It means nothing alone.
        (Feature.LOCATE_MEMFD | Feature.IMPLICIT_LINEAR, 0xE280, (0, False)),
    ],
)
async def test_the_core_is_told_of_a_device_whose_buffers_can_be_located(
    tmp_path: Path, features: Feature, device: int, told: tuple[int, bool]
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        agent.features, agent.main_device = features, device

        await bench.begin(agent)

        (config,) = bench.configs
        assert (config.main_device, config.implicit_linear) == told


@pytest.mark.parametrize("when", ["qemu", "agent", "proof"])
async def test_stopped_while_it_waits(tmp_path: Path, when: str) -> None:
    async with serving(tmp_path) as bench:
        if when != "qemu":
            agent = await bench.accept()
            if when == "proof":
                await agent.greet()
        await trio.testing.wait_all_tasks_blocked()
        bench.server.stop()
        await bench.ended.wait()
        assert bench.error is None


async def test_a_device_that_comes_later_is_for_the_clients_that_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = FakeWatch()
    monkeypatch.setattr("wlproxy.host.server.DeviceWatch", lambda: watch)
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        told = ("capabilities", ZERO_COPY)

        watch.tell.send_nowait(None)  # it is there, but not for this user
        await trio.testing.wait_all_tasks_blocked()
        assert told not in bench.relays[-1].inputs
        bench.desktop.there = False
        watch.tell.send_nowait(None)
        await trio.testing.wait_all_tasks_blocked()
        bench.desktop.there = True
        watch.tell.send_nowait(None)
        await trio.testing.wait_all_tasks_blocked()

        assert told in bench.relays[-1].inputs
        assert bench.server.state is State.SERVING  # nobody was ended


async def test_without_udev_the_proxy_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_netlink() -> None:
        raise PermissionError("netlink")

    monkeypatch.setattr("wlproxy.host.server.DeviceWatch", no_netlink)
    async with serving(tmp_path) as bench:
        await bench.begin(await bench.accept())


async def test_an_agent_that_restarts_gets_a_new_session(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        compositor = await bench.open(agent)
        again = Agent(agent.stream)
        await agent.stream.send(again.session.announce())
        assert (await compositor.receive())[0] == b""
        await compositor.aclose()
        await bench.begin(again)
        await bench.open(again)
        assert len(bench.relays) == 2
        assert len(bench.rams) == 1


async def test_qemu_may_go_and_come_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        for _ in range(3):
            agent = await bench.accept()
            await bench.begin(agent)
            compositor = await bench.open(agent)
            await agent.stream.aclose()
            assert (await compositor.receive())[0] == b""
            await compositor.aclose()
        assert len(bench.rams) == 3


async def test_once_means_once(tmp_path: Path) -> None:
    async with serving(tmp_path, once=True) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        await agent.stream.aclose()
        await bench.ended.wait()
        assert bench.error is None


async def test_without_ram_the_agent_hears_why_and_it_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.server.RAM_PATIENCE", 0.3)
    async with serving(tmp_path) as bench:
        bench.no_ram = GuestRamNotSharedError("not shared", remedy="share=on")
        agent = await bench.accept()
        await agent.greet()
        said = await agent.receive()
        assert isinstance(said, Goodbye)
        assert said.reason is CloseReason.REFUSED
        assert "share=on" in said.message
        await bench.ended.wait()
        assert bench.error is bench.no_ram


async def test_a_qemu_that_has_just_begun_may_have_no_ram_yet(tmp_path: Path) -> None:
    """It listens first."""
    async with serving(tmp_path) as bench:
        bench.no_ram = GuestRamNotSharedError("no memfd that could be guest RAM")
        bench.looks_without = 3
        agent = await bench.accept()
        await bench.begin(agent)
        assert bench.looked == 4
        assert bench.error is None


async def test_a_compositor_must_be_there_at_the_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path, once=True)
    bench.desktop.there = False
    with pytest.raises(NoCompositorError):
        await bench.server.run()
    await bench.close()


@pytest.mark.parametrize(
    "frame",
    [
        Located(1, 1, LocateStatus.OK, 0, more=False, extents=(Extent(0, 4096),)),
        Pong(3),
    ],
)
async def test_a_hostile_agent_ends_its_session_and_must_wait(
    tmp_path: Path, frame: Frame, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        waited = []
        for _ in range(4):
            await bench.begin(agent)
            await agent.send(frame)
            said = (await agent.receive_until(Goodbye))[-1]
            assert isinstance(said, Goodbye)
            assert said.reason is CloseReason.PROTOCOL_ERROR
            began = trio.current_time()
            agent = Agent(agent.stream)
            bench.agents.append(agent)
            await bench_waits_for_hello(agent)
            waited.append(trio.current_time() - began)
        assert waited == sorted(waited)
        assert waited[-1] > 3 * waited[0]


async def bench_waits_for_hello(agent: Agent) -> None:
    """Wait until the host starts over, without taking anything."""
    await trio.lowlevel.wait_readable(agent.stream.socket)


async def test_garbage_does_not_end_the_proxy(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        for _ in range(5):
            await bench.begin(agent)
            with suppress(trio.BrokenResourceError):
                await agent.stream.send(b"\xff" * 100)
            agent = Agent(agent.stream)
        await bench.begin(agent)
        await bench.open(agent)


async def test_a_restarted_compositor_is_looked_at_anew(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        compositor = await bench.open(agent)
        bench.desktop.there = False
        await compositor.aclose()
        bench.desktop.gone.set()
        assert isinstance((await agent.receive_until(ClientReleased))[0], ClientClosed)
        await trio.sleep(100)
        await agent.send(ClientOpened(2, 7, 0, 0, "app"))
        closed = (await agent.receive_until(ClientReleased))[-2]
        assert isinstance(closed, ClientClosed)
        assert closed.reason is CloseReason.COMPOSITOR_GONE
        bench.desktop.there = True
        await agent.receive_until(Goodbye)
        await bench.begin(agent)
        await bench.open(agent)
        assert len(bench.relays) == 2


async def test_a_bug_of_ours_ends_one_client_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        await bench.open(agent)
        await agent.send(Data(1, b"bug"))

        assert await agent.receive() == ClientClosed(1, CloseReason.FAILED, MISTAKE)
        assert "a bug of wlproxy ends app; please report it" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert bench.server.metrics.bugs == 1
        await bench.desktop.connections[0].aclose()
        assert await agent.receive() == ClientReleased(1)
        await bench.open(agent, 2)


async def test_a_bug_that_is_no_clients_ends_one_session(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        bench.bad_relays = 1
        agent = await bench.accept()
        await agent.greet()
        agent.ram = bench.rams[-1]
        await agent.prove()
        assert await agent.receive() == Goodbye(CloseReason.FAILED, MISTAKE)

        await bench.begin(agent)
        await bench.open(agent)
        assert bench.server.metrics.bugs == 1


async def test_a_bug_in_status_leaves_one_question_unanswered(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        bench.relays[-1].surfaces = {}.popitem  # type: ignore[method-assign,assignment]

        assert await ask(bench) == b""
        del bench.relays[-1].surfaces
        assert b'"bugs": 1' in await ask(bench)


async def test_the_status_says_what_is_going_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        await bench.open(agent)
        assert bench.config.status is not None
        status = await trio.to_thread.run_sync(read_status, bench.config.status)
        assert status["state"] == State.SERVING.value
        assert status["agent"] == "scripted agent"
        assert status["capabilities"]["shm_udmabuf_reason"] == "a test"  # type: ignore[index, call-overload]
        assert [client["label"] for client in status["clients"]] == ["app"]  # type: ignore[index, call-overload, union-attr]
        with pytest.raises(HostError, match="running already"):
            await Server(bench.config, desktop=bench.desktop).run()  # type: ignore[arg-type]
