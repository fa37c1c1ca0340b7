"""Mode C beside other apps: an app that needs much copying slows down only itself."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from tests.peers.app import App, Canvas
from tests.peers.compositor import Compositor
from tests.peers.loopback import Loopback
from wlproxy.host.client.pixels import AT_ONCE, SLICE, Copy

SIZE = (2048, 4096)
BYTES = SIZE[0] * SIZE[1] * 4
FRAMES = 20


class Hog:
    """An app that draws little and declares much: 16 rectangles that are nearly all."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.surface = app.surface()
        self.commits = 0

    async def show(self, compositor: Compositor) -> None:
        await self.app.show(self.surface, self.app.canvas(SIZE))
        compositor.surfaces()[-1].frames.clear()  # which are large

    def commit(self, times: int) -> None:
        """Have it all copied so many times, with 392 bytes each."""
        for _ in range(times):
            for column in range(16):
                self.surface.damage_buffer(column, 0, SIZE[0] - 16, SIZE[1])
            self.surface.commit()
        self.app.display.flush()

    async def run(self) -> None:
        """Have something to be copied at any time."""
        while True:
            self.commit(10)
            await self.app.roundtrip()
            self.commits += 10


@pytest.fixture
async def hog(loopback: Loopback, compositor: Compositor) -> Hog:
    made = Hog(await loopback.app())
    await made.show(compositor)
    return made


@contextmanager
def counted(loopback: Loopback) -> Iterator[list[int]]:
    """Count what is copied in each turn of the event loop."""
    turns: list[int] = []

    class Turns(trio.abc.Instrument):
        last = copied(loopback)

        def before_io_wait(self, _timeout: float) -> None:
            now = copied(loopback)
            turns.append(now - self.last)
            self.last = now

    instrument = Turns()
    trio.lowlevel.add_instrument(instrument)
    try:
        yield turns
    finally:
        trio.lowlevel.remove_instrument(instrument)


def copied(loopback: Loopback) -> int:
    return loopback.host.metrics.pixel_bytes_copied


@asynccontextmanager
async def copying(loopback: Loopback, hog: Hog) -> AsyncIterator[None]:
    """While this lasts the hog has always something to be copied."""
    before = copied(loopback)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hog.run)
        await loopback.until(lambda: copied(loopback) > before)
        yield
        nursery.cancel_scope.cancel()


async def animate(app: App, canvas: Canvas, surface: object) -> list[bytes]:
    frames = []
    for number in range(FRAMES):
        frames.append(canvas.draw(number))
        await app.show(surface, canvas)
    return frames


async def test_no_turn_of_the_loop_copies_more_than_a_slice(
    loopback: Loopback, hog: Hog, compositor: Compositor
) -> None:
    app = await loopback.app()
    window, canvas = await app.window(), app.canvas((64, 64))

    with counted(loopback) as turns:
        async with copying(loopback, hog):
            with trio.fail_after(10):
                frames = await animate(app, canvas, window.surface)
                [large, small] = loopback.status()["surfaces"]
                total = copied(loopback)

    assert max(turns) <= SLICE + AT_ONCE
    assert sum(turns) > BYTES // 8
    assert compositor.surfaces()[-1].frames == frames
    assert small["bytes_copied"] == FRAMES * 64 * 64 * 4
    assert total == large["bytes_copied"] + small["bytes_copied"]


async def test_commits_that_wait_are_copied_together(
    loopback: Loopback, hog: Hog
) -> None:
    before = copied(loopback)

    hog.commit(100)
    await hog.app.roundtrip()

    # Those that come when a copy has begun wait for the next one.
    assert BYTES // 2 < copied(loopback) - before <= 10 * BYTES


class Gate:
    """Where a slice waits in its thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        copy_slice = Copy.copy_slice

        def wait(copy: Copy) -> int:
            self.reached.set()
            assert self.open.wait(20)
            return copy_slice(copy)

        monkeypatch.setattr(Copy, "copy_slice", wait)


async def test_nothing_is_copied_for_an_app_that_has_gone(
    loopback: Loopback, hog: Hog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copied(loopback)
    gate = Gate(monkeypatch)
    hog.commit(10)
    await loopback.until(gate.reached.is_set)

    hog.app.close()
    await loopback.until(lambda: loopback.status()["clients"][0]["closing"])
    assert loopback.pins()  # it is being read
    gate.open.set()
    await loopback.quiet()

    assert copied(loopback) - before <= SLICE


async def test_the_proxy_stops_at_once(
    loopback: Loopback, hog: Hog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copied(loopback)
    gate = Gate(monkeypatch)
    hog.commit(10)
    await loopback.until(gate.reached.is_set)

    loopback.host.stop()
    gate.open.set()
    with trio.fail_after(10):
        await loopback._scopes["host"][1].wait()

    assert copied(loopback) - before <= SLICE
