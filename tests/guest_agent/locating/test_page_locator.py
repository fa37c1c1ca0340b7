"""Locating real pages: this needs CAP_SYS_ADMIN, which CI's root has."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from tests.guest_agent.fakes import scatter
from tests.guest_agent.frames import sees_frames
from tests.open_fds import open_fds
from wlproxy.protocol.channel.frames import RAM_TOKEN_SIZE, Extent, LocateStatus
from wlproxy_guest.locating.mapping import HUGE_SIZE, PAGE_SIZE, AlignedMapping
from wlproxy_guest.locating.page_locator import (
    LARGEST_RANGE,
    LocateError,
    PageLocator,
    check_range,
)
from wlproxy_guest.locating.pagemap import Pagemap

FRAME_4K = 3840 * 2160 * 4


pytestmark = sees_frames


@pytest.fixture
def locator() -> Iterator[PageLocator]:
    locator = PageLocator()
    yield locator
    locator.close()


@pytest.fixture
def memfd() -> Iterator[int]:
    fd = os.memfd_create("pool")
    yield fd
    os.close(fd)


def frames_of(fd: int, offset: int, length: int) -> list[int]:
    """The guest-physical pages of a range, read afresh."""
    pagemap = Pagemap()
    try:
        with AlignedMapping(fd, offset, offset + length) as mapping:
            mapping.populate(offset, offset + length)
            entries = pagemap.entries(mapping.address_of(offset), length // PAGE_SIZE)
            return [(entry & (1 << 55) - 1) * PAGE_SIZE for entry in entries]
    finally:
        pagemap.close()


def pages_of(extents: Sequence[Extent]) -> list[int]:
    return [
        page
        for extent in extents
        for page in range(extent.gpa, extent.gpa + extent.length, PAGE_SIZE)
    ]


def fill(fd: int, size: int) -> None:
    block = b"\x5a" * (1 << 20)
    for offset in range(0, size, len(block)):
        os.pwrite(fd, block[: size - offset], offset)


def check(locator: PageLocator, fd: int, pages: int) -> None:
    location = locator.locate(fd, 0, pages * PAGE_SIZE, 0)
    try:
        assert pages_of(location.extents) == frames_of(fd, 0, pages * PAGE_SIZE)
    finally:
        location.pin.close()


def test_extents_are_the_pages_of_the_range(locator: PageLocator, memfd: int) -> None:
    fill(memfd, 64 * PAGE_SIZE)

    location = locator.locate(memfd, 3 * PAGE_SIZE, 10 * PAGE_SIZE, 0)

    expected = frames_of(memfd, 3 * PAGE_SIZE, 10 * PAGE_SIZE)
    assert pages_of(location.extents) == expected
    location.pin.close()


def test_range_is_rounded_outward_to_pages(locator: PageLocator, memfd: int) -> None:
    fill(memfd, 4 * PAGE_SIZE)

    location = locator.locate(memfd, PAGE_SIZE - 1, 2, 0)

    assert pages_of(location.extents) == frames_of(memfd, 0, 2 * PAGE_SIZE)
    location.pin.close()


def test_last_page_of_a_file_may_be_partial(locator: PageLocator, memfd: int) -> None:
    fill(memfd, PAGE_SIZE + 1)

    location = locator.locate(memfd, 0, PAGE_SIZE + 1, 0)

    assert len(pages_of(location.extents)) == 2
    location.pin.close()


def test_holes_get_pages(locator: PageLocator, memfd: int) -> None:
    os.ftruncate(memfd, 16 * PAGE_SIZE)

    check(locator, memfd, 16)


def test_neighbouring_pages_are_joined(locator: PageLocator, memfd: int) -> None:
    fill(memfd, FRAME_4K)

    location = locator.locate(memfd, 0, FRAME_4K, 0)

    for extent, following in zip(location.extents, location.extents[1:], strict=False):
        assert extent.gpa + extent.length != following.gpa
    location.pin.close()


def test_tmpfs_file_that_cannot_be_sealed(
    locator: PageLocator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fd = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)
    fill(fd, 8 * PAGE_SIZE)

    check(locator, fd, 8)
    os.close(fd)


def test_fd_that_may_only_read(locator: PageLocator, memfd: int) -> None:
    fill(memfd, 8 * PAGE_SIZE)
    reader = os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY)

    check(locator, reader, 8)
    os.close(reader)


def test_fd_that_may_not_read_is_refused(locator: PageLocator, memfd: int) -> None:
    fill(memfd, PAGE_SIZE)
    writer = os.open(f"/proc/self/fd/{memfd}", os.O_WRONLY)

    with pytest.raises(LocateError) as caught:
        locator.locate(writer, 0, PAGE_SIZE, 0)

    assert caught.value.status is LocateStatus.FAILED
    assert str(caught.value) == "failed: Permission denied"
    os.close(writer)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 2 * PAGE_SIZE), (PAGE_SIZE, 1), (1 << 62, 1), (0, 1 << 62), (0, 0)],
)
def test_outside_the_file(
    locator: PageLocator, memfd: int, offset: int, length: int
) -> None:
    os.ftruncate(memfd, PAGE_SIZE)

    with pytest.raises(LocateError) as caught:
        locator.locate(memfd, offset, length, 0)

    assert caught.value.status is LocateStatus.OUT_OF_RANGE
    assert str(caught.value) == "out of range"


@pytest.mark.parametrize(
    ("size", "length", "status"),
    [
        (1, PAGE_SIZE, None),  # its page is a whole one
        (1, PAGE_SIZE + 1, LocateStatus.OUT_OF_RANGE),
        (0, 1, LocateStatus.OUT_OF_RANGE),
        (LARGEST_RANGE + 1, LARGEST_RANGE, None),
        (LARGEST_RANGE + 1, LARGEST_RANGE + 1, LocateStatus.LIMIT_EXCEEDED),
    ],
)
def test_ranges(size: int, length: int, status: LocateStatus | None) -> None:
    if status is None:
        check_range(0, length, size)
        return
    with pytest.raises(LocateError) as caught:
        check_range(0, length, size)
    assert caught.value.status is status


def test_file_that_shrinks_meanwhile(
    locator: PageLocator, memfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.ftruncate(memfd, 4 * PAGE_SIZE)
    populate = AlignedMapping.populate

    def shrink_first(mapping: AlignedMapping, start: int, end: int) -> None:
        os.ftruncate(memfd, PAGE_SIZE)
        populate(mapping, start, end)

    monkeypatch.setattr(AlignedMapping, "populate", shrink_first)

    with pytest.raises(LocateError) as caught:
        locator.locate(memfd, 0, 4 * PAGE_SIZE, 0)

    assert caught.value.status is LocateStatus.OUT_OF_RANGE


def test_file_that_shrinks_before_it_is_pinned(
    locator: PageLocator, memfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.ftruncate(memfd, 4 * PAGE_SIZE)
    entries = Pagemap.entries

    def read_then_shrink(pagemap: Pagemap, address: int, pages: int) -> Sequence[int]:
        found = entries(pagemap, address, pages)
        os.ftruncate(memfd, PAGE_SIZE)
        return found

    monkeypatch.setattr(Pagemap, "entries", read_then_shrink)
    before = open_fds().keys()

    with pytest.raises(LocateError) as caught:
        locator.locate(memfd, 0, 4 * PAGE_SIZE, 0)

    assert caught.value.status is LocateStatus.OUT_OF_RANGE
    assert open_fds().keys() == before


def test_pages_that_change_between_pinning_and_reading_are_not_reported(
    locator: PageLocator, memfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that punches holes meanwhile must not have a stranger's page exported."""
    os.ftruncate(memfd, 4 * PAGE_SIZE)
    entries = Pagemap.entries
    readings: list[list[int]] = []

    def other_pages(pagemap: Pagemap, address: int, pages: int) -> list[int]:
        found = [entry ^ len(readings) for entry in entries(pagemap, address, pages)]
        readings.append(found)
        return found

    monkeypatch.setattr(Pagemap, "entries", other_pages)

    with pytest.raises(LocateError) as caught:
        locator.locate(memfd, 0, 4 * PAGE_SIZE, 0)

    assert caught.value.status is LocateStatus.FAILED
    assert len(readings) > 2


def test_hidden_frame_numbers_are_not_permitted(
    locator: PageLocator, memfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.ftruncate(memfd, PAGE_SIZE)
    monkeypatch.setattr(Pagemap, "entries", lambda *_: [1 << 63])

    with pytest.raises(LocateError) as caught:
        locator.locate(memfd, 0, PAGE_SIZE, 0)

    assert caught.value.status is LocateStatus.NOT_PERMITTED


def test_pinned_pages_stay_when_somebody_collapses_them(
    locator: PageLocator, memfd: int
) -> None:
    fill(memfd, 2 * HUGE_SIZE)
    location = locator.locate(memfd, 0, 2 * HUGE_SIZE, 0)

    with AlignedMapping(memfd, 0, 2 * HUGE_SIZE) as mapping, suppress(OSError):
        mapping.collapse(0, 2 * HUGE_SIZE)

    assert pages_of(location.extents) == frames_of(memfd, 0, 2 * HUGE_SIZE)
    location.pin.close()


def test_pinned_pages_outlive_a_punched_hole_orphaned(
    locator: PageLocator, memfd: int
) -> None:
    fill(memfd, PAGE_SIZE)
    location = locator.locate(memfd, 0, PAGE_SIZE, 0)

    os.ftruncate(memfd, 0)
    os.ftruncate(memfd, 64 * PAGE_SIZE)

    # Were the page free, one of these would most likely be it.
    assert not set(pages_of(location.extents)) & set(
        frames_of(memfd, 0, 64 * PAGE_SIZE)
    )
    location.pin.close()


def test_collapse_makes_few_extents_of_many(locator: PageLocator, memfd: int) -> None:
    scatter(memfd, FRAME_4K)
    loose = locator.locate(memfd, 0, FRAME_4K, 0)
    loose.pin.close()
    if len(loose.extents) <= 300:
        pytest.skip(f"only {len(loose.extents)} extents: this memory is contiguous")

    location = locator.locate(memfd, 0, FRAME_4K, 300)
    location.pin.close()

    if len(location.extents) == len(loose.extents):
        pytest.skip("this kernel cannot collapse shared memory now")
    # 15 whole blocks; the tail of 420 pages is more than half of one.
    assert len(location.extents) <= 16
    assert os.pread(memfd, 4, FRAME_4K - 4) == b"\x5a" * 4
    assert os.fstat(memfd).st_size == FRAME_4K


def test_collapse_leaves_blocks_alone_of_which_it_covers_little(
    locator: PageLocator, memfd: int
) -> None:
    os.ftruncate(memfd, 512 << 20)
    length = 64 * PAGE_SIZE

    for offset in (0, HUGE_SIZE - length // 2, 100 << 20):
        location = locator.locate(memfd, offset, length, 1)
        location.pin.close()

    assert os.fstat(memfd).st_blocks * 512 == 3 * length


def test_frame_of_pages_in_several_pipes(
    locator: PageLocator, memfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy_guest.locating.pin.LARGEST_PIPE", 16 * PAGE_SIZE)
    fill(memfd, 100 * PAGE_SIZE)
    before = len(os.listdir("/proc/self/fd"))

    location = locator.locate(memfd, 0, 100 * PAGE_SIZE, 0)

    assert len(os.listdir("/proc/self/fd")) - before == 7
    location.pin.close()
    location.pin.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_that_cannot_be_mapped(locator: PageLocator) -> None:
    directory = os.open("/", os.O_RDONLY)

    with pytest.raises(LocateError) as caught:
        locator.locate(directory, 0, 1, 0)

    assert caught.value.status is LocateStatus.FAILED
    os.close(directory)


def test_token_is_placed_in_memory_of_its_own(locator: PageLocator) -> None:
    token = bytes(range(RAM_TOKEN_SIZE))

    location = locator.place_token(token)

    (extent,) = location.extents  # that it holds the token, only a host can see
    assert extent.length == PAGE_SIZE
    location.pin.close()
