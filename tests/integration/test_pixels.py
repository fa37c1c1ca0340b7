"""Every pixel, from a real guest: what a client draws there is what the host shows.

Also that nothing was copied on the way: counted by the code that would copy.
"""

from typing import Any

import pytest

from tests.integration.harness import PatternClient, Proxy, eventually

pytestmark = [pytest.mark.guest(group="pixels"), pytest.mark.timeout(180)]


@pytest.mark.parametrize(
    ("width", "height", "stride"),
    [
        (333, 251, 0),
        (1366, 300, 0),
        (640, 480, 2600),
        (257, 100, 257 * 4 + 4),
        (1024, 768, 0),
    ],
)
def test_a_window_shows_what_was_drawn(
    proxy: Proxy, client: PatternClient, width: int, height: int, stride: int
) -> None:
    stride = stride or width * 4
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=stride * height, scatter=width)
    client.call(
        "buffer", buffer="one", pool="pool", width=width, height=height, stride=stride
    )
    visible = min(width, 1024)
    if visible < width:
        client.call("viewport", surface="window", source=(0, 0, visible, height))
    for frame in (1, 2):
        client.show("window", "one", frame)
        proxy.compositor.wait_shows(visible, height, frame)

    surface = proxy.surface()
    assert surface["mode"] == "A"
    assert (surface["width"], surface["height"]) == (width, height)
    assert surface["frames"] == 2
    assert surface["bytes_copied"] == 0
    assert proxy.copied() == 0


@pytest.mark.parametrize("kind", ["memfd", "tmpfs", "readonly"])
def test_a_pool_may_be_any_file(proxy: Proxy, client: PatternClient, kind: str) -> None:
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=300 * 200 * 4, kind=kind)
    client.call("buffer", buffer="one", pool="pool", width=300, height=200)
    client.show("window", "one", 7)
    proxy.compositor.wait_shows(300, 200, 7)

    assert proxy.surface()["mode"] == "A"
    assert proxy.copied() == 0


def test_buffers_share_a_pool_at_unaligned_offsets(
    proxy: Proxy, client: PatternClient
) -> None:
    """Three buffers with a page between each two shared by both."""
    width, height = 301, 97
    length = width * height * 4
    offsets = [52, 52 + length, 52 + 2 * length]
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=52 + 3 * length, scatter=5)
    for index, offset in enumerate(offsets):
        client.call(
            "buffer",
            buffer=f"b{index}",
            pool="pool",
            width=width,
            height=height,
            offset=offset,
        )
        client.call("draw", buffer=f"b{index}", frame=20 + index)
    for index in (0, 1, 2, 1, 0):
        client.call("show", surface="window", buffer=f"b{index}")
        proxy.compositor.wait_shows(width, height, 20 + index)

    assert proxy.surface()["mode"] == "A"
    assert proxy.copied() == 0


def test_a_pool_grows_between_its_buffers(proxy: Proxy, client: PatternClient) -> None:
    width, height = 320, 240
    length = width * height * 4
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=length)
    geometry: dict[str, Any] = {"pool": "pool", "width": width, "height": height}
    client.call("buffer", buffer="before", **geometry)
    client.show("window", "before", 1)
    proxy.compositor.wait_shows(width, height, 1)

    client.call("grow", pool="pool", size=3 * length)
    client.call("buffer", buffer="after", offset=2 * length, **geometry)
    client.show("window", "after", 2)
    proxy.compositor.wait_shows(width, height, 2)
    client.show("window", "before", 3)
    proxy.compositor.wait_shows(width, height, 3)

    assert proxy.copied() == 0


def test_buffers_outlive_their_pool(proxy: Proxy, client: PatternClient) -> None:
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * 200 * 100 * 4)
    geometry: dict[str, Any] = {"pool": "pool", "width": 200, "height": 100}
    client.call("buffer", buffer="shown before", **geometry)
    client.call("buffer", buffer="shown after", offset=200 * 100 * 4, **geometry)
    client.show("window", "shown before", 1)
    client.call("destroy_pool", pool="pool")
    client.call("roundtrip")

    client.show("window", "shown after", 2)
    proxy.compositor.wait_shows(200, 100, 2)
    client.show("window", "shown before", 3)
    proxy.compositor.wait_shows(200, 100, 3)
    assert proxy.copied() == 0


def test_a_buffer_may_be_destroyed_while_it_is_shown(
    proxy: Proxy, client: PatternClient
) -> None:
    """And its pages are let go once another one has taken its place."""
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * 200 * 100 * 4)
    geometry: dict[str, Any] = {"pool": "pool", "width": 200, "height": 100}
    client.call("buffer", buffer="old", **geometry)
    client.call("buffer", buffer="new", offset=200 * 100 * 4, **geometry)
    client.show("window", "old", 1)
    before = proxy.status()["metrics"]["udmabufs_alive"]
    client.call("destroy_buffer", buffer="old")
    client.call("roundtrip")
    assert proxy.status()["metrics"]["udmabufs_alive"] == before

    client.show("window", "new", 2)
    proxy.compositor.wait_shows(200, 100, 2)
    eventually(
        lambda: proxy.status()["metrics"]["udmabufs_alive"] == before,
        "only the new buffer's udmabuf is open",
    )
    assert before == 1


def test_subsurfaces_show_buffers_of_their_own(
    proxy: Proxy, client: PatternClient
) -> None:
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=1024 * 768 * 4 + 2 * 128 * 128 * 4)
    client.call("buffer", buffer="back", pool="pool", width=1024, height=768)
    client.show("window", "back", 1)
    for index, (x, y) in enumerate([(100, 80), (500, 333)]):
        name = f"sub{index}"
        offset = 1024 * 768 * 4 + index * 128 * 128 * 4
        size: dict[str, Any] = {"width": 128, "height": 128}
        client.call("buffer", buffer=name, pool="pool", offset=offset, **size)
        client.call("subsurface", surface=name, parent="window", x=x, y=y)
        client.call("draw", buffer=name, frame=10 + index)
        client.call("show", surface=name, buffer=name, wait=False)
    client.call("show", surface="window", buffer="back")

    assert proxy.compositor.wait_shows(128, 128, 10) == (100, 80)
    assert proxy.compositor.wait_shows(128, 128, 11) == (500, 333)
    assert proxy.compositor.wait_shows(1024, 80, 1) == (0, 0)
    assert len(proxy.surfaces()) == 3
    assert proxy.copied() == 0
