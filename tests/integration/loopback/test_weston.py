"""A window through agent and proxy to a weston, where there is one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pywayland.protocol.presentation_time import WpPresentation

from tests.host.conftest import Weston
from tests.peers.loopback import Loopback


@pytest.fixture(scope="module")
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    if not shutil.which("weston"):
        pytest.skip("needs weston: apt-get install weston")
    directory = tmp_path_factory.mktemp("w")
    directory.chmod(0o700)
    weston = Weston(directory)
    yield weston
    weston.stop()


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
