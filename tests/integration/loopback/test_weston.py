"""A window through agent and proxy to a weston, where there is one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from pywayland.protocol.linux_dmabuf_v1 import ZwpLinuxDmabufV1
from pywayland.protocol.presentation_time import WpPresentation

from tests.host.conftest import Weston, running_weston
from tests.peers.app import App, ProtocolError
from tests.peers.dmabuf import DEVICE, XRGB, CopyingDevice, DmabufCanvas, Feedback
from tests.peers.loopback import Loopback
from wlproxy.protocol.channel.frames import Feature
from wlproxy_guest import session


@pytest.fixture(scope="module")
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    with running_weston(tmp_path_factory) as weston:
        yield weston


async def test_weston_shows_frame_after_frame(bare: Loopback, weston: Weston) -> None:
    await bare.start_agent()
    await bare.start_host(Path(weston.socket))
    app = await bare.app()
    window = await app.window()
    canvases = [app.canvas((333, 100)), app.canvas((333, 100))]

    for frame in range(4):
        canvas = canvases[frame % 2]
        canvas.draw(frame)
        shown = app.keep(app.bind(WpPresentation).feedback(window.surface))
        presented = app.record(shown, "presented")
        await app.show(window.surface, canvas)
        await app.until(lambda: presented)  # noqa: B023 - awaited here

    await app.until(lambda: canvases[0].released)
    [surface] = bare.status()["surfaces"]
    assert (surface["mode"], surface["frames"]) == ("C", 4)
    app.close()
    await bare.quiet()


async def test_apps_that_come_before_weston_is_back_stay(
    bare: Loopback, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("w")
    directory.chmod(0o700)
    weston = Weston(directory)
    try:
        await bare.start_agent()
        await bare.start_host(weston.socket)
        app = await bare.app()
        await app.window()
        weston.process.kill()
        weston.process.wait()
        assert await app.disconnected() == ProtocolError("wl_display", 1, 3)

        back: list[App] = []

        async def come_back() -> None:
            back.append(await bare.app())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(come_back)
            await bare.until(lambda: bare.clients() == 3)
            weston = await trio.to_thread.run_sync(Weston, directory)
        for app in back:
            window = await app.window()
            await app.show(window.surface, app.canvas((64, 64)))
    finally:
        weston.stop()

    status = bare.status()
    assert status["metrics"]["sessions"] == 1
    assert [surface["frames"] for surface in status["surfaces"]] == [1, 1, 1]


@pytest.mark.parametrize("copied", [True, False])
async def test_weston_shows_dma_bufs(
    bare: Loopback, weston: Weston, monkeypatch: pytest.MonkeyPatch, *, copied: bool
) -> None:
    """Although it has no linux-dmabuf, its renderer being pixman."""
    monkeypatch.setattr(session, "find_main_device", lambda: DEVICE)
    bare.locator.features |= Feature.LOCATE_DMABUF
    await bare.start_agent()
    await bare.start_host(Path(weston.socket), None if copied else CopyingDevice())
    app = await bare.app()
    assert ZwpLinuxDmabufV1.name not in bare.status()["capabilities"]["globals"]
    feedback = Feedback(app, app.bind(ZwpLinuxDmabufV1).get_default_feedback())
    await app.until(lambda: feedback.done)
    assert (XRGB, 0) in feedback.table
    window = await app.window()
    canvases = [
        await DmabufCanvas(app, (333, 100)).create(),
        DmabufCanvas(app, (333, 100)).create_immed(),
    ]

    for frame in range(4):
        canvas = canvases[frame % 2]
        canvas.draw(frame)
        shown = app.keep(app.bind(WpPresentation).feedback(window.surface))
        presented = app.record(shown, "presented")
        await canvas.show(window.surface)
        await app.until(lambda: presented)  # noqa: B023 - awaited here

    await app.until(lambda: canvases[0].released)
    [surface] = bare.status()["surfaces"]
    assert (surface["mode"], surface["frames"]) == ("C" if copied else "A", 4)
    app.close()
    await bare.quiet()
