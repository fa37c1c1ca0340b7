"""A viewer between a compositor and a QEMU that are the test's, which has every pixel and call."""

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.peers.compositor import Compositor, Surface, configure
from tests.peers.libwayland import Called, Resource
from tests.screen.doormen import doorman_in_thread
from tests.screen.fake_qemu import SERIAL, FakeQemu, call, memory, scanout_map
from wlproxy.host.desktop.address import connect_compositor
from wlproxy.protocol.dbus.connection import PROPERTIES
from wlproxy.screen.console import MOUSE, console_path
from wlproxy.screen.door import Door
from wlproxy.screen.doorman import LISTENER
from wlproxy.screen.line import Line
from wlproxy.screen.qemu_clipboard import QemuClipboard
from wlproxy.screen.sharing import Sharing
from wlproxy.screen.viewer import ScreenError, Shared, Viewer
from wlproxy.transport.fds import OwnedFd

PATIENCE = 20


class ViewerStage:
    """The three of them.

    Attributes:
        ended: what `Viewer.run` returned, or why it raised.
    """

    def __init__(self, compositor: Compositor, directory: Path) -> None:
        self.compositor = compositor
        # However long a test takes, no key repeats of itself.
        self.compositor.repeats = 0, 0
        self.qemu: FakeQemu
        self.viewer: Viewer
        self.ended = ""
        self.clipboard: QemuClipboard[OwnedFd] | None = None
        self._line: Line
        self._serials = SERIAL
        self._path = directory / "wl"

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so that nobody tells."""
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)

    async def start(
        self,
        nursery: trio.Nursery,
        sharing: Sharing | None,
        touches: bool,
        **qemu: Any,
    ) -> None:
        await nursery.start(self.compositor.run, self._path)
        ours, theirs = socket.socketpair()
        self.qemu = FakeQemu(theirs)
        for name, value in qemu.items():
            setattr(self.qemu, name, value)
        nursery.start_soon(self.qemu.run)
        stream = await connect_compositor(self._path)
        log = logging.LoggerAdapter(logging.getLogger("wlproxy"))
        self._line = line = Line(ours)
        door = Door.with_doorman(doorman_in_thread)
        if sharing is not None:
            self.clipboard = QemuClipboard[OwnedFd](line.peer, sharing, "test")
            self.clipboard.join()
        shared = Shared(trio.Event(), self.clipboard, touches)
        self.viewer = Viewer("vm", line, stream, door, log, shared=shared)
        if sharing is not None:
            sharing.changed = self.viewer.settle
        nursery.start_soon(self._run, line)

    async def show(
        self, contents: bytes = b"", width: int = 16, height: int = 8
    ) -> None:
        """Have QEMU show a map, and wait for a window that shows it."""
        await self.until(lambda: self.qemu.listeners and self.qemu.listener)
        await self.qemu_answered()
        frames = len(self.frames)
        whole = contents or os.urandom(width * height * 4)
        await self.qemu.say(scanout_map(memory(whole), width, height, width * 4))
        await self.frame_after(frames)

    async def qemu_answered(self) -> None:
        """Wait until QEMU has heard all that it was told, and its answers to that have come.

        One of those says whether its pointer can be put somewhere.
        """
        answers: list[object] = []
        path, method = console_path(0), f"{PROPERTIES}.GetAll"
        self._line.peer.ask(path, method, "s", (MOUSE,), answers.append)
        self._line.send_out()
        await self.until(lambda: answers)
        await trio.lowlevel.checkpoint()  # upon which the window does what follows

    async def listened(self) -> None:
        """Wait until the window has taken all that QEMU called it for, and has answered what it does."""
        serial = self._serials = self._serials + 1
        await self.qemu.say(call(LISTENER, "Disable", serial=serial))
        await self.until(
            lambda: any(each.fields.reply_to == serial for each in self.qemu.answers)
        )

    async def ponged(self) -> None:
        """Wait until the window has taken all that the compositor told it, and that has what follows."""
        pongs = len(self.compositor.called("xdg_wm_base.pong"))
        self.find("xdg_wm_base").send("ping", 1)
        await self.until(
            lambda: len(self.compositor.called("xdg_wm_base.pong")) > pongs
        )

    async def frame_after(self, frames: int) -> None:
        """Wait until more than so many have been shown."""
        await self.until(lambda: len(self.frames) > frames)

    async def last(self, request: str, is_so: Callable[..., object]) -> Called:
        """Wait until the last request of a name has certain arguments; return it."""

        def found() -> bool:
            called = self.compositor.called(request)
            return bool(called) and bool(is_so(*called[-1].args))

        await self.until(found)
        return self.compositor.called(request)[-1]

    @property
    def surface(self) -> Resource:
        """The window's."""
        surfaces = [
            resource
            for client in self.compositor.clients
            for resource in client.all("wl_surface")
        ]
        return surfaces[0]

    @property
    def frames(self) -> list[bytes]:
        """What the window has shown."""
        if not any(client.all("wl_surface") for client in self.compositor.clients):
            return []
        state: Surface = self.surface.state
        return state.frames

    def find(self, interface: str) -> Resource:
        return self.compositor.apps[-1].find(interface)

    def configure(self, width: int, height: int) -> None:
        configure(self.surface, (width, height))

    async def enter(self, interface: str, *args: Any) -> Resource:
        """Give the window the focus of a keyboard or pointer; return that."""
        await self.until(lambda: any(c.all(interface) for c in self.compositor.clients))
        device = self.find(interface)
        device.send("enter", 1, self.surface, *args)
        return device

    async def told(
        self, *members: str, count: int
    ) -> list[tuple[str, tuple[Any, ...]]]:
        """Wait until QEMU was told so often; return what."""
        await self.until(lambda: len(self.qemu.heard(*members)) >= count)
        return self.qemu.heard(*members)

    async def _run(self, line: Line) -> None:
        with line:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run)
                try:
                    self.ended = await self.viewer.run()
                except ScreenError as exc:
                    self.ended = str(exc)
                if self.clipboard is not None:
                    self.clipboard.close()
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def staged(
    directory: Path,
    compositor: Compositor | None = None,
    *,
    sharing: Sharing | None = None,
    touches: bool = False,
    **qemu: Any,
) -> AsyncIterator[ViewerStage]:
    stage = ViewerStage(compositor or Compositor(), directory)
    async with trio.open_nursery() as nursery:
        await stage.start(nursery, sharing, touches, **qemu)
        yield stage
        nursery.cancel_scope.cancel()
