"""The whole agent on a kernel with gem_locate: fences that are waited for, no privileges.

In the lab's host VM, as root; fences are those of vgem.
"""

import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from tests.guest_agent.exporters import (
    PAGE,
    DrmCard,
    MissingExporterError,
    dmabuf_of,
)
from tests.guest_agent.fakes import App, FakeHost, hello, opened
from wlproxy.protocol.channel.frames import (
    RAM_TOKEN_SIZE,
    ClientClosed,
    CloseReason,
    Data,
    Feature,
    Frame,
    Locate,
    Located,
    LocateStatus,
    ProveRam,
    RamProof,
    Release,
    Released,
)
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.drm.allocation import find_main_device
from wlproxy_guest.drm.implicit_layout import implicit_layout_is_linear
from wlproxy_guest.locating.fences import WriteFences
from wlproxy_guest.locating.gem_locate import DEVICE
from wlproxy_guest.locating.module_locator import ModuleLocator
from wlproxy_guest.quotas import Limits
from wlproxy_guest.server import Server
from wlproxy_guest.unix_socket import listen
from wlproxy_guest.wire import Wire, WireSource

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("device")]

SOMEBODY = 54321
"""A user and a group that nothing belongs to."""


@pytest.fixture
def vgem() -> Iterator[DrmCard]:
    try:
        card = DrmCard("vgem")
    except MissingExporterError as exc:
        pytest.skip(str(exc))
    yield card
    card.close()


# ---------------------------------------------------------------- fences


def test_a_fence_is_pending_until_it_is_signalled(vgem: DrmCard) -> None:
    handle, fd = vgem.make(4)
    fences = WriteFences()
    fences.add(fd)
    assert fences.pending() == set()
    fence = vgem.begin_write(handle)
    assert fences.pending() == {fd}
    vgem.end_write(fence)
    assert fences.pending() == set()
    fences.remove(fd)
    os.close(fd)


async def test_only_what_was_begun_before_is_waited_for(vgem: DrmCard) -> None:
    handle, fd = vgem.make(4)
    fences = WriteFences()
    fences.add(fd)
    first = vgem.begin_write(handle)
    settled = trio.Event()

    async def settle() -> None:
        await fences.wait_drawn()
        settled.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle)
        await trio.testing.wait_all_tasks_blocked()
        assert not settled.is_set()
        vgem.end_write(first)
        second = vgem.begin_write(handle)
        with trio.fail_after(5):
            await settled.wait()
        assert fences.pending() == {fd}
        vgem.end_write(second)
    os.close(fd)


class RealAgent(WireSource):
    """An agent with the real locator, between a fake host and apps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.locator = ModuleLocator()
        self.host: FakeHost

    async def open(self) -> Wire:
        ours, agents = socket.socketpair()
        self.host = FakeHost(ours)
        return Wire(OwnedFd(agents.detach()))

    async def connect(self) -> App:
        connecting = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await connecting.connect(str(self.path))
        return App(connecting)


def expected_features() -> Feature:
    """What an agent on this machine has: of DRM devices there is vgem, or none."""
    features = Feature.LOCATE_MEMFD | Feature.LOCATE_DMABUF | Feature.READ_MEMORY
    if implicit_layout_is_linear():
        features |= Feature.IMPLICIT_LINEAR
    return features


class OneWire(WireSource):
    """A source of one wire, and then of no more."""

    def __init__(self, agent: RealAgent) -> None:
        self._agent = agent
        self._used = False

    async def open(self) -> Wire:
        if self._used:
            await trio.sleep_forever()
        self._used = True
        return await self._agent.open()


@pytest.fixture
async def agent(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[RealAgent]:
    agent = RealAgent(tmp_path / "wayland-0")
    listener = listen(agent.path)
    server = Server(listener, OneWire(agent), agent.locator, Limits(), grace=0)
    scope, stopped = trio.CancelScope(), trio.Event()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await server.run(task_status)
        listener.close()
        stopped.set()

    await nursery.start(serve)
    await trio.testing.wait_all_tasks_blocked()
    ack = await agent.host.start(hello())
    assert ack.features == expected_features()
    assert ack.main_device == find_main_device()
    yield agent
    scope.cancel()
    await stopped.wait()
    await agent.host.stream.aclose()
    agent.locator.close()


async def show(app: App, host: FakeHost, fd: int, client_id: int = 1) -> Located:
    """Pass a dma-buf to the host, and have it located."""
    await app.send(b"take this", fd)
    frame = await host.expect(Data)
    (attachment,) = frame.attachments
    await host.send(Locate(client_id, 1, attachment.object_id, 0, attachment.size, 9))
    return await host.expect(Located)


def data_in(frames: list[Frame]) -> list[bytes]:
    return [frame.data for frame in frames if isinstance(frame, Data)]


async def test_bytes_wait_for_the_fence_and_nobody_elses_do(
    vgem: DrmCard, agent: RealAgent
) -> None:
    handle, fd = vgem.make(4)
    host = agent.host
    with await agent.connect() as app, await agent.connect() as other:
        assert await opened(host) == 1
        assert await opened(host) == 2
        assert (await show(app, host, fd)).status is LocateStatus.OK
        fence = vgem.begin_write(handle)
        await app.send(b"commit")
        await other.send(b"something else")
        assert data_in(await host.silence()) == [b"something else"]
        vgem.end_write(fence)
        assert (await host.expect(Data)).data == b"commit"

        # Once it is released, it is the app's own affair.
        await host.send(Release(1, 1))
        await host.expect(Released)
        fence = vgem.begin_write(handle)
        await app.send(b"commit again")
        assert (await host.expect(Data)).data == b"commit again"
        vgem.end_write(fence)
    os.close(fd)


async def test_the_answer_waits_for_what_was_begun_before_the_pin(
    vgem: DrmCard, agent: RealAgent
) -> None:
    handle, fd = vgem.make(4)
    host = agent.host
    with await agent.connect() as app:
        fence = vgem.begin_write(handle)
        await app.send(b"create, attach, commit", fd)
        frame = await host.expect(Data)
        await host.send(Locate(1, 1, frame.attachments[0].object_id, 0, PAGE, 0))
        with trio.move_on_after(0.5) as waiting:
            await host.expect(Located)
        assert waiting.cancelled_caught
        vgem.end_write(fence)
        assert (await host.expect(Located)).status is LocateStatus.OK
    os.close(fd)


@pytest.mark.parametrize("who", ["host", "session"])
async def test_the_wait_ends_with_the_client(
    vgem: DrmCard, agent: RealAgent, who: str
) -> None:
    handle, fd = vgem.make(4)
    host = agent.host
    with await agent.connect() as app:
        assert (await show(app, host, fd)).status is LocateStatus.OK
        fence = vgem.begin_write(handle)
        reader, writer = os.pipe()
        await app.send(b"commit", writer)
        os.close(writer)
        assert data_in(await host.silence()) == []
        if who == "host":
            await host.send(ClientClosed(1, CloseReason.NORMAL, ""))
        else:
            await host.stream.aclose()
        while (await app.receive())[0]:
            pass  # it is told why, and then hung up
    # What it had passed meanwhile is closed, too.
    assert select.select([reader], [], [], 10)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)
    vgem.end_write(fence)
    os.close(fd)


# ---------------------------------------------------------------- without privileges


class Unprivileged:
    """The agent as a process of somebody's, and the host that it connects to."""

    def __init__(self, directory: Path) -> None:
        self.apps = directory / "wayland-0"
        self._log = directory / "log"
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wire.bind(str(directory / "host"))
        for path in (directory, directory / "host"):
            os.chown(path, SOMEBODY, SOMEBODY)
        self._wire.listen()
        command = [sys.executable, "-m", "wlproxy_guest", "--log-level", "debug"]
        command += ["--socket", str(self.apps), "--port", f"unix:{directory}/host"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
                user=SOMEBODY,
                group=SOMEBODY,
                extra_groups=[],
            )

    def host(self) -> FakeHost:
        self._wire.settimeout(60)
        try:
            return FakeHost(self._wire.accept()[0])
        except TimeoutError:
            raise AssertionError(self._log.read_text()) from None

    def capabilities(self) -> int:
        """Those that it has, and those that it could get."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        sets = dict(line.split(":\t") for line in status.splitlines() if "Cap" in line)
        return int(sets["CapEff"], 16) | int(sets["CapPrm"], 16)

    def stop(self) -> None:
        self._wire.close()
        self._process.terminate()
        assert self._process.wait(30) == 0, self._log.read_text()


@pytest.fixture
def device_of_somebody() -> Iterator[None]:
    """Apply the udev rule of the module, with a group of the test's."""
    before = os.stat(DEVICE)
    os.chown(DEVICE, 0, SOMEBODY)
    os.chmod(DEVICE, 0o660)
    yield
    os.chown(DEVICE, before.st_uid, before.st_gid)
    os.chmod(DEVICE, stat.S_IMODE(before.st_mode))


@pytest.fixture
def unprivileged(device_of_somebody: None) -> Iterator[Unprivileged]:
    # Not pytest's directory, which is nobody else's.
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        process = Unprivileged(Path(directory))
        yield process
        process.stop()


async def test_an_agent_without_any_privilege(unprivileged: Unprivileged) -> None:
    host = unprivileged.host()
    ack = await host.start(hello())
    assert ack.features == expected_features()
    assert unprivileged.capabilities() == 0
    await host.send(ProveRam(bytes(RAM_TOKEN_SIZE)))
    assert (await host.expect(RamProof)).status is LocateStatus.OK
    connecting = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await connecting.connect(str(unprivileged.apps))
    with App(connecting) as app:
        with dmabuf_of("udmabuf", 300) as fd:
            located = await show(app, host, fd)
        assert located.status is LocateStatus.OK
        assert sum(extent.length for extent in located.extents) == 300 * PAGE
        memfd = os.memfd_create("pool")
        os.ftruncate(memfd, 1 << 20)
        await app.send(b"a pool", memfd)
        os.close(memfd)
        (attached,) = (await host.expect(Data)).attachments
        await host.send(Locate(1, 2, attached.object_id, 0, 1 << 20, 16))
        assert (await host.expect(Located)).status is LocateStatus.OK
    await host.stream.aclose()
