"""The agent and the real gem_locate module: memfds, dma-bufs of each kind, fences.

In the lab's host VM, as root, which has the module.  That the *addresses* of dma-bufs are
right is seen from outside the machine: by `kernel/udmabuf/vmtest.py`, and by whoever
compares pixels.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.guest_agent.exporters import (
    PAGE,
    MissingExporterError,
    dmabuf_of,
    make_udmabuf,
)
from tests.guest_agent.fakes import adopt, scatter
from wlproxy.protocol.channel.frames import (
    RAM_TOKEN_SIZE,
    AttachmentFlags,
    AttachmentKind,
    Extent,
    Feature,
    LocateStatus,
)
from wlproxy_guest.attachments import FdDescription, describe_fd
from wlproxy_guest.locating.module_locator import ModuleLocator
from wlproxy_guest.locating.page_locator import LocateError, PageLocator

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("device")]

KINDS = ["udmabuf", "dma-heap", "vgem", "virtio_gpu"]
PAGES = 300
FRAME_4K = 3840 * 2160 * 4
LIMITED = """
import os, resource
from wlproxy_guest.locating.page_locator import LocateError
from wlproxy_guest.locating.module_locator import ModuleLocator

resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
locator = ModuleLocator()
locator.find_features()
os.setuid(54321)
fd = os.memfd_create("x")
os.ftruncate(fd, 1 << 20)
kept = locator.locate(fd, 0, 65536, 0)
try:
    locator.locate(fd, 0, 4096, 0)
except LocateError as exc:
    print(exc.status.name)
kept.pin.close()
locator.locate(fd, 0, 4096, 0)
"""


@pytest.fixture
def locator() -> Iterator[ModuleLocator]:
    locator = ModuleLocator()
    assert locator.find_features() == Feature.LOCATE_MEMFD | Feature.LOCATE_DMABUF
    yield locator
    locator.close()


@pytest.fixture
def pagemap() -> Iterator[PageLocator]:
    locator = PageLocator()
    yield locator
    locator.close()


def new_memfd(closing: ExitStack, size: int) -> int:
    fd = adopt(closing, os.memfd_create("m", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    os.ftruncate(fd, size)
    return fd


@contextmanager
def dmabuf(kind: str, pages: int = PAGES) -> Iterator[int]:
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(dmabuf_of(kind, pages))
        except MissingExporterError as exc:
            pytest.skip(str(exc))
        yield fd


def pages_of(extents: Sequence[Extent]) -> list[int]:
    return [
        page
        for extent in extents
        for page in range(extent.gpa, extent.gpa + extent.length, PAGE)
    ]


# ---------------------------------------------------------------- memfds


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, PAGE), (0, FRAME_4K), (100, 1), (PAGE - 1, 2), (7 * PAGE, 50 * PAGE + 13)],
)
def test_memfd_is_where_the_pagemap_says(
    closing: ExitStack,
    locator: ModuleLocator,
    pagemap: PageLocator,
    offset: int,
    length: int,
) -> None:
    fd = new_memfd(closing, FRAME_4K)
    location = locator.locate(fd, offset, length, 0)
    by_pagemap = pagemap.locate(fd, offset, length, 0)

    assert location.extents == by_pagemap.extents
    assert location.pinned == by_pagemap.pinned
    assert location.dmabuf == -1
    by_pagemap.pin.close()
    location.pin.close()


def test_memfd_needs_no_pagemap(
    closing: ExitStack, locator: ModuleLocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PageLocator, "locate", None)
    fd = new_memfd(closing, 3 * PAGE)

    locator.locate(fd, 0, 3 * PAGE, 0).pin.close()


def test_pinned_pages_stay_when_a_hole_is_punched(
    closing: ExitStack, locator: ModuleLocator, pagemap: PageLocator
) -> None:
    fd = new_memfd(closing, 64 * PAGE)
    location = locator.locate(fd, 0, PAGE, 0)
    os.ftruncate(fd, 0)
    os.ftruncate(fd, 64 * PAGE)
    others = pagemap.locate(fd, 0, 64 * PAGE, 0)

    assert not set(pages_of(location.extents)) & set(pages_of(others.extents))
    others.pin.close()
    location.pin.close()


def test_memfd_is_collapsed_above_so_many_extents(
    closing: ExitStack, locator: ModuleLocator, pagemap: PageLocator
) -> None:
    fd = new_memfd(closing, FRAME_4K)
    scatter(fd, FRAME_4K)
    loose = locator.locate(fd, 0, FRAME_4K, 0)
    loose.pin.close()
    if len(loose.extents) <= 300:
        pytest.skip(f"only {len(loose.extents)} extents: this memory is contiguous")

    location = locator.locate(fd, 0, FRAME_4K, 300)

    if len(location.extents) == len(loose.extents):
        pytest.skip("this kernel cannot collapse shared memory now")
    assert len(location.extents) <= 16
    assert os.pread(fd, 4, FRAME_4K - 4) == b"\x5a" * 4
    by_pagemap = pagemap.locate(fd, 0, FRAME_4K, 0)
    assert location.extents == by_pagemap.extents
    by_pagemap.pin.close()
    location.pin.close()


def test_what_the_module_does_not_know_the_pagemap_may(
    locator: ModuleLocator, pagemap: PageLocator
) -> None:
    # A file of the root file system, which is not tmpfs.
    fd = os.open(sys.executable, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            expected = pagemap.locate(fd, 0, PAGE, 0)
        except LocateError as exc:
            pytest.skip(f"no such file here: {exc}")
        location = locator.locate(fd, 0, PAGE, 0)
        assert location.extents == expected.extents
        location.pin.close()
        expected.pin.close()
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 2 * PAGE), (PAGE, 1), (1 << 62, 1), (0, 1 << 62), (0, 0), (2**64 - 2, 1)],
)
@pytest.mark.parametrize("kind", ["memfd", "udmabuf"])
def test_outside(
    closing: ExitStack, locator: ModuleLocator, kind: str, offset: int, length: int
) -> None:
    fd = new_memfd(closing, PAGE)
    if kind == "udmabuf":
        fd = adopt(closing, make_udmabuf(fd, 0, PAGE))

    with pytest.raises(LocateError) as caught:
        locator.locate(fd, offset, length, 0)

    assert caught.value.status is LocateStatus.OUT_OF_RANGE


def test_token_is_placed(locator: ModuleLocator) -> None:
    location = locator.place_token(bytes(RAM_TOKEN_SIZE))

    (extent,) = location.extents
    assert extent.length == PAGE
    location.pin.close()


# ---------------------------------------------------------------- dma-bufs


@pytest.mark.parametrize("kind", KINDS)
def test_dmabuf_is_described_and_located(locator: ModuleLocator, kind: str) -> None:
    with dmabuf(kind) as fd:
        assert describe_fd(fd) == FdDescription(
            AttachmentKind.MEMORY,
            AttachmentFlags.MEMORY_WRITABLE | AttachmentFlags.MEMORY_DMABUF,
            PAGES * PAGE,
        )
        whole = locator.locate(fd, 0, PAGES * PAGE, 0)
        part = locator.locate(fd, 5 * PAGE + 7, 10 * PAGE, 0)

    pages = pages_of(whole.extents)
    assert len(pages) == len(set(pages)) == PAGES
    assert all(page % PAGE == 0 for page in pages)
    for extent, following in zip(whole.extents, whole.extents[1:], strict=False):
        assert extent.gpa + extent.length != following.gpa
    assert pages_of(part.extents) == pages[5:16]
    assert whole.pinned == part.pinned == PAGES * PAGE
    # It is still there, although the app has closed it.
    assert describe_fd(whole.dmabuf).size == PAGES * PAGE
    whole.pin.close()
    part.pin.close()


def test_udmabuf_is_where_its_memfd_is(
    closing: ExitStack, locator: ModuleLocator, pagemap: PageLocator
) -> None:
    memfd = new_memfd(closing, PAGES * PAGE)
    fd = adopt(closing, make_udmabuf(memfd, 3 * PAGE, 200 * PAGE))
    expected = pagemap.locate(memfd, 3 * PAGE, 200 * PAGE, 0)
    location = locator.locate(fd, 0, 200 * PAGE, 0)

    assert location.extents == expected.extents
    location.pin.close()
    expected.pin.close()


def test_over_rlimit_memlock_is_over_a_limit() -> None:
    # In a process that is not root, for which there is no limit.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("LIMIT_EXCEEDED\n", 0), done.stderr
