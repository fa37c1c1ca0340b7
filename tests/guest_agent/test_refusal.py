"""The one Wayland message of the agent, against bytes written out by hand."""

import struct
import sys
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy_guest.refusal import SentEvents, limit_event, unavailable_event


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


EVENTS = st.lists(
    st.tuples(st.integers(2, 99), st.integers(0, 9), st.binary(max_size=30)), max_size=8
)


def encode(sender: int, opcode: int, body: bytes) -> bytes:
    return struct.pack("=II", sender, (8 + len(body)) << 16 | opcode) + body


@given(EVENTS, st.data())
def test_it_is_known_where_events_end(
    events: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    encoded = [encode(*event) for event in events]
    ends = {0, *accumulate(map(len, encoded))}
    stream = b"".join(encoded)
    sent = SentEvents()
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        sent.add(memoryview(stream)[at : at + step])
        at += step
        assert sent.whole == (at in ends)
    assert sent.whole
    assert not sent.told


@pytest.mark.parametrize("step", [1, 7, 100])
def test_error_among_the_events_is_noticed(step: int) -> None:
    stream = encode(1, 1, b"\3\0\0\0") + unavailable_event("no") + encode(3, 0, b"")
    sent = SentEvents()
    for at in range(0, len(stream), step):
        sent.add(stream[at : at + step])
    assert sent.told
    assert sent.whole


def test_what_is_no_event_is_never_whole() -> None:
    sent = SentEvents()
    sent.add(bytes(8))
    sent.add(limit_event("full"))
    assert not sent.whole
    assert not sent.told


def test_no_character_is_cut_in_two() -> None:
    event = unavailable_event("x" + 500 * "\u00e9")
    assert event[20:].rstrip(b"\0").decode() == "x" + 255 * "\u00e9"
