"""Sessions, channels and compositors that come and go, under a whole server."""

import errno
import logging
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.fake_tap import PAGE, FakeTap, memory
from tests.host.scripted import Agent, ScriptedRelay, guest_ram, ram_pages, see_hang_up
from tests.status_schema import judged
from wlproxy.host.config import HostConfig
from wlproxy.host.desktop.exposure import Remark
from wlproxy.host.errors import (
    GuestRamNotSharedError,
    GuestRamNotYetError,
    HostError,
    NoCompositorError,
    NotQemuError,
    QmpError,
)
from wlproxy.host.pages import PageSource
from wlproxy.host.policy_file import PolicySource
from wlproxy.host.qemu.discovery import tap_path
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.report.bugs import MISTAKE
from wlproxy.host.report.progress import State
from wlproxy.host.report.status_socket import read_status
from wlproxy.host.runtime_dir import dump_path
from wlproxy.host.server import Server
from wlproxy.memory.guest_memory import ExtentError
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
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import (
    CloseClient,
    Command,
    OpenCompositor,
    SendToCompositor,
)
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.transport.fd_stream import FdStream

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
        self.remarks: tuple[Remark, ...] = ()
        self.device: str | None = None
        self.looks = 0
        self.there = True
        self.fault: HostError | None = None
        self.gone = trio.Event()
        self.connections: list[FdStream] = []
        self.said: CompositorCapabilities | None = None

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
        if self.fault is not None:
            raise self.fault
        if not self.there:
            raise NoCompositorError("no compositor at /fake")

    def say_if_copied(self, abilities: CompositorCapabilities) -> None:
        self.said = abilities

    async def connect(self) -> FdStream:
        await self._look()
        ours, theirs = socket.socketpair()
        self.connections.append(FdStream(theirs))
        return FdStream(ours)

    async def wait_gone(self) -> None:
        await self.gone.wait()

    def obey(self, policy: object, allow: object) -> None:
        del policy, allow

    def close(self) -> None:
        self.there = False


class Bench:
    """A server, QEMU's listening socket, and the peers behind it."""

    def __init__(
        self,
        directory: Path,
        *,
        once: bool,
        ram_tap: Path | None = None,
        policy: Path | None = None,
    ) -> None:
        self.path = directory / "channel"
        self.config = HostConfig(
            self.path,
            "test",
            once=once,
            ram_tap=ram_tap,
            status=directory / "wlproxy" / "test.sock",
            policy_source=PolicySource("test", policy),
            reloads=policy is not None,
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
            provide_pages=self.provide_pages,
            make_relay=self.make_relay,
        )
        self.error: HostError | None = None
        self.ended = trio.Event()
        self._listener = trio.socket.socket(socket.AF_UNIX)
        self.agents: list[Agent] = []

    def provide_pages(self, stream: FdStream) -> PageSource:
        self.looked += 1
        if self.no_ram and (
            self.looked <= self.looks_without or not self.looks_without
        ):
            raise self.no_ram
        self.rams.append(guest_ram())
        return ram_pages(self.rams[-1], tap_path(self.config))

    def make_relay(
        self,
        config: RelayConfig,
        pages: PageSource,
        capabilities: CompositorCapabilities,
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
            case ("frame", Data(data=b"unread" as data)):
                return [SendToCompositor(1, data)]
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
async def serving(
    directory: Path,
    *,
    once: bool = False,
    ram_tap: Path | None = None,
    policy: Path | None = None,
) -> AsyncIterator[Bench]:
    bench = Bench(directory, once=once, ram_tap=ram_tap, policy=policy)
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
        await see_hang_up(compositor)
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
        agent.page_size = 65536

        await bench.begin(agent)

        (config,) = bench.configs
        assert (config.main_device, config.implicit_linear) == told
        assert config.guest_page == 65536


async def test_memory_that_is_plugged_is_used_in_the_same_session(
    tmp_path: Path,
) -> None:
    with ExitStack() as closing:
        tap = FakeTap(tmp_path / "tap")
        closing.callback(tap.listener.close)
        dimm = memory(closing)
        async with serving(tmp_path, ram_tap=tap.path) as bench:
            agent = await bench.accept()
            with await trio.to_thread.run_sync(tap.accept) as proxy:
                await bench.begin(agent)
                (ram,) = bench.rams
                low = (0, ram.memory.size // PAGE, ram.files[0])
                tap.tell(proxy, low, (1 << 32, 4, dimm), pid=ram.pid)
                with trio.fail_after(10):
                    while len(ram.files) < 2:  # noqa: ASYNC110 - nobody tells
                        await trio.sleep(0.001)
                await bench.open(agent)
            assert bench.server.metrics.sessions == 1


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
    monkeypatch.setattr("wlproxy.host.desktop.udmabuf_watch.DeviceWatch", lambda: watch)
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

    monkeypatch.setattr("wlproxy.host.desktop.udmabuf_watch.DeviceWatch", no_netlink)
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
        await see_hang_up(compositor)
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
            await see_hang_up(compositor)
            await compositor.aclose()
        assert len(bench.rams) == 3


async def test_once_means_once(tmp_path: Path) -> None:
    async with serving(tmp_path, once=True) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        await agent.stream.aclose()
        await bench.ended.wait()
        assert bench.error is None


@pytest.mark.parametrize("once", [True, False])
async def test_a_tap_that_is_away_ends_nothing(
    tmp_path: Path, once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The proxy waits for it; if QEMU ends meanwhile, that is as it always is."""
    caplog.set_level("INFO")
    async with serving(tmp_path, once=once) as bench:
        bench.no_ram = GuestRamNotYetError("no tap", remedy="start it")
        early = await bench.accept()
        with trio.fail_after(10):
            while bench.looked < 2:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
            await early.stream.aclose()
            if once:
                await bench.ended.wait()
            else:
                bench.no_ram = None
                await bench.begin(await bench.accept())
        assert bench.error is None
    assert caplog.text.count("no tap") == 1
    assert caplog.text.count("start it") == 1
    assert caplog.text.count("closed the channel before") == 1


async def test_without_ram_the_agent_hears_why_and_it_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.pages.PATIENCE", 0.3)
    async with serving(tmp_path) as bench:
        bench.no_ram = GuestRamNotSharedError("not shared", remedy="share=on")
        agent = await bench.accept()
        await agent.greet()
        said = await agent.receive()
        assert isinstance(said, Goodbye)
        assert said.reason is CloseReason.REFUSED
        assert said.message == GuestRamNotSharedError.for_guest
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


async def test_a_socket_that_is_not_qemus_yet_is_connected_to_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libvirt makes it and passes it on; who connects before that has libvirt for ever."""
    monkeypatch.setattr("wlproxy.host.server.QEMU_RETRY", 0.01)
    async with serving(tmp_path) as bench:
        bench.no_ram = NotQemuError("process 7 (libvirtd) has no memfd")
        bench.looks_without = 3
        for _ in range(3):
            early = await bench.accept()
            assert (await early.stream.receive())[0] == b""
        await bench.begin(await bench.accept())
        assert bench.error is None


async def test_a_socket_that_never_becomes_qemus_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.server.QEMU_RETRY", 0.01)
    monkeypatch.setattr("wlproxy.host.server.QEMU_PATIENCE", 0.1)
    async with serving(tmp_path) as bench:
        bench.no_ram = NotQemuError("process 7 (socat) has no memfd", remedy="another")
        while (agent := await bench.accept()) is not None:
            with suppress(trio.EndOfChannel):
                await agent.greet()
                break
        assert isinstance(await agent.receive(), Goodbye)
        await bench.ended.wait()
        assert bench.error is bench.no_ram
        assert bench.looked > 1


async def test_a_second_proxy_on_the_channel_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        await bench.begin(await bench.accept())
        status = tmp_path / "wlproxy" / "other.sock"
        config = replace(bench.config, name="other", status=status)
        other = Server(config, desktop=FakeDesktop())  # type: ignore[arg-type]
        with pytest.raises(HostError, match="another proxy has this channel: test"):
            await other.run()
        assert bench.server.state is State.SERVING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_it_cleanly_and_it_says_what_goes_with_it(
    tmp_path: Path, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        compositors = [await bench.open(agent, number) for number in (1, 2)]
        signal.raise_signal(number)
        for compositor in compositors:
            await see_hang_up(compositor)
            await compositor.aclose()
        assert isinstance((await agent.receive_until(Goodbye))[-1], Goodbye)
        await bench.ended.wait()
    assert bench.error is None
    assert "apps that are open, and end with the proxy: 2" in caplog.text


async def test_a_service_reads_its_policy_again_at_a_hangup(tmp_path: Path) -> None:
    """One that is asked by `wlproxy reload` does the same: nobody has to be started anew."""

    def drag(bench: Bench) -> str:
        return bench.server.config.relay.policy.drag.direction.value

    file = tmp_path / "c.toml"
    file.write_text("")
    async with serving(tmp_path, policy=file) as bench:
        await bench.begin(await bench.accept())
        assert drag(bench) == "both"
        file.write_text("[vm.test.policy]\ndrag.direction = 'off'\n")
        signal.raise_signal(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.server.state is State.SERVING
        assert drag(bench) == "off"


async def test_a_hangup_that_is_to_be_ignored_is(tmp_path: Path) -> None:
    """As nohup(1) has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with serving(tmp_path) as bench:
            await bench.begin(await bench.accept())
            signal.raise_signal(signal.SIGHUP)
            await trio.testing.wait_all_tasks_blocked()
            assert bench.server.state is State.SERVING
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_signal_while_it_starts_ends_it_as_well(tmp_path: Path) -> None:
    """Whatever the compositor makes it wait for."""

    class SlowDesktop(FakeDesktop):
        async def prepare(self) -> None:
            await trio.sleep_forever()

    status = tmp_path / "wlproxy" / "test.sock"
    config = HostConfig(tmp_path / "channel", "test", status=status)
    server = Server(config, desktop=SlowDesktop())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await trio.testing.wait_all_tasks_blocked()
        assert status.exists()
        signal.raise_signal(signal.SIGTERM)
    assert not status.exists()


FACTS = re.compile(
    r"/|\bpid\b|\bprocess\b|\buid\b|[Ee]rrno|\bE[A-Z]{3,}\b|libvirt|qemu"
)
"""What a sentence about the host has in it: paths, processes, users, system calls."""


def told(frames: list[Frame]) -> list[str]:
    return [
        frame.message for frame in frames if isinstance(frame, ClientClosed | Goodbye)
    ]


def fault(kind: type[HostError]) -> HostError:
    """A fault as the host has them: with every fact that might slip out."""
    return kind(
        "process 4711 (qemu-system-x86_64) of uid 1000 has no memfd",
        tried="open /proc/4711/fd",
        errno=errno.EACCES,
        remedy="libvirt: see /etc/libvirt/qemu.conf",
    )


@pytest.mark.parametrize("kind", [GuestRamNotSharedError, NotQemuError, QmpError])
async def test_a_refused_guest_hears_nothing_of_the_host(
    tmp_path: Path, kind: type[HostError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.pages.PATIENCE", 0)
    monkeypatch.setattr("wlproxy.host.server.QEMU_PATIENCE", 0)
    async with serving(tmp_path) as bench:
        bench.no_ram = fault(kind)
        agent = await bench.accept()
        await agent.greet()
        [sentence] = told(await agent.receive_until(Goodbye))
        assert sentence
        assert not FACTS.search(sentence)


async def test_a_guest_whose_ram_is_elsewhere_hears_nothing_of_the_host(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, once=True) as bench:
        agent = await bench.accept()
        await agent.greet()
        with guest_ram() as another:
            agent.ram = another
            await agent.prove()
            [sentence] = told(await agent.receive_until(Goodbye))
        assert not FACTS.search(sentence)


@pytest.mark.parametrize("cause", ["stopped", "compositor", "refused", "hung up"])
async def test_an_ended_client_hears_nothing_of_the_host(
    tmp_path: Path, cause: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as bench:
        agent = await bench.accept()
        await bench.begin(agent)
        if cause == "refused":
            bench.desktop.fault = fault(NoCompositorError)
            await agent.send(ClientOpened(1, 7, 0, 0, "app"))
        else:
            compositor = await bench.open(agent)
        if cause == "compositor":
            await compositor.aclose()
        elif cause == "hung up":
            # What it has not read makes it a reset, which the kernel has a number for.
            await agent.send(Data(1, b"unread"))
            await trio.testing.wait_all_tasks_blocked()
            bench.relays[-1].clients.add(1)
            await compositor.aclose()
        if cause != "stopped":
            frames = await agent.receive_until(ClientReleased)
        bench.server.stop()
        if cause == "stopped":
            await see_hang_up(compositor)
            await compositor.aclose()
            frames = []
        frames += await agent.receive_until(Goodbye)
        sentences = told(frames)
        assert len(sentences) == 2
        assert not any(map(FACTS.search, sentences)), sentences


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


async def test_a_restarted_compositor_is_looked_at_anew_in_the_same_session(
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
        assert bench.server.snapshot()["state"] == "waiting for the compositor"
        await agent.send(ClientOpened(2, 7, 0, 0, "app"))
        closed = (await agent.receive_until(ClientReleased))[-2]
        assert isinstance(closed, ClientClosed)
        assert closed.reason is CloseReason.COMPOSITOR_GONE
        assert not FACTS.search(closed.message)
        bench.desktop.there = True
        bench.desktop.capabilities = ZERO_COPY
        await trio.sleep(100)
        assert bench.server.snapshot()["state"] == "serving"
        await bench.open(agent, 3)
        (relay,) = bench.relays
        told = [each for each in relay.inputs if each[0] in ("away", "capabilities")]
        assert told == [("away",), ("capabilities", ZERO_COPY)]


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
        judged(status)
        assert status["state"] == State.SERVING.value
        assert status["agent"] == "scripted agent"
        assert bench.desktop.said == NO_ZERO_COPY  # which is warned of
        assert status["capabilities"]["shm_udmabuf_reason"] == "a test"  # type: ignore[index, call-overload]
        assert [client["label"] for client in status["clients"]] == ["app"]  # type: ignore[index, call-overload, union-attr]
        dump = await trio.to_thread.run_sync(
            read_status, dump_path(bench.config.status)
        )
        assert "objects" in dump["relay"]  # type: ignore[operator]
        assert "objects" in dump["lanes"]  # type: ignore[operator]
        with pytest.raises(HostError, match="running already"):
            await Server(bench.config, desktop=bench.desktop).run()  # type: ignore[arg-type]
