"""A camera in the guest: a real app with dma-bufs of a driver that draws nothing.

The kernel's vivid fills them; weston-simple-dmabuf-v4l passes them on, and never looks
at what is in them.
"""

from collections.abc import Iterator
from itertools import groupby

import pytest

from tests.clients.capture import Picture
from tests.integration import harness
from tests.integration.harness import (
    WESTON_GL,
    WESTON_PIXMAN,
    GuestSide,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]

MODES = {"A": WESTON_PIXMAN, "B": WESTON_GL}
DEVICE = "/dev/video0"
# One webcam and nothing else: "Video Capture" without inputs of television.
OPTIONS = ("n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0x00")
# vivid's first test pattern, as (blue, green, red): which of them are lit.
BARS = ["bgr", "gr", "bg", "g", "br", "r", "b", ""]
LIT, DARK = range(160, 256), range(96)


@pytest.fixture(scope="module", autouse=True)
def agent(guest_side: GuestSide) -> None:
    """The agent, without rights."""
    guest_side.stop_agent()
    guest_side.start_agent(privileged=False)


@pytest.fixture(scope="module", autouse=True)
def camera(guest_side: GuestSide) -> Iterator[None]:
    guest = guest_side.guest
    done = guest.run(["modprobe", "vivid", *OPTIONS], timeout=60)
    assert done.ok, done.stderr.decode()
    eventually(lambda: guest.run(["test", "-c", DEVICE]).ok, DEVICE)
    yield
    assert guest.run(["modprobe", "-r", "vivid"], timeout=60).ok


def lit(pixel: bytes) -> str:
    """Say which channels of a pixel are lit, for those that are it or are dark."""
    return "".join(
        name if value in LIT else "" if value in DARK else "?"
        for name, value in zip("bgr", pixel[:3], strict=True)
    )


def bars(picture: Picture, width: int, height: int) -> list[str]:
    """Return the bars on screen, in a line below vivid's own writing."""
    line = (picture.height - height) // 2 + height * 3 // 4
    (row,) = picture.rows(0, line, picture.width, 1)
    pixels = [lit(row[at : at + 4]) for at in range(0, len(row), 4)]
    runs = [(name, len(list(same))) for name, same in groupby(pixels)]
    return [name for name, length in runs if length >= width // len(BARS) - 4]


@pytest.mark.parametrize(
    ("mode", "taken"), [("A", "XR24"), ("B", "XR24"), ("B", "YUYV")]
)
def test_an_app_shows_a_camera(
    proxy_slot: ProxySlot, guest_side: GuestSide, mode: str, taken: str
) -> None:
    """Its window shows what the camera sees, and goes on doing so; no byte is copied."""
    proxy = proxy_slot.use(MODES[mode])
    proxy.wait_no_clients()
    log = f"/run/app-camera-{mode}-{taken}.log"
    pid = guest_side.app(
        *("weston-simple-dmabuf-v4l", "-v", DEVICE, "-f", taken, "-d", taken), log=log
    )
    try:
        guest_side.wait_app(pid, log, lambda: proxy.surfaces(6), 60)
        surface = proxy.surface()
        picture = proxy.compositor.capture()
        picture.save(harness.OUT / f"camera-{mode}-{taken}.ppm")

        assert surface["mode"] == mode, surface["reason"]
        found = bars(picture, surface["width"], surface["height"])
        # The last one is black, as is what is beside the window.
        assert [each for each in found if each] == BARS[:-1]
        assert proxy.copied() == surface["bytes_copied"] == 0
    finally:
        guest_side.kill_app(pid)
    eventually(lambda: not proxy.surfaces(), "it is gone")
