"""Layouts: every frame type has one, and its bounds are what the strategies reach."""

import re
from typing import get_args

import pytest
from hypothesis import given

from tests.protocol.channel.vectors import DOCUMENT
from tests.strategies import frames
from wlproxy.protocol.channel.frames import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    Frame,
    FrameType,
    Side,
)
from wlproxy.protocol.channel.layouts import (
    HANDSHAKE_PREFIX,
    HELLO,
    HELLO_ACK,
    LAYOUTS,
)


def test_every_type_has_a_layout() -> None:
    assert LAYOUTS.keys() == set(FrameType) - {FrameType.RESYNC}
    assert {layout.kind for layout in LAYOUTS.values()} == set(get_args(Frame))


@pytest.mark.parametrize("number", LAYOUTS)
def test_every_payload_fits(number: FrameType) -> None:
    layout = LAYOUTS[number]
    assert 0 <= layout.least <= layout.most <= MAX_PAYLOAD
    assert layout.of_client == (number >= FrameType.CLIENT_OPENED)


def test_the_document_says_who_sends_what() -> None:
    titles = re.findall(r"(\w+) \((\d+), ([HGB])\)", DOCUMENT.read_text())
    sides = {"H": {Side.HOST}, "G": {Side.GUEST}, "B": set(Side)}
    said = {(name, int(number)): sides[who] for name, number, who in titles}
    assert said == {
        (layout.kind.__name__, int(number)): set(layout.senders)
        for number, layout in LAYOUTS.items()
    }


def test_a_handshake_starts_the_same_in_every_version() -> None:
    assert HELLO.format.startswith(HANDSHAKE_PREFIX.format)
    assert HELLO_ACK.format.startswith(HANDSHAKE_PREFIX.format)
    assert HANDSHAKE_PREFIX.size == 40
    assert HELLO.size == 60
    assert HELLO_ACK.size == 68
    assert HEADER_SIZE == 12


@given(frames)
def test_payloads_are_within_bounds(frame: Frame) -> None:
    (layout,) = (one for one in LAYOUTS.values() if one.kind is type(frame))
    payload = layout.encode(frame)
    assert layout.least <= len(payload) <= layout.most
    client_id = frame.client_id if hasattr(frame, "client_id") else 0
    with memoryview(payload) as view:
        assert layout.decode(client_id, view) == frame
