"""What is copied is carried to who pastes, or it is said that it does not come."""

import os

import pytest

from bench.clipboard import carry
from bench.processes import StalledError

LARGE = memoryview(bytes(1 << 20))
"""More than a pipe holds."""


def test_all_of_it_comes() -> None:
    reading, writing = os.pipe()
    carry(LARGE, writing, reading)
    for fd in (reading, writing):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_who_takes_nothing_more_has_stalled() -> None:
    unread, writing = os.pipe()
    reading, unwritten = os.pipe()
    try:
        with pytest.raises(StalledError, match="1048576 bytes"):
            carry(LARGE, writing, reading, patience=0)
    finally:
        os.close(unread)
        os.close(unwritten)


def test_what_ends_early_is_lost() -> None:
    unread, writing = os.pipe()
    reading, unwritten = os.pipe()
    os.write(unwritten, bytes(76))
    os.close(unwritten)
    try:
        with pytest.raises(StalledError, match="1048500 bytes"):
            carry(LARGE, writing, reading)
    finally:
        os.close(unread)
