"""Many objects, many apps, and apps that do not do their part."""

import pytest
import trio
from pywayland.protocol.wayland import WlCompositor, WlSeat

from tests.peers.app import App, Disconnected
from tests.peers.compositor import Compositor
from tests.peers.loopback import Loopback

BATCH = 200
FLOOD = 150_000
"""Events of 20 bytes: 3 MB, several times all the windows on the way."""


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
            for number in range(first, first + BATCH):
                pointer.send("motion", number, 1.0, 2.0)
            await trio.lowlevel.checkpoint()

    # The compositor has given it up, as it would without us; what came before that
    # filled windows and socket buffers, and nothing that grows.
    with pytest.raises(Disconnected):
        await stalled.roundtrip()
    assert [number for number, *_ in motions] == list(range(len(motions)))
    assert 0 < len(motions) < FLOOD // 2
    other = loopback.apps[-1]
    await other.roundtrip()
    other.close()
    await loopback.quiet()


async def test_app_whose_compositor_connection_stalls_stops_nobody_else(
    loopback: Loopback, compositor: Compositor
) -> None:
    """The other way round: requests that nobody takes are not gathered without end."""
    greedy = await loopback.app()
    [region] = [greedy.keep(greedy.bind(WlCompositor).create_region())]
    await greedy.roundtrip()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(animate, loopback, 1, 30)
        for _ in range(300):
            for _ in range(40):
                region.add(1, 2, 3, 4)
            if greedy.display.flush() < 0:
                await trio.lowlevel.wait_writable(greedy.display.get_fd())
            await trio.lowlevel.checkpoint()

    await greedy.roundtrip()
    assert len(compositor.called("wl_region.add")) == 300 * 40
