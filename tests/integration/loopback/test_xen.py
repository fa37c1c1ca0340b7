"""As on Xen: pages that are granted, fds for one pool each, and a wire that never hangs up."""

import errno
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.peers.app import App
from tests.peers.dmabuf import CopyingDevice
from tests.peers.xen import XenLoopback
from wlproxy.host.report.progress import State
from wlproxy.protocol.channel.frames import Extent, Feature


@pytest.fixture
async def bare(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[XenLoopback]:
    xen = XenLoopback(tmp_path, nursery)
    await xen.start_qemu()
    yield xen
    with trio.fail_after(10):
        await xen.stop_all()
    assert xen.locator.pinned == 0


@pytest.fixture
async def xen(bare: XenLoopback) -> XenLoopback:
    """Everything runs."""
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host(device=CopyingDevice())
    return bare


async def show(xen: XenLoopback, app: App, seed: int = 1) -> None:
    surface, canvas = app.surface(), app.canvas((64, 64))
    pixels = canvas.draw(seed)
    await app.show(surface, canvas)
    assert xen.compositor.surfaces()[-1].frames[-1] == pixels


def mode(xen: XenLoopback) -> str:
    return str(xen.status()["surfaces"][-1]["mode"])


async def test_pages_are_shown_and_nothing_is_copied(xen: XenLoopback) -> None:
    app, before = await xen.app(), xen.grants.made
    for seed in (1, 2, 3):
        await show(xen, app, seed)
    assert mode(xen) == "A"
    assert xen.host.metrics.pixel_bytes_copied == 0
    assert xen.grants.made - before == 3  # one for each pool
    assert xen.host.metrics.udmabufs_alive == 0  # each is the compositor's alone
    app.close()
    await xen.quiet()


async def test_a_buffer_that_is_shown_again_costs_nothing(xen: XenLoopback) -> None:
    app, before = await xen.app(), xen.grants.made
    surface, canvas = app.surface(), app.canvas((64, 64))
    for _ in range(4):
        await app.show(surface, canvas)
    assert xen.grants.made - before == 1
    assert xen.host.metrics.pixel_bytes_copied == 0


async def test_where_gntdev_refuses_all_an_app_ends_and_no_other(
    xen: XenLoopback,
) -> None:
    """Its pixels cannot even be copied then: that takes a fd of gntdev, too."""
    app = await xen.app()
    surface, canvas = app.surface(), app.canvas((64, 64))
    xen.grants.fails = errno.ENOMEM
    surface.attach(canvas.buffer, 0, 0)
    surface.commit()
    app.display.flush()
    assert await app.disconnected() is not None
    assert xen.host.metrics.udmabufs_failed == 1
    xen.grants.fails = 0
    await show(xen, await xen.app(), 7)
    assert mode(xen) == "A"


async def test_copies_by_choice(bare: XenLoopback) -> None:
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host()
    app = await bare.app()
    await show(bare, app, 3)
    assert mode(bare) == "C"
    assert bare.host.metrics.pixel_bytes_copied > 0


async def test_who_names_pages_that_it_has_not_granted_ends_alone(
    bare: XenLoopback,
) -> None:
    """Xen maps none of them: libwayland's own wl_shm ends the connection that wanted that."""
    xen = bare
    await xen.start_compositor(native_shm=True)
    await xen.start_agent()
    await xen.start_host(device=CopyingDevice())
    honest, liar = await xen.app(), await xen.app()
    surface, canvas = liar.surface(), liar.canvas((64, 64))
    xen.grants.revoked = {canvas.offset // 4096}
    await honest.show(honest.surface(), honest.canvas((64, 64)))
    surface.attach(canvas.buffer, 0, 0)
    surface.commit()
    liar.display.flush()
    assert await liar.disconnected() is not None
    await honest.show(honest.surface(), honest.canvas((64, 64)))
    assert xen.clients() == 1


async def test_an_agent_that_names_what_no_table_has(xen: XenLoopback) -> None:
    app = await xen.app()
    located = xen.locator.locate

    def lie(fd: int, offset: int, length: int, collapse_above: int) -> object:
        found = located(fd, offset, length, collapse_above)
        size = sum(each.length for each in found.extents)
        far = Extent(1 << 45, size)
        return type(found)((far,), found.pin, found.pinned)

    xen.locator.locate = lie  # type: ignore[method-assign, assignment]
    surface, canvas = app.surface(), app.canvas((64, 64))
    surface.attach(canvas.buffer, 0, 0)
    surface.commit()
    app.display.flush()
    await app.disconnected()
    del xen.locator.locate
    await xen.until(lambda: xen.host.metrics.sessions == 2)
    await xen.until(lambda: xen.host.state is State.SERVING)
    await show(xen, await xen.app(), 5)


async def test_an_agent_without_grants_hears_what_it_lacks(
    bare: XenLoopback, caplog: pytest.LogCaptureFixture
) -> None:
    bare.locator.features = Feature.LOCATE_MEMFD
    await bare.start_compositor()
    await bare.start_agent()
    caplog.set_level("INFO")
    hint = "the agent needs the kernel module gem_grant"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(bare.start_host, device=CopyingDevice()))
        await bare.until(lambda: hint in caplog.text)
        nursery.cancel_scope.cancel()  # which waits for it to serve
    assert "the guest agent grants no pages" in caplog.text
    assert not bare.grants.made


# ---------------------------------------------------------------- no hang-up


async def test_a_proxy_that_dies_is_followed_by_the_next(xen: XenLoopback) -> None:
    """The agent is not told that the first has gone; the next one's nonce tells it."""
    app = await xen.app()
    await show(xen, app, 1)
    await xen.stop("host")
    await xen.start_host(device=CopyingDevice())
    assert await app.disconnected() is not None
    await show(xen, await xen.app(), 2)


async def test_an_agent_that_dies_is_followed_by_the_next(xen: XenLoopback) -> None:
    """The proxy is not told either; the padding of the next one tells it."""
    app = await xen.app()
    await show(xen, app, 1)
    sessions = xen.host.metrics.sessions
    await xen.stop("agent")
    await xen.start_agent()
    await xen.until(
        lambda: xen.host.metrics.sessions > sessions and xen.host.state is State.SERVING
    )
    await show(xen, await xen.app(), 2)


async def test_a_proxy_that_comes_first(bare: XenLoopback) -> None:
    await bare.start_compositor()
    await bare.start_host(device=CopyingDevice())
    await bare.start_agent()
    await bare.until(lambda: bare.host.state is State.SERVING)
    await show(bare, await bare.app(), 2)
