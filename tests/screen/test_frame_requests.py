"""What shows a frame is written as the protocol's specification has it."""

import pytest

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.screen.commands import Rectangle
from wlproxy.screen.frame_requests import show_frame


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_is_the_same_as_one_after_the_other(count: int) -> None:
    surface, buffer, callback = 7, 9, 0xFEFF0001
    damage = [Rectangle(1 - each, 2, 3, 4 + each) for each in range(count)]
    requests: list[tuple[str, tuple[int, ...]]] = [
        ("attach", (buffer, 0, 0)),
        *(("damage_buffer", (p.x, p.y, p.width, p.height)) for p in damage),
        ("frame", (callback,)),
        ("commit", ()),
    ]
    spelled = b"".join(
        encode_message(surface, INTERFACES["wl_surface"].request(name), args)
        for name, args in requests
    )
    assert show_frame(surface, buffer, damage, callback) == spelled
