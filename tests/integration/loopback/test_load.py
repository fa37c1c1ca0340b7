"""Many objects, many apps, and apps that do not read or answer."""

import pytest
import trio
import trio.testing
from pywayland.protocol.wayland import WlCompositor, WlSeat

from tests.peers.app import App, Disconnected
from tests.peers.compositor import Compositor
from tests.peers.loopback import Loopback
from wlproxy.protocol.channel.lanes.bounds import CLIENT_WINDOW

BATCH = 200
REQUESTS = 60_000
"""Requests of 24 bytes; as many bytes come back."""
FLOOD = 100_000
"""Events of 20 bytes: 2 MB, several times all the windows on the way."""


async def test_ten_thousand_objects_at_once(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    manager = app.bind(WlCompositor)
    regions = []
    for _ in range(10_000 // BATCH):
        regions += [manager.create_region() for _ in range(BATCH)]
        await app.roundtrip()
    client = compositor.clients[-1]
    assert len(client.all("wl_region")) == 10_000

    for first in range(0, 10_000, BATCH):
        for region in regions[first : first + BATCH]:
            region.add(1, 2, 3, 4)
            region.destroy()
        await app.roundtrip()

    assert not client.all("wl_region")
    again = app.keep(manager.create_region())
    again.destroy()
    await app.roundtrip()
    app.close()
    await loopback.quiet()


async def test_ten_thousand_objects_one_after_the_other(app: App) -> None:
    """Their ids are used again; nothing grows."""
    manager = app.bind(WlCompositor)
    for _ in range(10_000 // BATCH):
        for _ in range(BATCH):
            manager.create_region().destroy()
        await app.roundtrip()


async def animate(loopback: Loopback, seed: int, frames: int) -> App:
    app = await loopback.app()
    window, canvas = await app.window(), app.canvas((32, 32))
    for frame in range(frames):
        canvas.draw(seed + frame)
        done = app.record(app.keep(window.surface.frame()), "done")
        await app.show(window.surface, canvas)
        await app.until(lambda: done)  # noqa: B023 - awaited here
    return app


async def test_twenty_apps_at_once(loopback: Loopback, compositor: Compositor) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(animate, loopback, 100 * number, 10)

    surfaces = compositor.surfaces()
    assert len(surfaces) == 20
    shown = {tuple(surface.frames) for surface in surfaces}
    assert len(shown) == 20  # each its own pixels
    assert all(len(frames) == 10 for frames in shown)
    for app in loopback.apps:
        app.close()
    await loopback.quiet()


async def test_app_that_stops_reading_stops_nobody_else(
    loopback: Loopback, compositor: Compositor
) -> None:
    stalled = await loopback.app()
    motions = stalled.record(stalled.keep(stalled.bind(WlSeat).get_pointer()), "motion")
    await stalled.roundtrip()
    pointer = compositor.apps[-1].find("wl_pointer")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(animate, loopback, 1, 60)
        for first in range(0, FLOOD, BATCH):
            if not pointer.alive:  # the compositor has given the app up already
                break
            for number in range(first, first + BATCH):
                if pointer.pointer is not None:  # not given up yet
                    pointer.send("motion", number, 1.0, 2.0)
            await trio.lowlevel.checkpoint()

    # The compositor has given it up, as it would without us; what came before that
    # filled windows and socket buffers, and nothing that grows.
    with pytest.raises(Disconnected):
        await stalled.roundtrip()
    assert [number for number, *_ in motions] == list(range(len(motions)))
    # Perhaps none: libwayland drops what it reads in one piece with the error.
    assert len(motions) < FLOOD // 2
    other = loopback.apps[-1]
    await other.roundtrip()
    other.close()
    await loopback.quiet()


class Flood:
    """Requests of an app, as many as are taken."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sent = 0
        self._region = app.keep(app.bind(WlCompositor).create_region())

    async def run(self) -> None:
        for number in range(REQUESTS):
            self._region.add(number, 2, 3, 4)
            self.sent = number + 1
            if self.sent % 40 == 0:
                while self.app.display.flush() < 0:
                    await trio.lowlevel.wait_writable(self.app.display.get_fd())
                await trio.lowlevel.checkpoint()


async def test_compositor_that_stops_reading_is_waited_for(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    """Requests that nobody takes stay with the app; later all of them arrive."""
    flood = Flood(app)
    await app.roundtrip()

    compositor.pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood.run)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert 0 < flood.sent < REQUESTS // 2
        [status] = loopback.status()["clients"]
        assert status["bytes_held"] <= CLIENT_WINDOW
        compositor.going.set()

    await app.roundtrip()
    added = [call.args[0] for call in compositor.called("wl_region.add")]
    assert added == list(range(REQUESTS))


@pytest.mark.slow
async def test_one_stalled_connection_stops_nobody_else(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    """Fifty others animate; what is held for it does not grow; nothing of it is lost."""
    window, canvas = await app.window(), app.canvas((32, 32))
    before = canvas.draw(1)
    await app.show(window.surface, canvas)
    flood = Flood(app)
    await app.roundtrip()
    [client] = compositor.apps

    def taken() -> tuple[int, int, int]:
        status = loopback.status()["clients"][0]
        return flood.sent, status["bytes_held"], status["bytes_to_compositor"]

    async with trio.open_nursery() as nursery:
        with client.stalled():
            nursery.start_soon(flood.run)
            await trio.testing.wait_all_tasks_blocked(0.05)
            stuck = taken()
            for first in (1000, 2000):
                async with trio.open_nursery() as others:
                    for number in range(25):
                        others.start_soon(animate, loopback, first + 40 * number, 10)
            shown = [surface.frames for surface in compositor.surfaces()]
            assert [len(frames) for frames in shown] == [1, *[10] * 50]
            assert taken() == stuck
            assert 0 < stuck[0] < REQUESTS // 2
            assert 0 < stuck[2] <= stuck[1] <= CLIENT_WINDOW

    after = canvas.draw(2)
    await app.show(window.surface, canvas)
    added = [call.args[0] for call in compositor.called("wl_region.add")]
    assert added == list(range(REQUESTS))
    assert compositor.surfaces()[0].frames == [before, after]
