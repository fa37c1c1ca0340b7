"""The VM's name as a picture, where Pillow is installed."""

import logging
import sys
from dataclasses import replace

import pytest

from wlproxy.host.frame_label import HEIGHT, MOST, draw, look
from wlproxy.relay.look import OFF, Colour, WindowFrame
from wlproxy.relay.policy_tree import Frame, Switch

RED = 0xD1261B


def colours(pixels: bytes) -> set[bytes]:
    return {pixels[start : start + 3] for start in range(0, len(pixels), 4)}


@pytest.mark.parametrize(
    ("colour", "text"), [(RED, b"\xff\xff\xff"), (0xE8C511, b"\0\0\0")]
)
def test_the_name_is_written_readably(colour: int, text: bytes) -> None:
    pytest.importorskip("PIL", reason="needs Pillow (the extra `label`)")
    label = draw("work", colour)

    assert label is not None
    assert label.shown_height == HEIGHT
    assert len(label.pixels) == 4 * label.width * label.height
    background = colour.to_bytes(3, "little")
    assert {text, background} <= colours(label.pixels)
    for row in range(label.height):  # nothing touches the edge
        start = 4 * label.width * row
        assert label.pixels[start : start + 3] == background


def test_a_long_name_is_cut_and_a_longer_one_is_wider() -> None:
    pytest.importorskip("PIL", reason="needs Pillow (the extra `label`)")
    short, long, longest = draw("w", RED), draw("work-2", RED), draw("w" * 200, RED)

    assert short is not None
    assert long is not None
    assert longest is not None
    assert short.width < long.width < longest.width == MOST


def test_without_pillow_there_is_a_colour_and_no_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with caplog.at_level(logging.INFO, "wlproxy"):
        frame = look("work", Frame(Colour("red", RED), width=7))

    assert frame is not None
    assert (frame.colour, frame.width, frame.label) == (RED, 7, None)
    (said,) = caplog.messages
    assert "wlproxy[label]" in said
    assert look("work", Frame()) is None
    with caplog.at_level(logging.INFO, "wlproxy"):
        unasked = look("work", Frame(Colour("red", RED, asked=False), Switch.OFF))
    assert unasked == WindowFrame(RED)
    assert not unasked.asked
    assert caplog.messages == [said], "nobody wants a label"


def test_no_frame_although_there_are_several_vms_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert look("work", Frame(OFF)) is None
    assert not caplog.messages
    assert look("work", Frame(replace(OFF, asked=False))) is None
    assert "`wlproxy policy show work` says which" in caplog.messages[0]
