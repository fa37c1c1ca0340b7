"""What is done with gem_grant's answers.  The module itself needs a domain of Xen's."""

import errno
import logging
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from wlproxy.protocol.channel.frames import (
    RAM_TOKEN_SIZE,
    Extent,
    Feature,
    LocateStatus,
)
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating import grant_locator, module_locator
from wlproxy_guest.locating.grant_locator import (
    GrantLocator,
    explain_open,
    explain_refusal,
)
from wlproxy_guest.locating.locators import make_locator
from wlproxy_guest.locating.module_locator import ModuleLocator
from wlproxy_guest.locating.page_locator import LARGEST_RANGE, LocateError

PAGE = 4096


class FakeModule:
    """The module, without pages: gives references out from 8 on, a page apart if torn."""

    domid = 0
    opened: "ClassVar[FakeModule]"
    """The last one."""

    def __init__(self, path: str) -> None:
        if path == "/none":
            raise FileNotFoundError(errno.ENOENT, "no such device")
        FakeModule.opened = self
        self.next = 8
        self.torn = self.lies = False
        self.fails = 0
        self.asked: list[tuple[int, int]] = []
        self.contents: list[bytes] = []
        self.runs: dict[int, array[int]] = {}
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def grant(self, fd: int, offset: int, length: int) -> tuple[OwnedFd, int]:
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        self.asked.append((offset, length))
        self.contents.append(os.pread(fd, 40, offset))
        pages = length // PAGE - self.lies
        runs = [(self.next + 2 * at, 1) for at in range(pages)]
        if not self.torn:
            runs = [(self.next, pages)]
        self.next += 2 * pages
        kept = OwnedFd(os.memfd_create("kept"))
        self.runs[kept.fileno()] = array("I", (word for run in runs for word in run))
        return kept, len(runs)


@pytest.fixture
def locator(monkeypatch: pytest.MonkeyPatch) -> Iterator[GrantLocator]:
    monkeypatch.setattr(grant_locator, "GemGrant", FakeModule)
    made = GrantLocator("/there")
    module(made)
    monkeypatch.setattr(
        grant_locator, "read_runs", lambda kept, _: module(made).runs[kept.fileno()]
    )
    yield made
    made.close()


def module(locator: GrantLocator) -> FakeModule:
    """The fake, opened as the device is: when it is asked what it can do."""
    locator.find_features()
    return FakeModule.opened


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("app")
    os.ftruncate(fd, 5 * PAGE + 100)
    yield fd
    os.close(fd)


def test_what_it_can(locator: GrantLocator) -> None:
    wanted = Feature.LOCATE_MEMFD | Feature.LOCATE_DMABUF | Feature.GRANTS
    assert locator.find_features() == wanted


def test_a_range_is_granted_in_whole_pages(locator: GrantLocator, memory: int) -> None:
    found = locator.locate(memory, PAGE + 10, 2 * PAGE, 0)
    assert tuple(found.extents) == (Extent(8 * PAGE, 3 * PAGE),)
    assert (found.pinned, found.dmabuf) == (3 * PAGE, -1)
    assert module(locator).asked == [(PAGE, 3 * PAGE)]
    found.pin.close()


def test_references_that_are_no_neighbours(locator: GrantLocator, memory: int) -> None:
    module(locator).torn = True
    found = locator.locate(memory, 0, 3 * PAGE, 1)
    assert tuple(found.extents) == tuple(
        Extent(ref * PAGE, PAGE) for ref in (8, 10, 12)
    )
    assert len(module(locator).asked) == 1  # and none is brought together
    found.pin.close()


def test_the_last_page_of_a_file(locator: GrantLocator, memory: int) -> None:
    locator.locate(memory, 5 * PAGE, 100, 0).pin.close()
    with pytest.raises(LocateError) as caught:
        locator.locate(memory, 5 * PAGE, PAGE + 1, 0)
    assert caught.value.status is LocateStatus.OUT_OF_RANGE
    assert module(locator).asked == [(5 * PAGE, PAGE)]


def test_a_token_is_granted_as_any_memory(locator: GrantLocator) -> None:
    token = bytes(range(RAM_TOKEN_SIZE))
    found = locator.place_token(token)
    assert module(locator).contents == [token.ljust(40, b"\0")]
    assert found.extents[0] == Extent(8 * PAGE, PAGE)
    found.pin.close()


def test_a_module_that_grants_less(locator: GrantLocator, memory: int) -> None:
    module(locator).lies = True
    with pytest.raises(LocateError) as caught:
        locator.locate(memory, 0, 3 * PAGE, 0)
    assert (caught.value.status, caught.value.errno) == (
        LocateStatus.FAILED,
        errno.EPROTO,
    )


def test_more_than_a_buffer_can_be(locator: GrantLocator) -> None:
    fd = os.memfd_create("huge")
    os.ftruncate(fd, LARGEST_RANGE + PAGE)
    with pytest.raises(LocateError) as caught:
        locator.locate(fd, 0, LARGEST_RANGE + 1, 0)
    assert caught.value.status is LocateStatus.LIMIT_EXCEEDED
    os.close(fd)


def test_a_full_table_is_a_sentence(
    locator: GrantLocator, memory: int, caplog: pytest.LogCaptureFixture
) -> None:
    module(locator).fails = errno.ENOSPC
    with pytest.raises(LocateError) as caught:
        locator.locate(memory, 0, PAGE, 0)
    assert caught.value.status is LocateStatus.LIMIT_EXCEEDED
    assert "max_grant_frames" in caplog.text


@pytest.mark.parametrize(
    ("number", "status"),
    [
        *((each, LocateStatus.UNSUPPORTED) for each in grant_locator.NOT_GRANTED),
        (errno.EINVAL, LocateStatus.OUT_OF_RANGE),
        (errno.EDQUOT, LocateStatus.LIMIT_EXCEEDED),
        (errno.EMFILE, LocateStatus.FAILED),
        (errno.EINTR, LocateStatus.FAILED),
    ],
)
def test_refusals(number: int, status: LocateStatus) -> None:
    refused = explain_refusal(OSError(number, ""), PAGE)
    assert refused.status is status
    assert refused.errno == (number if status is LocateStatus.FAILED else 0)


def test_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    no_memory = OSError(errno.ENOMEM, "")
    monkeypatch.setattr(module_locator, "over_memlock", lambda _: True)
    assert explain_refusal(no_memory, PAGE).status is LocateStatus.LIMIT_EXCEEDED
    monkeypatch.setattr(module_locator, "over_memlock", lambda _: False)
    assert explain_refusal(no_memory, PAGE).status is LocateStatus.FAILED


def test_without_the_module_nothing_is_located(
    monkeypatch: pytest.MonkeyPatch, memory: int, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grant_locator, "GemGrant", FakeModule)
    locator = GrantLocator("/none")
    with caplog.at_level(logging.WARNING):
        assert locator.find_features() is Feature.NONE
        assert locator.find_features() is Feature.NONE
    [record] = caplog.records
    assert "gem_grant" in record.message
    with pytest.raises(LocateError) as caught:
        locator.locate(memory, 0, PAGE, 0)
    assert caught.value.status is LocateStatus.NOT_PERMITTED
    locator.close()


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "udev rule"), (errno.EPERM, "xen.conf"), (errno.EIO, "ouch")],
)
def test_why_the_device_cannot_be_used(number: int, words: str) -> None:
    assert words in explain_open(OSError(number, "ouch"))


def test_each_machine_has_its_locator(tmp_path: Path) -> None:
    (tmp_path / "type").write_text("xen\n")
    for kind, wanted in ((tmp_path / "type", GrantLocator), ("none", ModuleLocator)):
        locator = make_locator(tmp_path / kind)
        assert isinstance(locator, wanted)
        locator.close()
