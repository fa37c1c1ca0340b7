"""Tells whether page frame numbers may be seen here."""

import os

import pytest

from wlproxy_guest.locating.mapping import PAGE_SIZE, AlignedMapping
from wlproxy_guest.locating.pagemap import Pagemap, hides_frames


def may_see_frames() -> bool:
    fd = os.memfd_create("probe")
    os.ftruncate(fd, PAGE_SIZE)
    pagemap = Pagemap()
    try:
        with AlignedMapping(fd, 0, PAGE_SIZE) as mapping:
            mapping.populate(0, PAGE_SIZE)
            return not hides_frames(pagemap.entries(mapping.address, 1))
    finally:
        pagemap.close()
        os.close(fd)


sees_frames = pytest.mark.skipif(
    not may_see_frames(), reason="page frame numbers need CAP_SYS_ADMIN"
)
