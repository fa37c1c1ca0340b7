"""Apps with very many or very large buffers live on, and are shown as far as limits allow."""

import os

import pytest
from pywayland.protocol.wayland import WlShm

from tests.peers.app import PAGE, App, Canvas, ProtocolError, object_id
from tests.peers.compositor import Compositor
from tests.peers.loopback import Loopback
from wlproxy.relay import policy_tree
from wlproxy.relay.policy_tree import Policy
from wlproxy_guest.quotas import Limits

SIDE = 32
"""Pixels: a buffer of a page."""


async def start(bare: Loopback, limits: Limits | None = None) -> App:
    await bare.start_compositor()
    await bare.start_agent(limits)
    await bare.start_host()
    return await bare.app()


def canvases(app: App, number: int) -> list[Canvas]:
    """Buffers of a page each, in one pool."""
    offset = app.ram.take(number * PAGE)
    pool = app.pool(offset + number * PAGE)
    stride = SIDE * 4
    return [
        Canvas(app, pool, offset + index * PAGE, (SIDE, SIDE), stride)
        for index in range(number)
    ]


# ---------------------------------------------------------------- not shown at all


async def test_pixmaps_that_are_never_shown(bare: Loopback) -> None:
    """As Xwayland makes them: each has a file of its own, and its pool is destroyed."""
    app = await start(bare, Limits(memories=20))
    window = await app.window()
    shm = app.bind(WlShm)
    buffers = []
    for number in range(100):
        fd = os.memfd_create("pixmap", os.MFD_CLOEXEC)
        os.pwrite(fd, bytes([number]) * PAGE, 0)
        pool = shm.create_pool(fd, PAGE)
        buffers.append(app.keep(pool.create_buffer(0, SIDE, SIDE, SIDE * 4, 1)))
        pool.destroy()
        os.close(fd)
        if not number % 10:
            await app.roundtrip()
    released = app.record(buffers[0], "release")

    # That of the first is closed by now; nobody could have known that it is needed.
    window.surface.attach(buffers[0], 0, 0)
    window.surface.commit()
    await app.until(lambda: released)
    window.surface.attach(buffers[-1], 0, 0)
    window.surface.commit()
    await app.roundtrip()

    [surface] = bare.compositor.surfaces()
    assert len(surface.frames) == 1


# ---------------------------------------------------------------- not released


@pytest.mark.parametrize("destroyed", [True, False])
async def test_a_compositor_that_releases_nothing(
    bare: Loopback, monkeypatch: pytest.MonkeyPatch, *, destroyed: bool
) -> None:
    monkeypatch.setattr(
        Loopback, "policy", Policy(limits=policy_tree.Limits(app_locations=8))
    )
    app = await start(bare)
    bare.compositor.releases_at_once = False
    window = await app.window()
    drawn = []
    last: Canvas | None = None

    for number, canvas in enumerate(canvases(app, 60)):
        drawn.append(canvas.draw(number))
        await app.show(window.surface, canvas)
        if destroyed and last is not None:
            last.buffer.destroy()
        last = canvas
        assert bare.pins() <= 8

    [surface] = bare.compositor.surfaces()
    assert surface.frames == drawn
    [client] = [each for each in bare.compositor.apps if each.all("wl_surface")]
    assert len(client.all("wl_buffer")) <= 8


# ---------------------------------------------------------------- too large


@pytest.mark.parametrize("limit", ["the guest's", "copies"])
async def test_more_windows_than_there_is_memory_for(
    bare: Loopback, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "copies":
        monkeypatch.setattr(
            Loopback,
            "policy",
            Policy(limits=policy_tree.Limits(app_copy_bytes=3 * PAGE)),
        )
    app = await start(bare, Limits(pinned=3 * PAGE) if limit != "copies" else None)
    bare.compositor.releases_at_once = False
    windows = [await app.window() for _ in range(5)]
    own = canvases(app, 5)

    for window, canvas in zip(windows, own, strict=True):
        canvas.draw(1)
        await app.show(window.surface, canvas)

    shown = [len(surface.frames) for surface in bare.compositor.surfaces()]
    assert shown == [1, 1, 1, 0, 0]
    assert [canvas.released for canvas in own] == [0, 0, 0, 1, 1]
    modes = [each["mode"] for each in bare.status()["surfaces"]]
    assert modes == ["C", "C", "C", "none", "none"]

    # A window that goes makes room.
    windows[0].role.destroy()
    windows[0].xdg_surface.destroy()
    windows[0].surface.destroy()
    own[0].buffer.destroy()
    await app.roundtrip()
    pixels = own[4].draw(7)
    await app.show(windows[4].surface, own[4])
    assert bare.compositor.surfaces()[-1].frames == [pixels]


# ---------------------------------------------------------------- short files


def short(app: App, size: int, *, long: int) -> tuple[int, Canvas]:
    """A buffer of a page in a pool of `long` bytes, whose file is shorter."""
    fd = os.memfd_create("short", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    pool = app.keep(app.bind(WlShm).create_pool(fd, long))
    return fd, Canvas(app, pool, long - PAGE, (SIDE, SIDE), SIDE * 4)


async def test_a_file_grows_between_attach_and_commit(
    app: App, compositor: Compositor
) -> None:
    window = await app.window()
    fd, canvas = short(app, 0, long=PAGE)
    window.surface.attach(canvas.buffer, 0, 0)
    await app.roundtrip()

    os.ftruncate(fd, PAGE)
    window.surface.commit()
    await app.roundtrip()

    [surface] = compositor.surfaces()
    assert len(surface.frames) == 1
    os.close(fd)


async def test_a_short_file_is_replaced_before_the_commit(
    app: App, compositor: Compositor
) -> None:
    window = await app.window()
    fd, canvas = short(app, 0, long=PAGE)
    window.surface.attach(canvas.buffer, 0, 0)
    await app.roundtrip()
    good = app.canvas((SIDE, SIDE))
    pixels = good.draw(1)

    await app.show(window.surface, good)

    [surface] = compositor.surfaces()
    assert surface.frames == [pixels]
    os.close(fd)


async def test_a_file_that_ends_within_the_last_page_of_its_buffer(
    app: App, compositor: Compositor
) -> None:
    """Whoever maps it can read that page."""
    window = await app.window()
    fd, canvas = short(app, PAGE + 1, long=2 * PAGE)

    await app.show(window.surface, canvas)

    [surface] = compositor.surfaces()
    assert len(surface.frames) == 1
    os.close(fd)


async def test_a_short_file_that_is_committed(app: App) -> None:
    window = await app.window()
    fd, canvas = short(app, PAGE, long=2 * PAGE)
    expected = ProtocolError("wl_buffer", object_id(canvas.buffer), 2)

    window.surface.attach(canvas.buffer, 0, 0)
    window.surface.commit()

    assert await app.disconnected() == expected
    os.close(fd)
