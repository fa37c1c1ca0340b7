"""Agent and proxy joined as on Xen: by a console that never hangs up, with pages that are granted.

A terminal of the kernel's stands for the console, and `Qemu` for what the toolstack starts behind it.
The grant table is the file that is the guest's RAM: reference n is its page n.  Nothing of this is Xen:
what a fd of gntdev is, only the lab can tell.
"""

import os
import pty
import tty
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.peers.app import PAGE
from tests.peers.loopback import RAM_SIZE, Loopback
from wlproxy.host.errors import GrantError
from wlproxy.host.pages import PageSource
from wlproxy.host.xen.domain import Domain
from wlproxy.host.xen.gntdev import FIRST_REF, Granted, Run, check_runs
from wlproxy.host.xen.grant_pages import REFS_PER_FRAME, GrantPages
from wlproxy.protocol.channel.frames import Feature
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.xen_console import XenConsole


class RamGrants(Granted):
    """Makes fds that have the contents which the pages had then.

    Attributes:
        made: how many.
        revoked: references that are granted no more.
        fails: errno of the driver, if it is to refuse.
    """

    at_once = 512

    def __init__(self, ram: int) -> None:
        self._ram = ram
        self.made = 0
        self.revoked: set[int] = set()
        self.fails = 0

    def open(self, runs: Sequence[Run]) -> OwnedFd:
        check_runs(runs)
        if self.fails:
            raise GrantError("the driver takes no grants", errno=self.fails)
        self.made += 1
        if any(
            ref in range(first, first + n) for ref in self.revoked for first, n in runs
        ):
            reading, writing = os.pipe2(os.O_CLOEXEC)  # which cannot be mapped
            os.close(writing)
            return OwnedFd(reading)
        fd = OwnedFd(os.memfd_create("granted", os.MFD_CLOEXEC))
        for first, count in runs:
            os.write(fd.fileno(), os.pread(self._ram, count * PAGE, first * PAGE))
        return fd

    def limit(self) -> int:
        return 65536


class Qemu:
    """Between a console and a socket: drops what comes while nobody is connected there."""

    def __init__(self, path: Path) -> None:
        self.console, self._kept = pty.openpty()
        tty.setraw(self._kept)
        os.set_blocking(self.console, False)
        self.device = os.ttyname(self._kept)
        self._path = path
        self._connected: trio.SocketStream | None = None

    async def run(self) -> None:
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(str(self._path))
        listener.listen()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._from_console)
                while True:
                    connection, _ = await listener.accept()
                    self._connected = trio.SocketStream(connection)
                    async with self._connected:
                        await self._to_console(self._connected)
                    self._connected = None
        finally:
            listener.close()
            os.close(self.console)
            os.close(self._kept)

    async def _from_console(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.console)
            data = os.read(self.console, 65536)
            try:
                if self._connected is not None:
                    await self._connected.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _to_console(self, connection: trio.SocketStream) -> None:
        try:
            async for data in connection:
                left = data
                while left:
                    try:
                        left = left[os.write(self.console, left) :]
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self.console)
        except trio.BrokenResourceError:
            pass


class XenLoopback(Loopback):
    """All of it, as on Xen."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        super().__init__(directory, nursery)
        self.ram.take(FIRST_REF * PAGE)  # whose references are Xen's own
        self.locator.features |= Feature.GRANTS
        self.grants = RamGrants(self.ram.fd)
        self.port.close()
        self.channel.unlink()
        self.qemu = Qemu(self.channel)
        self.port = XenConsole(path=self.qemu.device)  # type: ignore[assignment]

    async def start_qemu(self) -> None:
        await self._start("qemu", self.qemu.run)

    async def stop_all(self) -> None:
        self.port.close = lambda: None  # type: ignore[method-assign]
        await super().stop_all()
        await self.stop("qemu")

    def _provide_pages(self, stream: FdStream) -> PageSource:
        frames = RAM_SIZE // PAGE // REFS_PER_FRAME
        return GrantPages(Domain(5, os.getpid()), self.grants, "qemu", frames)
