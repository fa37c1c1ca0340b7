"""linux-dmabuf through agent and proxy, with libwayland on both ends."""

import os

import pytest
import trio
from pywayland.protocol.linux_dmabuf_v1 import ZwpLinuxDmabufV1

from tests.peers.app import App, ProtocolError, object_id
from tests.peers.compositor import Compositor
from tests.peers.dmabuf import (
    DEVICE,
    NV12,
    XRGB,
    CopyingDevice,
    DmabufCanvas,
    Feedback,
)
from tests.peers.loopback import Loopback
from wlproxy.protocol.channel.frames import Feature
from wlproxy_guest import session

NAME = "zwp_linux_dmabuf_v1"
INVALID = (1 << 56) - 1
"""DRM_FORMAT_MOD_INVALID."""


@pytest.fixture
async def able(bare: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """An agent that can locate dma-bufs runs, and nothing else."""
    monkeypatch.setattr(session, "find_main_device", lambda: DEVICE)
    monkeypatch.setattr(session, "implicit_layout_is_linear", lambda: False)
    bare.locator.features |= Feature.LOCATE_DMABUF
    await bare.start_agent()
    return bare


@pytest.fixture
async def copying(able: Loopback) -> Loopback:
    """A host without udmabuf."""
    await able.start_compositor()
    await able.start_host()
    return able


@pytest.fixture
async def importing(able: Loopback) -> Loopback:
    """A host with a device, and a compositor that imports."""
    await able.start_compositor(dmabuf=True)
    await able.start_host(device=CopyingDevice())
    return able


def frames(compositor: Compositor) -> list[bytes]:
    [surface] = compositor.surfaces()
    return surface.frames


def mode(loopback: Loopback) -> str:
    [surface] = loopback.status()["surfaces"]
    found: str = surface["mode"]
    return found


async def gone(loopback: Loopback, *apps: App) -> None:
    for app in apps:
        app.close()
    await loopback.quiet()


# ---------------------------------------------------------------- the global


@pytest.mark.parametrize("of_surface", [True, False])
async def test_feedback_is_the_guests_own(
    importing: Loopback, *, of_surface: bool
) -> None:
    app = await importing.app()
    assert app.find(NAME)[1] == 5
    dmabuf = app.bind(ZwpLinuxDmabufV1)

    feedback = Feedback(
        app,
        dmabuf.get_surface_feedback(app.surface())
        if of_surface
        else dmabuf.get_default_feedback(),
    )
    await app.until(lambda: feedback.done)

    assert feedback.main_device == feedback.target == DEVICE
    assert set(feedback.table) == {(XRGB, 0), (NV12, 0), (0x34325241, 0)}
    assert feedback.formats == [0, 1, 2]
    assert (feedback.flags, feedback.done) == (0, 1)
    feedback.proxy.destroy()
    dmabuf.destroy()
    await app.roundtrip()
    asked = [client.all(NAME) for client in importing.compositor.clients]
    assert not any(asked)
    await gone(importing, app)


@pytest.mark.parametrize("version", [1, 3])
async def test_old_versions(importing: Loopback, version: int) -> None:
    app = await importing.app()
    name, _ = app.find(NAME)
    dmabuf = app.keep(app.registry.bind(name, ZwpLinuxDmabufV1, version))
    told = app.record(dmabuf, "format", "modifier")
    await app.roundtrip()

    rest = (0, 0) if version == 3 else ()
    assert set(told) == {(each, *rest) for each in (XRGB, NV12, 0x34325241)}
    await gone(importing, app)


@pytest.mark.parametrize("drm_format", [XRGB, NV12])
async def test_no_modifier_will_do_where_drivers_do_not_tile(
    bare: Loopback, monkeypatch: pytest.MonkeyPatch, drm_format: int
) -> None:
    monkeypatch.setattr(session, "find_main_device", lambda: DEVICE)
    monkeypatch.setattr(session, "implicit_layout_is_linear", lambda: True)
    bare.locator.features |= Feature.LOCATE_DMABUF
    await bare.start_agent()
    await bare.start_compositor(dmabuf=True)
    await bare.start_host(device=CopyingDevice())
    app = await bare.app()
    feedback = Feedback(app, app.bind(ZwpLinuxDmabufV1).get_default_feedback())
    await app.until(lambda: feedback.done)
    assert {(drm_format, 0), (drm_format, INVALID)} <= set(feedback.table)

    window = await app.window()
    canvas = DmabufCanvas(app, (256, 64), drm_format, modifier=INVALID)
    drawn = canvas.draw(1)
    await canvas.create()
    await canvas.show(window.surface)

    assert frames(bare.compositor) == [drawn]
    assert mode(bare) == "B"
    assert bare.status()["metrics"]["pixel_bytes_copied"] == 0
    await gone(bare, app)


async def test_an_agent_that_cannot_locate_hides_it(
    bare: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "find_main_device", lambda: DEVICE)
    await bare.start_compositor(dmabuf=True)
    await bare.start_agent()
    await bare.start_host(device=CopyingDevice())
    app = await bare.app()

    assert NAME not in app.interfaces
    await gone(bare, app)


async def test_it_goes_with_what_it_needs(copying: Loopback) -> None:
    app = await copying.app()
    name, _ = app.find(NAME)

    copying.compositor.remove_global(copying.compositor.shm)
    await app.until(lambda: name in app.removed)

    app.keep(app.registry.bind(name, ZwpLinuxDmabufV1, 5))  # a race
    await app.roundtrip()
    await gone(copying, app)


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("immediate", [True, False])
async def test_copied_where_there_is_no_udmabuf(
    copying: Loopback, *, immediate: bool
) -> None:
    app = await copying.app()
    window = await app.window()
    canvas = DmabufCanvas(app, (61, 33))
    if immediate:
        canvas.create_immed()
    else:
        await canvas.create()
    canvas.params.destroy()
    drawn = []
    for seed in (1, 2, 3):
        drawn.append(canvas.draw(seed))
        await canvas.show(window.surface)

    assert frames(copying.compositor) == drawn
    assert canvas.released == 3
    assert mode(copying) == "C"
    canvas.buffer.destroy()
    window.surface.attach(None, 0, 0)
    window.surface.commit()
    await app.roundtrip()
    await copying.until(lambda: not copying.pins())
    await gone(copying, app)


@pytest.mark.parametrize("immediate", [True, False])
@pytest.mark.parametrize("drm_format", [XRGB, NV12])
async def test_imported_where_the_compositor_does(
    importing: Loopback, drm_format: int, *, immediate: bool
) -> None:
    app = await importing.app()
    window = await app.window()
    drawn = []
    for seed in range(5):
        canvas = DmabufCanvas(app, (256, 64), drm_format)
        drawn.append(canvas.draw(seed))
        if immediate:
            canvas.create_immed()
        else:
            await canvas.create()
            assert canvas.answers == ["created"]
        canvas.params.destroy()
        await canvas.show(window.surface)
        assert canvas.released == 1
        canvas.buffer.destroy()
        await app.roundtrip()
        # Planes of one dma-buf share a pin, and what was shown before is let go of.
        await importing.until(lambda: importing.pins() == 1)

    assert frames(importing.compositor) == drawn
    assert mode(importing) == "B"
    assert importing.status()["metrics"]["pixel_bytes_copied"] == 0
    assert importing.compositor.called("zwp_linux_buffer_params_v1.create")
    assert not importing.compositor.called("zwp_linux_buffer_params_v1.create_immed")
    await gone(importing, app)


@pytest.mark.parametrize("immediate", [True, False])
async def test_a_refused_import(importing: Loopback, *, immediate: bool) -> None:
    app = await importing.app()
    importing.compositor.imports = False
    window = await app.window()
    canvas, video = DmabufCanvas(app, (256, 64)), DmabufCanvas(app, (256, 64), NV12)
    drawn = canvas.draw(1)
    if immediate:
        canvas.create_immed()
        video.create_immed()
    else:
        await canvas.create()
        await video.create()

    await canvas.show(window.surface)
    if immediate:
        await video.show(window.surface)

    assert frames(importing.compositor) == [drawn]
    assert mode(importing) == "A"
    assert not canvas.dead
    assert video.dead  # nothing else can show it
    assert video.released == immediate
    await gone(importing, app)


async def test_an_app_that_leaves_in_the_middle(importing: Loopback) -> None:
    app = await importing.app()
    canvas = DmabufCanvas(app, (256, 64))
    importing.locator.going.clear()
    asked = importing.locator.asked
    canvas.params.create(256, 64, XRGB, 0)
    app.display.flush()
    await importing.until(lambda: importing.locator.asked > asked)

    app.close()
    importing.locator.going.set()
    await importing.quiet()


# ---------------------------------------------------------------- errors


async def test_what_is_wrong_ends_the_app_with_the_protocols_error(
    copying: Loopback,
) -> None:
    for stride, height, fmt, code in [
        (256, 64, 0x31323334, 4),
        (256, 0, XRGB, 5),
        (1 << 28, 64, XRGB, 6),
        (256, 64, NV12, 4),  # not offered without a compositor that imports it
    ]:
        app = await copying.app()
        canvas = DmabufCanvas(app, (64, 64), stride=256)
        params = app.keep(app.bind(ZwpLinuxDmabufV1).create_params())
        params.add(app.ram.fd, 0, 0, stride, 0, 0)
        params.create(64, height, fmt, 0)

        name = "zwp_linux_buffer_params_v1"
        error = ProtocolError(name, object_id(params), code)
        assert await app.disconnected() == error
        assert canvas.buffer is None
        app.close()
    await copying.quiet()


async def test_what_is_no_dma_buf_fails_and_no_more(copying: Loopback) -> None:
    app = await copying.app()
    params = app.keep(app.bind(ZwpLinuxDmabufV1).create_params())
    answers = app.record(params, "failed")
    nothing = os.open(os.devnull, os.O_RDONLY)
    params.add(nothing, 0, 0, 256, 0, 0)
    os.close(nothing)
    params.create(64, 64, XRGB, 0)

    await app.until(lambda: answers)

    await gone(copying, app)


@pytest.mark.slow
async def test_an_app_that_asks_for_ever_and_does_not_read(copying: Loopback) -> None:
    app, other = await copying.app(), await copying.app()
    dmabuf = app.bind(ZwpLinuxDmabufV1)
    for _ in range(10_000):
        dmabuf.get_default_feedback().destroy()
        app.display.flush()
        await trio.lowlevel.checkpoint()
        if copying.clients() == 1:
            break

    await copying.until(lambda: copying.clients() == 1)
    await other.roundtrip()
    await gone(copying, app, other)
