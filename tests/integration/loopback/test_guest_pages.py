"""Guests whose pages are larger than the host's: whole guest pages are located."""

import pytest

from tests.guest_agent import fakes
from tests.peers.dmabuf import CopyingDevice
from tests.peers.loopback import Loopback
from wlproxy_guest import session
from wlproxy_guest.locating import mapping


@pytest.mark.parametrize("page", [16384, 65536])
@pytest.mark.parametrize("mode", ["A", "C"])
async def test_windows_of_a_guest_with_large_pages(
    bare: Loopback, monkeypatch: pytest.MonkeyPatch, page: int, mode: str
) -> None:
    for module, name in (
        (session, "PAGE_SIZE"),
        (mapping, "PAGE_SIZE"),
        (fakes, "PAGE"),
    ):
        monkeypatch.setattr(module, name, page)
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host(device=CopyingDevice() if mode == "A" else None)
    app = await bare.app()
    window = await app.window()
    app.canvas((30, 20))  # so that the next two share a page with it
    frames = []

    for seed in range(2):
        canvas = app.canvas((90, 70))
        frames.append(canvas.draw(seed))
        await app.show(window.surface, canvas)

    [shown] = bare.compositor.surfaces()
    assert shown.frames == frames
    [surface] = bare.status()["surfaces"]
    assert surface["mode"] == mode
    app.close()
    await bare.quiet()
