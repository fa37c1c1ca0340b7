"""Where the strips are: they cover what sticks out, and leave the window alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.relay.frame.boxes import NOTHING, Box, at, point
from wlproxy.relay.frame.layout import (
    MOST,
    Edge,
    Insets,
    Layout,
    Side,
    geometry,
    lay_out,
)

numbers = st.integers(-1000, 1000)
lengths = st.integers(1, 1000)
boxes = st.builds(at, numbers, numbers, lengths, lengths)
insets = st.builds(Insets, *(st.integers(1, 40) for _ in range(4)))
EVEN = Insets(5, 5, 5, 5)


def strips(layout: Layout) -> list[Box]:
    return [layout.strip(side) for side in Side]


def area(box: Box) -> int:
    return box.width * box.height


@given(boxes, insets, boxes)
def test_strips_and_window_are_all_of_the_cover_and_meet_nowhere(
    inner: Box, around: Insets, reach: Box
) -> None:
    layout = lay_out(inner, around, reach)
    parts = [layout.inner, *strips(layout)]

    assert sum(map(area, parts)) == area(layout.cover)
    for index, one in enumerate(parts):
        assert layout.cover.contains(one)
        assert all(one.intersection(other).empty for other in parts[:index])


@given(st.integers(80, 9000), st.integers(80, 9000), insets)
def test_no_strip_is_larger_than_the_window(
    width: int, height: int, around: Insets
) -> None:
    """Or Mutter would not have one in the middle that fills the screen."""
    layout = lay_out(at(0, 0, width, height), around, NOTHING)

    assert all(each.width <= width for each in strips(layout))
    assert all(each.height <= height for each in strips(layout))


@given(boxes, insets, boxes)
def test_what_sticks_out_is_covered_and_the_frame_is_never_thinner(
    inner: Box, around: Insets, reach: Box
) -> None:
    layout = lay_out(inner, around, reach)

    assert layout.cover.contains(reach)
    assert layout.cover.contains(layout.outer)
    assert layout.inner == inner
    assert layout.outer == around.around(inner)


@given(st.none() | boxes, boxes)
def test_a_window_is_never_said_to_be_where_nothing_is(
    claimed: Box | None, extents: Box
) -> None:
    found = geometry(claimed, extents)

    assert not found.empty
    assert extents.contains(found)
    assert found == extents or (claimed is not None and claimed.contains(found))


@given(insets, lengths, lengths)
def test_sizes_with_and_without_the_frame(
    around: Insets, width: int, height: int
) -> None:
    assert around.shrink(*around.grow(width, height)) == (width, height)
    grown = around.grow(width, height)
    assert grown == (width + around.across, height + around.down)


def test_sizes_that_nobody_cares_about_stay_so() -> None:
    assert EVEN.shrink(0, 0) == EVEN.grow(0, 0) == (0, 0)
    assert EVEN.shrink(3, 11) == (1, 1)
    assert EVEN.grow(MOST, -4) == (MOST, -4)


@given(boxes, boxes)
def test_boxes(one: Box, other: Box) -> None:
    assert one.union(other).contains(one)
    assert one.union(NOTHING) == NOTHING.union(one) == one
    both = one.intersection(other)
    assert one.contains(both)
    assert other.contains(both)
    assert one.moved(3, 4).moved(-3, -4) == one


def test_points_are_empty_and_count_all_the_same() -> None:
    assert point(3, 4).empty
    assert point(3, 4).hull(point(1, 9)) == Box(1, 4, 3, 9)
    assert at(0, 0, 2, 2).contains(point(7, 7))


@pytest.mark.parametrize(
    ("x", "y", "labelled", "edge"),
    [
        (50, -2, False, Edge.NONE),
        (50, -19, True, Edge.TOP),
        (50, -10, True, Edge.NONE),
        (50, 101, False, Edge.BOTTOM),
        (-3, 50, False, Edge.LEFT),
        (101, 50, False, Edge.RIGHT),
        (-3, -3, False, Edge.TOP | Edge.LEFT),
        (101, -19, True, Edge.TOP | Edge.RIGHT),
        (-3, 101, False, Edge.BOTTOM | Edge.LEFT),
        (-3, 98, False, Edge.BOTTOM | Edge.LEFT),
        (101, 101, False, Edge.BOTTOM | Edge.RIGHT),
        (92, 102, False, Edge.BOTTOM | Edge.RIGHT),
        (101, 2, False, Edge.TOP | Edge.RIGHT),
    ],
)
def test_what_is_pulled_at(x: int, y: int, edge: Edge, *, labelled: bool) -> None:
    top = 20 if labelled else 5
    layout = lay_out(at(0, 0, 100, 100), Insets(5, top, 5, 5), NOTHING)

    assert layout.edge_at(x, y, labelled=labelled) == edge


@given(boxes, insets, numbers, numbers, st.booleans())
def test_nobody_pulls_at_two_sides_that_face_each_other(
    inner: Box, around: Insets, x: int, y: int, labelled: bool
) -> None:
    edge = lay_out(inner, around, NOTHING).edge_at(x, y, labelled=labelled)

    assert edge & (Edge.LEFT | Edge.RIGHT) != Edge.LEFT | Edge.RIGHT
    assert edge & (Edge.TOP | Edge.BOTTOM) != Edge.TOP | Edge.BOTTOM


def test_a_label_is_no_wider_than_the_window() -> None:
    layout = lay_out(at(10, 10, 30, 100), Insets(5, 20, 5, 5), NOTHING)

    assert layout.label(80, 18) == Box(10, -9, 40, 9)
    assert layout.label(20, 18) == Box(10, -9, 30, 9)
