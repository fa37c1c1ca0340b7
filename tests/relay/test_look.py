"""How frames look: colours by name or number, and how wide the upper side is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.relay.look import (
    AUTO,
    CHOSEN,
    COLOURS,
    OFF,
    UNFRAMED,
    WIDTH,
    Colour,
    Label,
    WindowFrame,
    choose_colours,
    parse_colour,
    read_colour,
    unframed_by,
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
    assert unframed_by(["wl_output", "wl_shell"]) == "wl_shell"
    assert unframed_by(["wl_output"]) is None


def test_words_for_a_colour() -> None:
    assert read_colour("auto") is AUTO
    assert read_colour("off") is OFF
    assert read_colour("red") == Colour("red", 0xD1261B)


RED = Colour("red", COLOURS["red"])
names = st.lists(st.text("abcdefghijklmnop-_123", min_size=1), min_size=2, unique=True)


@given(names, st.sampled_from([AUTO, OFF, RED]))
def test_each_of_several_vms_has_a_colour_of_its_own(
    vms: list[str], first: Colour
) -> None:
    said = dict.fromkeys(vms, AUTO) | {vms[0]: first}
    chosen = choose_colours(said)
    assert list(chosen) == [name for name in vms if said[name] == AUTO]
    colours = [each.rgb for each in (said | chosen).values() if each.rgb is not None]
    most = len(CHOSEN)
    assert len(set(colours)) == min(len(colours), most)
    assert not any(each.asked for each in chosen.values())


@given(names)
def test_a_vm_that_is_added_changes_no_colour(vms: list[str]) -> None:
    before = choose_colours(dict.fromkeys(vms[:-1], AUTO))
    after = choose_colours(dict.fromkeys(vms, AUTO))
    assert before == {name: after[name] for name in vms[:-1]}


def test_what_a_running_app_takes_on_of_another_look() -> None:
    label, redder, longer = Label(8, 4, b"b"), Label(8, 4, b"r"), Label(9, 4, b"r")
    plain, labelled = WindowFrame(1, 5), WindowFrame(1, 5, label)
    assert plain.repainted(None) == plain
    assert plain.repainted(WindowFrame(2, 9, redder)) == WindowFrame(2, 5)
    assert labelled.repainted(WindowFrame(2, 9, redder)) == WindowFrame(2, 5, redder)
    assert labelled.repainted(WindowFrame(2, 9, longer)) == labelled
    assert labelled.repainted(WindowFrame(2)) == labelled
