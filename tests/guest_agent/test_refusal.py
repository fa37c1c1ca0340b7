"""The one Wayland message of the agent, against bytes written out by hand."""

import sys

import pytest

from wlproxy_guest.refusal import limit_event, unavailable_event


@pytest.mark.skipif(sys.byteorder == "big", reason="the bytes are little-endian")
def test_layout() -> None:
    expected = (
        b"\x01\0\0\0"  # wl_display
        b"\0\0\x1c\0"  # 28 bytes, error
        b"\x01\0\0\0"  # about wl_display
        b"\x02\0\0\0"  # no_memory
        b"\x05\0\0\0full\0\0\0\0"
    )

    assert limit_event("full") == expected


def test_padding_and_length() -> None:
    for length in range(600):
        event = unavailable_event("x" * length)
        assert len(event) % 4 == 0
        assert len(event) < 4096
