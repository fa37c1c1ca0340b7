"""The examples of docs/channel-protocol.md: what they say they are, byte for byte."""

import re
from pathlib import Path
from typing import get_args

import pytest

from wlproxy.protocol.channel import frames
from wlproxy.protocol.channel.codec import FrameDecoder, encode_frame
from wlproxy.protocol.channel.frames import Frame, FrameType

DOCUMENT = Path(__file__).parents[3] / "docs" / "channel-protocol.md"
BLOCKS = re.findall(
    r"^```frame\n(.*?)\n\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
)
"""(the frame as a Python expression, hex with comments) of each example."""


def value(expression: str) -> Frame:
    frame = eval(expression, vars(frames).copy())
    assert isinstance(frame, Frame)
    return frame


def payload_of(dump: str) -> bytes:
    return bytes.fromhex("".join(re.sub("#.*", "", dump).split()))


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
