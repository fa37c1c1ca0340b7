"""The examples of docs/channel-protocol.md: what they say they are, byte for byte."""

import re
from typing import get_args

import pytest

from tests.protocol.channel.vectors import BLOCKS, DOCUMENT, payload_of, value
from wlproxy.protocol.channel.codec import FrameDecoder, encode_frame
from wlproxy.protocol.channel.frames import Frame, FrameType


@pytest.mark.parametrize(("expression", "dump"), BLOCKS)
def test_example(expression: str, dump: str) -> None:
    decoder = FrameDecoder()
    decoder.feed(payload_of(dump))
    assert decoder.next_frame() == value(expression)
    assert decoder.take_rest() == b""
    assert encode_frame(value(expression)) == payload_of(dump)


def test_every_frame_has_an_example() -> None:
    assert {type(value(expression)) for expression, _ in BLOCKS} == set(get_args(Frame))


@pytest.mark.parametrize("number", set(FrameType) - {FrameType.RESYNC})
def test_every_frame_has_its_number_in_a_title(number: FrameType) -> None:
    name = "".join(word.capitalize() for word in number.name.split("_"))
    titles = re.findall(r"^### (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    assert any(f"{name} ({number.value}, " in title for title in titles)
