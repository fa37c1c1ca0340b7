"""An app in a domU, the agent there, the proxy in dom0: every pixel of a compositor's picture."""

import pytest

from lab import xen_guest
from tests.integration.harness import eventually
from tests.xen import gntdev
from tests.xen.chain.stage import LARGE, PATIENCE, Shown, add_buffer
from tests.xen.domain import PAGE

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # a domU may have to be booted, and all is emulated
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

SIZES = {"1080p": (1920, 1080), "4K": LARGE}
ON = (
    "pv-weston",
    pytest.param("pvh-weston", marks=pytest.mark.xen(short=True)),
    "pv-sway",
    "pvh-sway",
)


@pytest.mark.parametrize("memory", ["memfd", "dma-heap"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("shown", ON, indirect=True)
def test_every_pixel_is_shown_and_none_copied(
    shown: Shown, size: tuple[int, int], memory: str
) -> None:
    client = shown.show(size, 1, memory)
    shown.show_again(client, size, 2)  # in the same pages

    surface = shown.window()
    assert (surface["mode"], surface["bytes_copied"]) == ("A", 0), surface
    assert (surface["width"], surface["height"], surface["frames"]) == (*size, 2)
    assert shown.proxy.copied() == 0
    pages = -(-size[0] * size[1] * 4 // PAGE)
    assert shown.domain.counts()[1] >= pages
    # The compositor alone has them, each once.
    mapped = gntdev.mapped_bytes(shown.compositor.pid())
    assert pages * PAGE <= mapped <= (pages + 1) * PAGE
    assert not gntdev.mapped_bytes(shown.proxy.pid)
    client.kill()


@pytest.mark.parametrize("shown", ["pvh-weston"], indirect=True)
def test_buffers_take_turns_in_a_table_that_has_no_room_for_all(shown: Shown) -> None:
    """The usual one has 32768 references, of which gem_grant leaves an eighth to others.

    That is three buffers of 3840x2160: those that no surface has make room for the next.
    """
    client = shown.show(LARGE)
    for frame, name in enumerate(("two", "three", "four"), 2):
        add_buffer(client, name, LARGE)
        client.show("window", name, frame)
        assert shown.domain.counts()[1] <= 28672
    shown.compositor.wait_shows(*LARGE, 4, timeout=PATIENCE)
    surface = shown.window()
    assert (surface["mode"], surface["bytes_copied"]) == ("A", 0), surface
    client.kill()


@pytest.mark.parametrize("shown", ["pvh-weston"], indirect=True)
def test_one_more_than_the_table_holds_is_not_shown_before_there_is_room(
    shown: Shown,
) -> None:
    """Surfaces have all of them, so that none can be let go of."""
    first, _, third = (shown.show(LARGE, frame) for frame in (1, 2, 3))
    fourth = shown.side.client()
    fourth.call("toplevel", surface="window", fullscreen=shown.alone)
    add_buffer(fourth, "one", LARGE)
    fourth.call("draw", buffer="one", frame=4)
    fourth.call("show", surface="window", buffer="one", wait=False)

    eventually(
        lambda: "a buffer of 3840x2160 is not shown" in shown.proxy.log(),
        "the proxy says so",
        PATIENCE,
    )
    assert "max_grant_frames" in shown.side.agent_log()
    assert len(shown.proxy.status()["clients"]) == 4
    shown.show_again(third, LARGE, 5)

    first.kill()
    eventually(
        lambda: len(shown.proxy.status()["clients"]) == 3, "it has gone", PATIENCE
    )
    shown.show_again(fourth, LARGE, 6)
    assert shown.proxy.copied() == 0
