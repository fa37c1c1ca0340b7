"""Joining page frames into extents; `test_page_locator` reads real ones."""

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from wlproxy_guest.locating.mapping import PAGE_SIZE
from wlproxy_guest.locating.pagemap import PRESENT, to_extents

LAST_FRAME = (1 << 64) // PAGE_SIZE - 1


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(1, 20), st.integers(1, LAST_FRAME)),
            st.integers(0, 3).map(lambda flags: PRESENT | flags << 55),
        ),
        min_size=1,
    )
)
def test_extents_are_the_longest_runs_of_frames(
    pages: list[tuple[int, int]],
) -> None:
    entries = array("Q", [frame | flags for frame, flags in pages])

    extents = to_extents(entries)

    spelled = [
        page
        for extent in extents
        for page in range(extent.gpa, extent.gpa + extent.length, PAGE_SIZE)
    ]
    assert spelled == [frame * PAGE_SIZE for frame, _ in pages]
    assert all(extent.length for extent in extents)
    for one, following in pairwise(extents):
        assert one.gpa + one.length != following.gpa
