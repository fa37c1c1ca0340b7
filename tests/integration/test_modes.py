"""The other two modes, and when each is chosen: a real guest, every pixel."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest

from tests.integration import harness
from tests.integration.harness import (
    WESTON_GL,
    WESTON_PIXMAN,
    Compositor,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
)

pytestmark = [pytest.mark.guest(group="pixels"), pytest.mark.timeout(240)]

ORIGINS = ((0, 0), (1400, 700), (3840 - 1024, 2160 - 768))
"""Where the parts of a 4K picture are that are looked at, each as large as the output."""

EVERYWHERE = tuple(
    (x, y) for y in (0, 768, 2160 - 768) for x in (0, 1024, 2048, 3840 - 1024)
)
"""Where the parts are which together are all of it."""


def use(slot: ProxySlot, compositor: Compositor, *options: str) -> Proxy:
    proxy = slot.use(compositor, *options)
    proxy.wait_no_clients()
    return proxy


def two_buffers(client: PatternClient, width: int, height: int) -> None:
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * width * height * 4, scatter=3)
    for index in (0, 1):
        client.call(
            "buffer",
            buffer=f"b{index}",
            pool="pool",
            width=width,
            height=height,
            offset=index * width * height * 4,
        )


def test_two_buffers_in_turn_become_dmabufs(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    proxy = use(proxy_slot, WESTON_GL)
    two_buffers(client, 512, 384)
    for frame in range(1, 7):
        client.show("window", f"b{frame % 2}", frame)
        proxy.compositor.wait_shows(512, 384, frame)

    surface = proxy.surface()
    assert surface["mode"] == "B", surface["reason"]
    assert surface["frames"] == 6
    assert surface["bytes_copied"] == 0
    assert proxy.copied() == 0


def test_a_dmabuf_is_released_when_the_next_one_is_shown(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    """The client's own buffer gets the event, so it never draws into a shown one."""
    proxy = use(proxy_slot, WESTON_GL, "--present", "b")
    two_buffers(client, 256, 256)
    client.show("window", "b0", 1)
    client.show("window", "b1", 2)
    assert client.call("wait_release", buffer="b0") == 1
    client.show("window", "b0", 3)
    proxy.compositor.wait_shows(256, 256, 3)
    assert client.call("wait_release", buffer="b1") == 1

    assert proxy.surface()["mode"] == "B"
    assert proxy.copied() == 0


@pytest.mark.parametrize("compositor", [WESTON_PIXMAN, WESTON_GL], ids=["pixman", "gl"])
def test_an_app_that_aborts_for_want_of_a_release_goes_on(
    proxy_slot: ProxySlot, guest_side: GuestSide, compositor: Compositor
) -> None:
    """weston-simple-damage draws at each frame, and has two buffers.

    On sway it aborts with or without a proxy: its window is resized at once, for which
    sway keeps both.
    """
    proxy = use(proxy_slot, compositor)
    log = "/run/app-damage.log"
    pid = guest_side.app("weston-simple-damage", log=log)
    try:
        guest_side.wait_app(pid, log, lambda: proxy.surfaces(20))
        assert proxy.surface()["mode"] in ("A", "B"), proxy.surface()["reason"]
        assert proxy.copied() == 0
        assert b"busy" not in guest_side.guest.get(log)
    finally:
        guest_side.kill_app(pid)


def test_a_plane_at_an_unaligned_offset_stays_in_mode_a(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    """Even where mode B is asked for, and says why; its twin at the start is a dmabuf."""
    proxy = use(proxy_slot, WESTON_GL, "--present", "b")
    two_buffers(client, 333, 200)
    for frame, (mode, reason) in enumerate(
        [("B", "zero-copy"), ("A", "offset 160 in its page is unaligned")]
    ):
        client.show("window", f"b{frame}", frame)
        proxy.compositor.wait_shows(333, 200, frame)
        surface = proxy.surface()
        assert surface["mode"] == mode
        assert reason in surface["reason"]
    assert proxy.copied() == 0


@pytest.mark.parametrize("display", ["weston-pixman", "weston-gl"])
def test_copies_follow_the_damage(
    proxy_slot: ProxySlot, client: PatternClient, display: str
) -> None:
    """And only that: what is drawn elsewhere is neither copied nor shown."""
    compositor = {"weston-pixman": WESTON_PIXMAN, "weston-gl": WESTON_GL}[display]
    proxy = use(proxy_slot, compositor, "--present", "c")
    began = proxy.copied()
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=333 * 300 * 4 + 100, scatter=9)
    client.call("buffer", buffer="one", pool="pool", width=333, height=300, offset=100)
    client.show("window", "one", 1)
    proxy.compositor.wait_shows(333, 300, 1)
    assert proxy.copied() - began == 333 * 300 * 4

    client.call("draw", buffer="one", frame=2)  # everywhere ...
    rectangle = (41, 33, 120, 90)
    client.call("show", surface="window", buffer="one", damage=rectangle)
    x, y = proxy.compositor.wait_shows(120, 90, 2, origin=(41, 33))
    assert proxy.copied() - began == 333 * 300 * 4 + 120 * 90 * 4
    # ... and still the first frame all around: above, and below.
    assert proxy.compositor.wait_shows(333, 33, 1) == (x - 41, y - 33)
    below = 33 + 90
    proxy.compositor.wait_shows(333, 300 - below, 1, origin=(0, below))

    surface = proxy.surface()
    assert surface["mode"] == "C"
    assert surface["reason"] == "asked for"
    assert surface["bytes_copied"] == proxy.copied() - began


def test_copies_of_two_buffers_do_not_mix(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    """Damage is said against what was shown, the copy follows a buffer: the one shown
    before last lacks two frames' damage."""
    proxy = use(proxy_slot, WESTON_PIXMAN, "--present", "c")
    two_buffers(client, 256, 200)
    for frame in (1, 2):
        client.show("window", f"b{frame % 2}", frame)
    # Rows 0-49 in one frame, rows 50-99 in the next; as toolkits do, each buffer is
    # brought up to date and only the news is damage.
    for name in ("b1", "b0"):
        client.call("draw", buffer=name, frame=2)
        client.call("show", surface="window", buffer=name)
    client.call("draw", buffer="b1", frame=3, rectangle=(0, 0, 256, 50))
    client.call("show", surface="window", buffer="b1", damage=(0, 0, 256, 50))
    client.call("draw", buffer="b0", frame=3, rectangle=(0, 0, 256, 100))
    client.call("show", surface="window", buffer="b0", damage=(0, 50, 256, 50))

    proxy.compositor.wait_shows(256, 100, 3)
    proxy.compositor.wait_shows(256, 100, 2, origin=(0, 100))


def test_the_status_command_says_what_is_shown(
    proxy_slot: ProxySlot, new_client: Callable[[], PatternClient]
) -> None:
    proxy_slot.stop()  # it may have copied something for an earlier test
    proxy = use(proxy_slot, WESTON_PIXMAN)
    client = new_client()
    client.call("toplevel", surface="window", title="a title")
    client.call("pool", pool="pool", size=96 * 64 * 4)
    client.call("buffer", buffer="one", pool="pool", width=96, height=64)
    client.show("window", "one", 1)

    command = [sys.executable, "-m", "wlproxy", "status"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "vm: serving" in text
    assert "96x64" in text
    assert "no pixel copied so far" in text
    as_json = subprocess.run([*command, "--json"], capture_output=True, check=True)
    (surface,) = json.loads(as_json.stdout)["surfaces"]
    assert surface == proxy.surface()
    assert surface["title"].endswith("a title")
    assert surface["mode"] == "A"


def show_4k(
    proxy: Proxy,
    client: PatternClient,
    *,
    pin: bool,
    scatter: int,
    frames: Iterable[int] = (1, 2),
    origins: Iterable[tuple[int, int]] = ORIGINS,
) -> None:
    """Show 4K frames from one buffer, and look at parts of them."""
    size = 3840 * 2160 * 4
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=size, scatter=scatter, pin=pin)
    client.call("buffer", buffer="one", pool="pool", width=3840, height=2160)
    for frame in frames:
        client.call("draw", buffer="one", frame=frame)
        for origin in origins:
            client.call("viewport", surface="window", source=(*origin, 1024, 768))
            client.call("show", surface="window", buffer="one")
            proxy.compositor.wait_shows(1024, 768, frame, origin)


@pytest.mark.parametrize(
    ("compositor", "mode"),
    [
        pytest.param(WESTON_PIXMAN, "A", id="weston-pixman"),
        pytest.param(WESTON_GL, "B", id="weston-gl"),
    ],
)
def test_every_pixel_of_a_4k_buffer_is_shown(
    proxy_slot: ProxySlot, client: PatternClient, compositor: Compositor, mode: str
) -> None:
    """All 8,294,400 of them, a screenful at a time."""
    proxy = use(proxy_slot, compositor, "--present", mode.lower())
    show_4k(proxy, client, pin=False, scatter=0, frames=(5,), origins=EVERYWHERE)

    surface = proxy.surface()
    assert surface["mode"] == mode, surface["reason"]
    assert (surface["width"], surface["height"]) == (3840, 2160)
    assert surface["frames"] == len(EVERYWHERE)
    assert proxy.copied() == 0


def test_scattered_pages_of_a_4k_buffer_are_brought_together(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    """8100 pages, each somewhere else, and at most 1024 items: the agent collapses."""
    proxy = use(proxy_slot, WESTON_PIXMAN)
    show_4k(proxy, client, pin=False, scatter=1)

    assert proxy.surface()["mode"] == "A", proxy.surface()["reason"]
    assert proxy.copied() == 0


def test_scattered_pages_that_cannot_be_moved_are_copied_and_said_so(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    proxy = use(proxy_slot, WESTON_PIXMAN)
    show_4k(proxy, client, pin=True, scatter=2)

    surface = proxy.surface()
    assert surface["mode"] == "C"
    assert "list_limit is 1024: raise it" in surface["reason"]
    assert surface["bytes_copied"] > 0
    assert "copied, mode C" in proxy.log()


def test_with_a_higher_limit_every_page_may_be_elsewhere(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    with harness.udmabuf_limit("list_limit", 16384):
        proxy_slot.stop()  # the limits are read at start
        proxy = use(proxy_slot, WESTON_PIXMAN)
        show_4k(proxy, client, pin=True, scatter=3)
        surface, copied = proxy.surface(), proxy.copied()
    proxy_slot.stop()

    assert surface["mode"] == "A", surface["reason"]
    assert copied == 0
