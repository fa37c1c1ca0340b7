"""Every pixel, from a real guest: what a client draws there is what the host shows.

Also that nothing was copied on the way: counted by the code that would copy.
"""

import pytest

from tests.clients.capture import assert_shows
from tests.integration.harness import PatternClient, Proxy

pytestmark = [pytest.mark.guest, pytest.mark.timeout(180)]


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
        assert_shows(proxy.compositor.capture(), visible, height, frame)

    surface = proxy.surface()
    assert surface["mode"] == "A"
    assert (surface["width"], surface["height"]) == (width, height)
    assert surface["frames"] == 2
    assert surface["bytes_copied"] == 0
    assert proxy.copied() == 0
