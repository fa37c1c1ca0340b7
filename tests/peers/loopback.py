"""Agent and proxy, both real, joined by a socket in place of virtio-serial.

The guest's RAM is a memfd, in which a byte's guest-physical address is its offset; the
compositor is `tests.peers.compositor`.  Only `wlproxy_guest.locating.page_locator` (which needs a
guest) and the search for QEMU's memory are replaced.
"""

import os
import socket
import threading
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
import trio.testing

from tests.guest_agent.fakes import FileOffsetLocator, FilePin
from tests.peers.app import PAGE, TIMEOUT, App, Ram
from tests.peers.compositor import Compositor
from wlproxy.host.config import HostConfig
from wlproxy.host.desktop.desktop import Desktop
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice
from wlproxy.host.pages import PageSource
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.qemu.ram_pages import RamPages
from wlproxy.host.report.progress import State
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.server import Server as HostServer
from wlproxy.memory.guest_memory import GuestMemory, RamRegion
from wlproxy.protocol.channel.frames import Extent
from wlproxy.relay.capabilities import Preference
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.launchers import Launchers
from wlproxy_guest.locating.page_locator import PinnedRange
from wlproxy_guest.quotas import Limits
from wlproxy_guest.server import Server as AgentServer
from wlproxy_guest.unix_socket import listen
from wlproxy_guest.wire import Wire, WireSource, hung_up

RAM_SIZE = 1 << 28
VM = "testvm"


class RamLocator(FileOffsetLocator):
    """Locates an app's memory in the file that is the RAM."""

    def __init__(self, ram: Ram) -> None:
        super().__init__()
        self._ram = ram
        self.going = threading.Event()
        """While it is not set, locating takes its time."""
        self.going.set()
        self.asked = 0
        """How often."""

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        self.asked += 1
        assert self.going.wait(TIMEOUT)
        return super().locate(fd, offset, length, collapse_above)

    def place_token(self, token: bytes) -> PinnedRange:
        gpa = self._ram.size - PAGE
        self._ram.write(gpa, token)
        return PinnedRange((Extent(gpa, PAGE),), FilePin(self), pinned=PAGE)


class Port(WireSource):
    """A virtio-serial port: stays as it is while agents come and go.

    QEMU's socket, which the proxy connects to, is the other end of it.
    """

    def __init__(self, path: Path) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        listening.listen()
        self._listener = trio.socket.from_stdlib_socket(listening)
        self._connected: trio.socket.SocketType | None = None

    def __str__(self) -> str:
        return "the test's port"

    async def open(self) -> Wire:
        """Wait for a proxy; the wire is one end of what it connected to."""
        if self._connected is not None and hung_up(self._connected.fileno()):
            self._connected.close()
            self._connected = None
        if self._connected is None:
            self._connected, _ = await self._listener.accept()
        return Wire(OwnedFd(os.dup(self._connected.fileno())))

    def close(self) -> None:
        self._listener.close()
        if self._connected is not None:
            self._connected.close()


class Loopback:
    """The whole of it.

    Attributes:
        policy: of what the guest may do, where a test says nothing else.
    """

    policy = Policy()

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.ram = Ram(RAM_SIZE)
        self.display = directory / "wayland-guest"
        self.compositor_path = directory / "wayland-host"
        self.channel = directory / "channel"
        self.locator = RamLocator(self.ram)
        self.more_ram: list[RamRegion] = []
        """Besides the file."""
        self.port = Port(self.channel)
        self.compositor: Compositor
        self.host: HostServer
        self._desktop: Desktop
        self.agent: AgentServer
        self.apps: list[App] = []
        self._nursery = nursery
        self._scopes: dict[str, tuple[trio.CancelScope, trio.Event]] = {}

    async def start_compositor(
        self, *, native_shm: bool = False, dmabuf: bool = False
    ) -> None:
        self.compositor = Compositor(native_shm=native_shm, dmabuf=dmabuf)
        await self._start("compositor", self._run_compositor)

    async def start_agent(
        self, limits: Limits | None = None, launchers: Launchers | None = None
    ) -> None:
        listener = listen(self.display)
        self.agent = AgentServer(
            listener,
            self.port,
            self.locator,
            limits or Limits(),
            grace=0,
            launchers=launchers,
        )

        async def run() -> None:
            try:
                await self.agent.run()
            finally:
                listener.close()
                if launchers is not None:
                    launchers.close()

        await self._start("agent", run)

    async def start_host(
        self,
        display: Path | None = None,
        device: UdmabufDevice | None = None,
        *,
        allow: Collection[str] = (),
        policy: Policy | None = None,
        isolate: bool = True,
        status: Path | None = None,
        may_exec: bool = True,
        frame: WindowFrame | None = None,
    ) -> None:
        """Start the proxy.

        Args:
            display: another compositor than the test's.
            device: what makes dma-bufs; without one, everything is copied.
            allow: globals that a guest sees besides.
            policy: what a guest may do, in place of that.
            isolate: connect through a security context, where there is one.
            status: where its status socket is to be.
            may_exec: let commands be started in the guest.
            frame: how windows are framed, if they are.
        """
        path = str(display or self.compositor_path)
        preference = Preference.AUTO if device else Preference.COPY
        policy = policy or replace(self.policy, globals=Globals(allow=tuple(allow)))
        config = HostConfig(
            self.channel,
            VM,
            RelayConfig(VM, preference, policy, frame=frame),
            path,
            status=status,
            exec=may_exec,
        )
        desktop = Desktop(
            VM,
            path,
            VmLog(VM),
            policy=policy.globals.caps,
            allow=allow,
            isolate=isolate,
        )
        self._desktop = desktop
        desktop.device = device
        self.host = HostServer(
            config, desktop=desktop, provide_pages=self._provide_pages
        )
        await self._start("host", self.host.run)
        if "agent" in self._scopes:
            await self.until(lambda: self.host.state is State.SERVING)
        if "compositor" in self._scopes:
            self.compositor.calls.clear()  # the probe's, where there is a /dev/udmabuf

    async def stop(self, name: str) -> None:
        """Kill one of them: no goodbye is said."""
        scope, stopped = self._scopes.pop(name)
        scope.cancel()
        await stopped.wait()

    async def stop_all(self) -> None:
        for app in self.apps:
            app.close()
        for name in [n for n in ("host", "agent", "compositor") if n in self._scopes]:
            await self.stop(name)
        self.port.close()
        self.ram.close()

    async def app(self) -> App:
        """Connect an app through agent and proxy."""
        with trio.fail_after(TIMEOUT):
            return self._remember(await App.connect(self.display, self.ram))

    async def direct_app(self) -> App:
        """Connect an app to the compositor, with nothing between."""
        with trio.fail_after(TIMEOUT):
            return self._remember(await App.connect(self.compositor_path, self.ram))

    async def until(self, done: Callable[[], object]) -> None:
        """Wait until something is so that nobody tells us."""
        with trio.fail_after(TIMEOUT):
            while not done():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)

    async def quiet(self) -> None:
        """Wait until the host has let go of every client, and the agent of its pins."""
        await self.until(lambda: not self.clients() and not self.pins())

    async def ended(self, name: str) -> None:
        """Wait until one of the three has ended by itself."""
        await self._scopes[name][1].wait()

    def status(self) -> Any:
        """What the proxy says of itself."""
        return self.host.snapshot()

    def clients(self) -> int:
        return len(self.status()["clients"])

    def pins(self) -> int:
        """Pinned ranges, but for the proof of RAM."""
        return self.locator.pinned - (self.host.state is State.SERVING)

    def _remember(self, app: App) -> App:
        self.apps.append(app)
        return app

    async def _run_compositor(self) -> None:
        await self.compositor.run(self.compositor_path)

    def _provide_pages(self, stream: FdStream) -> PageSource:
        memory = GuestMemory([RamRegion(0, self.ram.size, 0, 0), *self.more_ram])
        files = {0: OwnedFd(os.dup(self.ram.fd))}
        ram = GuestRam(os.getpid(), files, memory, "a test")
        return RamPages(ram, lambda: self._desktop.device)

    async def _start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        scope, stopped = trio.CancelScope(), trio.Event()
        self._scopes[name] = scope, stopped

        async def serve() -> None:
            try:
                with scope:
                    await run()
            finally:
                stopped.set()

        self._nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
