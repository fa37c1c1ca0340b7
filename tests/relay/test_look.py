"""How frames look: colours by name or number, and how wide the upper side is."""

import pytest

from wlproxy.relay.look import (
    COLOURS,
    UNFRAMED,
    WIDTH,
    Label,
    WindowFrame,
    parse_colour,
)
from wlproxy.relay.verdicts import VERDICTS, Access


@pytest.mark.parametrize(
    ("text", "colour"),
    [("#d1261b", 0xD1261B), ("#00FF7f", 0x00FF7F), ("Red", 0xD1261B)],
)
def test_colours(text: str, colour: int) -> None:
    assert parse_colour(text) == colour


@pytest.mark.parametrize(
    "text", ["", "#12345", "#1234567", "12ab34", "#12345g", "pink"]
)
def test_what_is_no_colour(text: str) -> None:
    with pytest.raises(ValueError, match="write #rrggbb, or one of black, blue"):
        parse_colour(text)


def test_no_two_names_mean_the_same() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_the_upper_side_has_room_for_the_label() -> None:
    assert WindowFrame(0).top == WIDTH
    assert WindowFrame(0, 7, Label(1, 1, b"")).top == 7
    assert WindowFrame(0, 7, Label(8, 40, b"")).top == 20


def test_what_cannot_be_framed_is_not_there_unless_somebody_allows_it() -> None:
    assert all(VERDICTS[name].access is not Access.ALLOWED for name in UNFRAMED)
