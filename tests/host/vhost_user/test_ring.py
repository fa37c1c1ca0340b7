"""Every request to the disk is answered, with an error, and nothing a guest writes hangs us."""

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
    UNTOUCHED,
    USED,
    WRITE,
    Guest,
)
from wlproxy.host.vhost_user.messages import VhostUserError
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.ring import Ring
from wlproxy.transport.fds import OwnedFd

IO_ERROR = 1


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
        assert ring().answer(ram) == 1
        assert guest.status == IO_ERROR
        assert guest.used() == [(0, 1)]


def test_each_is_answered_once_around_the_ring_and_beyond(guest: Guest) -> None:
    ours = ring()
    with ram_of(guest) as ram:
        for number in range(3 * RING_SIZE):
            guest.request(first=number % 4)
            assert ours.answer(ram) == 1
            assert guest.status == IO_ERROR
            assert ours.answer(ram) == 0
        assert ours.next == 3 * RING_SIZE


def test_indexes_wrap(guest: Guest) -> None:
    ours = ring()
    with ram_of(guest) as ram:
        for number in range(0x10000 + 3):
            guest.offer(0)
            if number % RING_SIZE == RING_SIZE - 1:
                assert ours.answer(ram) == RING_SIZE
        assert ours.answer(ram) == 3
        assert ours.next == 3


def test_a_request_without_a_status_is_given_back(guest: Guest) -> None:
    with ram_of(guest) as ram:
        guest.describe(0, GPA, 16, 0, 0)
        guest.offer(0)
        assert ring().answer(ram) == 1
        assert guest.used() == [(0, 0)]


def test_a_circle_ends(guest: Guest) -> None:
    with ram_of(guest) as ram:
        guest.describe(0, GPA + 3 * PAGE, 1, NEXT | WRITE, 1)
        guest.describe(1, GPA + 3 * PAGE, 1, NEXT | WRITE, 0)
        guest.offer(0)
        assert ring().answer(ram) == 1


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
            ring().answer(ram)
    assert os.pread(guest.fd, SIZE, AVAILABLE + PAGE) == before[AVAILABLE + PAGE :]


def test_more_requests_than_entries_are_refused(guest: Guest) -> None:
    with ram_of(guest) as ram:
        os.pwrite(guest.fd, struct.pack("<H", RING_SIZE + 1), AVAILABLE + 2)
        with pytest.raises(VhostUserError, match="9 requests in a ring of 8"):
            ring().answer(ram)


def test_a_ring_that_nobody_described_has_no_requests(guest: Guest) -> None:
    with ram_of(guest) as ram:
        assert Ring().answer(ram) == 0


def test_ram_whose_file_ends_early(guest: Guest) -> None:
    with ram_of(guest) as ram:
        guest.request()
        os.ftruncate(guest.fd, PAGE)
        with pytest.raises(VhostUserError, match="ends before"):
            ring().answer(ram)


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
            assert ring().answer(ram) <= RING_SIZE
