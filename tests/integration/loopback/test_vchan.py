"""As on Xen by a vchan: a bridge at each end, between agent and proxy, and a vchan that is in this process."""

import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.peers.app import App
from tests.peers.loopback import Loopback
from tests.peers.vchan import FakeVchan, fake_vchan
from wlproxy.host.report.progress import State
from wlproxy.transport.vchan_bridge import Bridge
from wlproxy_guest.wire import UnixSocket


class Serving:
    """The domU's vchans: each that it makes is there for dom0.

    Attributes:
        offered: what dom0 may map, if it is that one's turn.
        made: all of them.
        changed: readable when one has been made.
    """

    def __init__(self) -> None:
        self.offered: FakeVchan | None = None
        self.made: list[FakeVchan] = []
        self.changed = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.ended = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def open(self) -> FakeVchan:
        ours, self.offered = fake_vchan()
        self.made += [ours, self.offered]
        os.eventfd_write(self.changed, 1)
        return ours

    def fileno(self) -> int:
        return self.ended

    def look(self) -> None:
        raise OSError("the test ends")

    def close(self) -> None:
        for vchan in self.made:
            vchan.release()
        for fd in (self.changed, self.ended):
            os.close(fd)


class Mapping:
    """Dom0's: each is mapped once."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.ending = False

    def open(self) -> FakeVchan | None:
        found, self._serving.offered = self._serving.offered, None
        return found

    def fileno(self) -> int:
        return self._serving.changed

    def look(self) -> None:
        if self.ending:
            raise OSError("the test ends")
        os.eventfd_read(self._serving.changed)


class VchanLoopback(Loopback):
    """All of it; the bridges are threads."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        super().__init__(directory, nursery)
        self.port.close()
        self.channel.unlink()
        socket_of_agent = directory / "vchan"
        self.port = UnixSocket(str(socket_of_agent))  # type: ignore[assignment]
        self.serving = Serving()
        self.mapping = Mapping(self.serving)
        self._threads = [
            self._bridge(socket_of_agent, self.serving),
            self._bridge(self.channel, self.mapping),
        ]

    def _bridge(self, path: Path, source: Serving | Mapping) -> threading.Thread:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()

        def run() -> None:
            try:
                Bridge(listener, {os.geteuid()}, source).run()
            except OSError:
                listener.close()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    async def stop_all(self) -> None:
        self.port.close = lambda: None  # type: ignore[method-assign]
        await super().stop_all()
        self.mapping.ending = True
        for fd in (self.serving.ended, self.serving.changed):
            os.eventfd_write(fd, 1)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self.serving.close()


@pytest.fixture
async def joined(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[VchanLoopback]:
    made = VchanLoopback(tmp_path, nursery)
    await made.start_compositor()
    await made.start_agent()
    await made.start_host()
    yield made
    with trio.fail_after(30):
        await made.stop_all()
    assert made.locator.pinned == 0


async def show(joined: VchanLoopback, app: App, seed: int) -> None:
    surface, canvas = app.surface(), app.canvas((64, 64))
    pixels = canvas.draw(seed)
    await app.show(surface, canvas)
    assert joined.compositor.surfaces()[-1].frames[-1] == pixels


async def test_an_app_is_shown(joined: VchanLoopback) -> None:
    app = await joined.app()
    for seed in (1, 2):
        await show(joined, app, seed)
    app.close()
    await joined.quiet()
    assert len(joined.serving.made) == 2  # both ends of one


async def test_an_agent_that_dies_is_followed_by_the_next(
    joined: VchanLoopback,
) -> None:
    """The proxy is hung up on, and connects again: no session is mixed with another."""
    app = await joined.app()
    await show(joined, app, 1)
    sessions = joined.host.metrics.sessions
    await joined.stop("agent")
    await joined.until(lambda: joined.host.state is not State.SERVING)
    await joined.start_agent()
    await joined.until(
        lambda: (
            joined.host.metrics.sessions > sessions
            and joined.host.state is State.SERVING
        )
    )
    await show(joined, await joined.app(), 2)


async def test_a_proxy_that_dies_is_followed_by_the_next(
    joined: VchanLoopback,
) -> None:
    """The agent is told at once."""
    app = await joined.app()
    await show(joined, app, 1)
    await joined.stop("host")
    assert await app.disconnected() is not None
    await joined.start_host()
    await show(joined, await joined.app(), 2)
