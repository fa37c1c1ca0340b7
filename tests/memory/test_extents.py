"""check_extents on honest and hostile answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.memory.extents import check_extents, round_out
from wlproxy.memory.guest_memory import ExtentError
from wlproxy.protocol.channel.frames import Extent

PAGE = 4096


@given(st.integers(0, 2**20), st.integers(1, 2**20), st.sampled_from([4096, 65536]))
def test_round_out_is_the_smallest_cover(offset: int, length: int, page: int) -> None:
    start, size = round_out(offset, length, page)
    assert start % page == size % page == 0
    assert start <= offset < start + page
    assert start + size - page < offset + length <= start + size


@given(st.permutations(range(12)), st.integers(0, PAGE - 1), st.integers(0, PAGE - 1))
def test_any_scatter_of_the_right_pages_is_accepted(
    order: list[int], skip: int, spare: int
) -> None:
    extents = [Extent(page * 3 * PAGE, PAGE) for page in order]
    check_extents(extents, 7 * PAGE + skip, 12 * PAGE - skip - spare, PAGE, 12)


@pytest.mark.parametrize(
    ("extents", "reason"),
    [
        ([Extent(0, PAGE)] * 4, "4 extents, limit 3"),
        ([Extent(1, 2 * PAGE)], "not whole pages"),
        ([Extent(0, 2 * PAGE - 1)], "not whole pages"),
        ([Extent(0, 2 * PAGE), Extent(PAGE, 0)], "empty"),
        ([Extent(0, 3 * PAGE), Extent(4 * PAGE, -PAGE)], "empty"),
        ([], "0 bytes, 8192 were"),
        ([Extent(0, PAGE)], "4096 bytes, 8192 were"),
        ([Extent(0, 3 * PAGE)], "12288 bytes, 8192 were"),
        ([Extent(0, 2**64 - PAGE)], "were asked for"),
        ([Extent(PAGE, PAGE), Extent(PAGE, PAGE)], "overlap at 0x1000"),
    ],
)
def test_hostile_answers_are_refused(extents: list[Extent], reason: str) -> None:
    with pytest.raises(ExtentError, match=reason):
        check_extents(extents, 100, PAGE, PAGE, 3)


def test_partial_overlap() -> None:
    extents = [Extent(4 * PAGE, 2 * PAGE), Extent(3 * PAGE, 2 * PAGE)]
    with pytest.raises(ExtentError, match="overlap at 0x4000"):
        check_extents(extents, 0, 4 * PAGE, PAGE, 4)
