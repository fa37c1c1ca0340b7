"""GuestMemory against a byte-by-byte model; the layouts at their thresholds."""

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.memory.guest_memory import (
    GIB,
    ExtentError,
    GuestMemory,
    RamItem,
    RamItems,
    RamRegion,
    arm_virt_layout,
    i440fx_layout,
    microvm_layout,
    q35_layout,
)
from wlproxy.protocol.channel.frames import Extent
from wlproxy.protocol.errors import LocalProtocolError, RemoteProtocolError

PAGE = 4096
MIB = 1 << 20

# Two that adjoin with files apart, a hole, one in a second file, and the very last page.
REGIONS = (
    RamRegion(gpa=0, length=4 * PAGE, file=0, offset=0),
    RamRegion(gpa=4 * PAGE, length=4 * PAGE, file=0, offset=8 * PAGE),
    RamRegion(gpa=16 * PAGE, length=4 * PAGE, file=1, offset=0),
    RamRegion(gpa=2**64 - PAGE, length=PAGE, file=1, offset=4 * PAGE),
)
MEMORY = GuestMemory(REGIONS)
PAGES = {
    region.gpa + page: (region.file, region.offset + page)
    for region in REGIONS
    for page in range(0, region.length, PAGE)
}
"""The model: each page of RAM, and where it is."""


def pages(items: Sequence[RamItem]) -> list[tuple[int, int]]:
    return [
        (item.file, item.offset + page)
        for item in items
        for page in range(0, item.length, PAGE)
    ]


@given(
    items=st.lists(
        st.builds(
            RamItem,
            st.integers(0, 255),
            st.integers(0, (1 << 64) - 1),
            st.integers(0, (1 << 56) - 1),
        ),
        max_size=7,
    ).map(tuple),
    start=st.integers(-8, 8),
)
def test_packed_items_are_like_a_tuple(items: tuple[RamItem, ...], start: int) -> None:
    packed = RamItems.of(items)

    assert packed == items
    assert packed == RamItems.of(items)
    assert tuple(packed) == items
    assert packed[start:] == items[start:]
    for index in range(-len(items), len(items)):
        assert packed[index] == items[index]
    assert packed != (*items, RamItem(0, 0, 0))
    assert packed != 0
    assert repr(packed) == f"RamItems.of({list(items)!r})"
    assert sys.getsizeof(packed.words) <= 200 + 18 * len(items)


def page_extents() -> st.SearchStrategy[Extent]:
    return st.builds(
        Extent,
        st.one_of(st.integers(0, 24), st.integers(2**52 - 4, 2**52 - 1)).map(
            lambda page: page * PAGE
        ),
        st.integers(1, 8).map(lambda count: count * PAGE),
    )


@given(st.lists(page_extents(), max_size=8))
def test_translate_agrees_with_the_model(extents: list[Extent]) -> None:
    wanted = [
        PAGES.get(extent.gpa + page)
        for extent in extents
        for page in range(0, extent.length, PAGE)
    ]
    if None in wanted:
        with pytest.raises(ExtentError, match="not RAM at"):
            MEMORY.translate(extents)
        return
    items = MEMORY.translate(extents)
    assert pages(items) == wanted
    for left, right in pairwise(items):
        merged = left.file, left.offset + left.length
        assert merged != (right.file, right.offset), "should be one item"


def test_nothing_is_nowhere() -> None:
    assert MEMORY.translate([]) == ()
    with pytest.raises(ExtentError):
        GuestMemory([]).translate([Extent(0, PAGE)])


def test_neighbours_merge_and_borders_split() -> None:
    assert MEMORY.translate([Extent(0, PAGE), Extent(PAGE, PAGE)]) == (
        RamItem(0, 0, 2 * PAGE),
    )
    assert MEMORY.translate([Extent(3 * PAGE, 2 * PAGE)]) == (
        RamItem(0, 3 * PAGE, PAGE),
        RamItem(0, 8 * PAGE, PAGE),
    )


def test_items_tell_their_files() -> None:
    items = RamItems.of([RamItem(0, 7, 1 << 40), RamItem(255, 0, 1), RamItem(0, 9, 9)])
    assert items.files == {0, 255}


@pytest.mark.parametrize(
    ("gpa", "length", "reason"),
    [
        (1, PAGE, "whole pages"),
        (0, PAGE + 1, "whole pages"),
        (0, 0, "empty"),
        (0, -PAGE, "empty"),
        (-PAGE, PAGE, "not RAM"),
        (7 * PAGE, 2 * PAGE, "not RAM at 0x8000"),
        (8 * PAGE, PAGE, "not RAM at 0x8000"),
        (2**64 - PAGE, 2 * PAGE, "not RAM at 0x10000000000000000"),
        (0, 2**64 - PAGE, "not RAM at 0x8000"),
    ],
)
def test_hostile_extents_are_refused(gpa: int, length: int, reason: str) -> None:
    with pytest.raises(ExtentError, match=reason) as caught:
        MEMORY.translate([Extent(0, PAGE), Extent(gpa, length)])
    assert isinstance(caught.value, RemoteProtocolError)


def test_larger_host_pages() -> None:
    memory = GuestMemory([RamRegion(0, 4 * PAGE, 0, 0)], page_size=4 * PAGE)
    with pytest.raises(ExtentError, match="whole pages"):
        memory.translate([Extent(0, PAGE)])


@pytest.mark.parametrize(
    "regions",
    [
        [RamRegion(0, 2 * PAGE, 0, 0), RamRegion(PAGE, PAGE, 1, 0)],
        [RamRegion(0, 0, 0, 0)],
        [RamRegion(-PAGE, PAGE, 0, 0)],
        [RamRegion(0, PAGE, -1, 0)],
        [RamRegion(0, PAGE, 0, -PAGE)],
        [RamRegion(1, PAGE, 0, 0)],
        [RamRegion(0, PAGE, 0, 1)],
        [RamRegion(2**64 - PAGE, 2 * PAGE, 0, 0)],
    ],
)
def test_impossible_maps_are_our_bug(regions: list[RamRegion]) -> None:
    with pytest.raises(LocalProtocolError):
        GuestMemory(regions)


def test_regions_are_sorted_and_counted() -> None:
    memory = GuestMemory(reversed(REGIONS))
    assert memory.regions == REGIONS
    assert memory.size == 13 * PAGE


@pytest.mark.parametrize(
    ("layout", "ram", "low"),
    [
        (q35_layout, 1 * GIB, 1 * GIB),
        (q35_layout, 2 * GIB, 2 * GIB),
        (q35_layout, 2816 * MIB - PAGE, 2816 * MIB - PAGE),
        (q35_layout, 2816 * MIB, 2 * GIB),
        (q35_layout, 6 * GIB, 2 * GIB),
        (i440fx_layout, 3584 * MIB - PAGE, 3584 * MIB - PAGE),
        (i440fx_layout, 3584 * MIB, 3 * GIB),
        (i440fx_layout, 8 * GIB, 3 * GIB),
        (microvm_layout, 3 * GIB, 3 * GIB),
        (microvm_layout, 3 * GIB + PAGE, 3 * GIB),
    ],
)
def test_pc_layouts(
    layout: Callable[[int], tuple[RamRegion, ...]], ram: int, low: int
) -> None:
    memory = GuestMemory(layout(ram))
    assert memory.size == ram
    assert memory.regions[0] == RamRegion(0, low, 0, 0)
    assert memory.translate([Extent(low - PAGE, PAGE)]) == (
        RamItem(0, low - PAGE, PAGE),
    )
    with pytest.raises(ExtentError):
        memory.translate([Extent(low, PAGE)])
    if ram > low:
        assert memory.regions[1] == RamRegion(4 * GIB, ram - low, 0, low)
    with pytest.raises(ExtentError):
        memory.translate([Extent(4 * GIB + ram - low, PAGE)])


def test_arm_virt_layout() -> None:
    memory = GuestMemory(arm_virt_layout(8 * GIB))
    assert memory.translate([Extent(GIB, 8 * GIB)]) == (RamItem(0, 0, 8 * GIB),)
    with pytest.raises(ExtentError):
        memory.translate([Extent(0, PAGE)])
