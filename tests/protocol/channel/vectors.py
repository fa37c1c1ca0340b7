"""The examples of docs/channel-protocol.md, as frames and bytes."""

import re
from pathlib import Path

from wlproxy.protocol.channel import frames
from wlproxy.protocol.channel.frames import Frame

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
