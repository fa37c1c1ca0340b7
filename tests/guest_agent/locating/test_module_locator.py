"""What is done with the module's answers, and without the module.

With it: test_module_locator_lab.
"""

import errno
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.guest_agent.frames import sees_frames
from wlproxy.protocol.channel.frames import RAM_TOKEN_SIZE, Feature, LocateStatus
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.mapping import PAGE_SIZE
from wlproxy_guest.locating.module_locator import (
    ModuleLocator,
    explain_refusal,
    locked_bytes,
    over_memlock,
)
from wlproxy_guest.locating.page_locator import LocateError
from wlproxy_guest.locating.pin import KeptFds


@pytest.fixture
def without() -> Iterator[ModuleLocator]:
    """A locator on a machine without the module."""
    locator = ModuleLocator("/nonexistent")
    yield locator
    locator.close()


def test_without_the_module_there_are_memfds(without: ModuleLocator) -> None:
    assert without.find_features() == Feature.LOCATE_MEMFD


@sees_frames
def test_without_the_module_the_pagemap_is_asked(without: ModuleLocator) -> None:
    without.place_token(bytes(RAM_TOKEN_SIZE)).pin.close()


def test_without_the_module_ranges_are_checked(without: ModuleLocator) -> None:
    fd = os.memfd_create("x")
    with pytest.raises(LocateError) as caught:
        without.locate(fd, 0, 1, 0)
    assert caught.value.status is LocateStatus.OUT_OF_RANGE
    os.close(fd)


def test_a_device_that_cannot_be_used_is_complained_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    locator = ModuleLocator("/dev/null")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert locator.find_features() == Feature.LOCATE_MEMFD
    (record,) = caplog.records
    assert "/dev/null cannot be used" in record.message
    locator.close()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.EBADFD, LocateStatus.UNSUPPORTED),
        (errno.EREMOTE, LocateStatus.UNSUPPORTED),
        (errno.EXDEV, LocateStatus.UNSUPPORTED),
        (errno.EOPNOTSUPP, LocateStatus.UNSUPPORTED),
        (errno.EDQUOT, LocateStatus.LIMIT_EXCEEDED),
        (errno.EINVAL, LocateStatus.OUT_OF_RANGE),
        (errno.EACCES, LocateStatus.FAILED),
        (errno.EMFILE, LocateStatus.FAILED),
        (errno.EIO, LocateStatus.FAILED),
    ],
)
def test_refusals_of_memfds(number: int, status: LocateStatus) -> None:
    refused = explain_refusal(OSError(number, "x"), PAGE_SIZE, dmabuf=False)
    assert refused.status is status


def test_an_exporter_may_find_something_invalid_itself() -> None:
    refused = explain_refusal(OSError(errno.EINVAL, "x"), PAGE_SIZE, dmabuf=True)
    assert (refused.status, refused.errno) == (LocateStatus.FAILED, errno.EINVAL)


@given(st.integers(0, 4095), st.integers(1, 2**63), st.booleans())
def test_every_refusal_can_be_answered(number: int, length: int, dmabuf: bool) -> None:
    refused = explain_refusal(OSError(number, "x"), length, dmabuf=dmabuf)
    assert (refused.status is LocateStatus.FAILED) == bool(refused.errno)
    assert refused.status not in (LocateStatus.OK, LocateStatus.NOT_PERMITTED)


def test_no_memory_is_a_limit_only_if_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    exc = OSError(errno.ENOMEM, "x")
    monkeypatch.setattr("resource.getrlimit", lambda _: (1 << 20, 1 << 20))
    refused = explain_refusal(exc, 2 << 20, dmabuf=True)
    assert refused.status is LocateStatus.LIMIT_EXCEEDED
    refused = explain_refusal(exc, 1, dmabuf=True)
    assert (refused.status, refused.errno) == (LocateStatus.FAILED, errno.ENOMEM)
    monkeypatch.setattr("resource.getrlimit", lambda _: (-1, -1))
    assert not over_memlock(1 << 60)


def test_locked_bytes_are_read() -> None:
    assert locked_bytes() % 1024 == 0


def test_kept_fds_are_closed_once() -> None:
    fds = os.pipe()
    pin = KeptFds(*map(OwnedFd, fds))
    pin.close()
    pin.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
