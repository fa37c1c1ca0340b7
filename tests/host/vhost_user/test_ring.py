"""Every request to the disk is answered, with an error, and nothing a guest writes hangs us."""

import mmap
import os
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.vhost_user.front_end import (
    ADDRESS,
    AVAILABLE,
    DESCRIPTORS,
    GPA,
    NEXT,
    PAGE,
    RING_SIZE,
    SIZE,
    STATUS,
    UNTOUCHED,
    USED,
    WRITE,
    Guest,
)
from wlproxy.host.vhost_user.messages import MemoryRegion, VhostUserError
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.ring import Ring
from wlproxy.transport.fds import OwnedFd

IO_ERROR = 1
ALL = 1 << 16
"""More descriptors than any ring here has."""


def ring() -> Ring:
    made = Ring()
    made.size = RING_SIZE
    made.addresses = (ADDRESS + DESCRIPTORS, ADDRESS + USED, ADDRESS + AVAILABLE)
    return made


def ram_of(guest: Guest) -> Ram:
    ram = Ram()
    ram.add(Guest.region, OwnedFd(os.dup(guest.fd)))
    return ram


def test_a_request_fails(guest: Guest) -> None:
    with ram_of(guest) as ram:
        guest.request()
        assert ring().answer(ram, ALL) == 3
        assert guest.status == IO_ERROR
        assert guest.used() == [(0, 1)]


def test_each_is_answered_once_around_the_ring_and_beyond(guest: Guest) -> None:
    ours = ring()
    with ram_of(guest) as ram:
        for number in range(3 * RING_SIZE):
            guest.request(first=number % 4)
            assert ours.answer(ram, ALL) == 3
            assert guest.status == IO_ERROR
            assert ours.answer(ram, ALL) == 0
        assert ours.next == 3 * RING_SIZE


def test_indexes_wrap(guest: Guest) -> None:
    ours = ring()
    with ram_of(guest) as ram:
        for number in range(0x10000 + 3):
            guest.offer(0)
            if number % RING_SIZE == RING_SIZE - 1:
                assert ours.answer(ram, ALL) == RING_SIZE
        assert ours.answer(ram, ALL) == 3
        assert ours.next == 3


def test_a_request_without_a_status_is_given_back(guest: Guest) -> None:
    with ram_of(guest) as ram:
        guest.describe(0, GPA, 16, 0, 0)
        guest.offer(0)
        assert ring().answer(ram, ALL) == 1
        assert guest.used() == [(0, 0)]


def test_a_circle_ends(guest: Guest) -> None:
    with ram_of(guest) as ram:
        guest.describe(0, GPA + 3 * PAGE, 1, NEXT | WRITE, 1)
        guest.describe(1, GPA + 3 * PAGE, 1, NEXT | WRITE, 0)
        guest.offer(0)
        assert ring().answer(ram, ALL) == RING_SIZE


def test_a_turn_ends_and_what_is_left_is_due(guest: Guest) -> None:
    """Whole requests only: the last one may be longer than what is left of the turn."""
    ours = ring()
    with ram_of(guest) as ram:
        for _ in range(4):
            guest.request()
        assert ours.answer(ram, 4) == 6
        assert (len(guest.used()), ours.due) == (2, True)
        assert ours.answer(ram, 6) == 6
        assert (len(guest.used()), ours.due) == (4, False)


def test_what_was_asked_before_there_was_a_kick_is_due() -> None:
    with ring() as ours:
        assert not ours.due
        ours.set_kick(OwnedFd(os.eventfd(0)))
        due = [ours.due]
        ours.set_kick(None)
        assert [*due, ours.due] == [True, False]


def test_a_guest_that_takes_no_news_holds_up_nobody(guest: Guest) -> None:
    """Its eventfd is full: to write would be to wait."""
    with ring() as ours, ram_of(guest) as ram:
        call = OwnedFd(os.eventfd(0, os.EFD_NONBLOCK))
        os.eventfd_write(call.fileno(), 2**64 - 2)
        ours.set_call(call)
        guest.request()
        assert ours.answer(ram, ALL) == 3
        assert guest.status == IO_ERROR


def test_a_kick_that_somebody_else_has_taken() -> None:
    with ring() as ours:
        ours.set_kick(OwnedFd(os.eventfd(0, os.EFD_NONBLOCK)))
        ours.due = False
        ours.take_kick()
        assert not ours.due


@pytest.mark.parametrize(
    "descriptor",
    [
        (GPA + SIZE, 1, WRITE, 0),
        (GPA - 1, 1, WRITE, 0),
        (2**64 - 1, 2**32 - 1, WRITE, 0),
        (GPA, 16, NEXT, RING_SIZE),
        (GPA, 16, NEXT, 0xFFFF),
    ],
)
def test_what_is_not_in_ram_is_no_request(
    guest: Guest, descriptor: tuple[int, int, int, int]
) -> None:
    before = os.pread(guest.fd, SIZE, 0)
    with ram_of(guest) as ram:
        guest.describe(0, *descriptor)
        guest.offer(0)
        with pytest.raises(VhostUserError):
            ring().answer(ram, ALL)
    assert os.pread(guest.fd, SIZE, AVAILABLE + PAGE) == before[AVAILABLE + PAGE :]


def test_more_requests_than_entries_are_refused(guest: Guest) -> None:
    with ram_of(guest) as ram:
        os.pwrite(guest.fd, struct.pack("<H", RING_SIZE + 1), AVAILABLE + 2)
        with pytest.raises(VhostUserError, match="9 requests in a ring of 8"):
            ring().answer(ram, ALL)


def test_a_ring_that_nobody_described_has_no_requests(guest: Guest) -> None:
    with ram_of(guest) as ram:
        assert Ring().answer(ram, ALL) == 0


def test_ram_whose_file_ends_early(unsealed: Guest) -> None:
    with ram_of(unsealed) as ram:
        unsealed.request()
        os.ftruncate(unsealed.fd, PAGE)
        with pytest.raises(VhostUserError, match="ends before"):
            ring().answer(ram, ALL)


def test_ram_whose_file_ends_before_what_is_written(unsealed: Guest) -> None:
    """An error, and no SIGBUS, although it is mapped."""
    ours = ring()
    with ram_of(unsealed) as ram:
        unsealed.request()
        assert ours.answer(ram, ALL) == 3
        unsealed.request()
        os.ftruncate(unsealed.fd, STATUS)
        with pytest.raises(VhostUserError, match="cannot be written"):
            ours.answer(ram, ALL)


def test_ram_of_huge_pages_is_written_too() -> None:
    """Such a file has no write(2): a request would never be answered."""
    huge = 2 << 20
    flags = os.MFD_HUGETLB | os.MFD_HUGE_2MB
    with OwnedFd(os.memfd_create("ram", flags)) as fd:
        os.ftruncate(fd.fileno(), huge)
        try:
            mapped = mmap.mmap(fd.fileno(), huge)
        except OSError:
            pytest.skip("needs a free huge page: sysctl vm.nr_hugepages=1")
        with mapped:
            with pytest.raises(OSError, match="Invalid"):
                os.pwrite(fd.fileno(), b"x", 0)
            with Ram() as ram:
                region = MemoryRegion(GPA, huge, ADDRESS, 0)
                ram.add(region, fd.duplicate())
                mapped[DESCRIPTORS : DESCRIPTORS + 16] = struct.pack(
                    "<QIHH", GPA + STATUS, 1, WRITE, 0
                )
                mapped[AVAILABLE + 2 : AVAILABLE + 4] = struct.pack("<H", 1)
                mapped[STATUS] = UNTOUCHED
                assert ring().answer(ram, ALL) == 1
            assert mapped[STATUS] == IO_ERROR
            assert mapped[USED + 2 : USED + 4] == struct.pack("<H", 1)


@given(
    st.binary(min_size=16 * RING_SIZE, max_size=16 * RING_SIZE), st.binary(max_size=40)
)
def test_garbage_is_answered_or_refused(descriptors: bytes, available: bytes) -> None:
    with OwnedFd(os.memfd_create("ram")) as fd:
        guest = Guest(fd.fileno())
        os.pwrite(guest.fd, descriptors, DESCRIPTORS)
        os.pwrite(guest.fd, available, AVAILABLE)
        os.pwrite(guest.fd, bytes([UNTOUCHED]), SIZE - 1)
        with ram_of(guest) as ram, suppress(VhostUserError):
            assert ring().answer(ram, ALL) <= RING_SIZE * RING_SIZE
