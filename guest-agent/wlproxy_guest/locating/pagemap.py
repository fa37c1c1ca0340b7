"""Reads the page frame numbers of our own mappings, and joins them into extents.

The kernel documents the format in admin-guide/mm/pagemap.rst: 8 bytes for each page.  Bits
0-54 are the page frame number (shown to CAP_SYS_ADMIN; others get 0), and bit 63 says that
the page is present.  Keeping pages where they are is the job of `pin`;
`page_locator` does the one after the other.
"""

import os
from array import array
from collections.abc import Sequence
from typing import Final

from wlproxy.protocol.channel.extents import Extents
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.mapping import PAGE_SIZE

ENTRY_SIZE: Final = 8
PFN_MASK: Final = (1 << 55) - 1
PRESENT: Final = 1 << 63


class Pagemap:
    """`/proc/self/pagemap`, open.  The opener's CAP_SYS_ADMIN is what counts."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        """Open it.

        Raises:
            OSError: there is no /proc.
        """
        self._fd = OwnedFd(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Close it; again is harmless."""
        self._fd.close()

    def entries(self, address: int, pages: int) -> Sequence[int]:
        """Read the raw entries of `pages` pages from page-aligned `address`.

        Raises:
            OSError: the read failed, or the address space ends before.
        """
        remaining = pages * ENTRY_SIZE
        offset = address // PAGE_SIZE * ENTRY_SIZE
        found = array("Q")
        while remaining:
            chunk = os.pread(self._fd.fileno(), remaining, offset)
            if not chunk:
                raise OSError(0, "pagemap ends early")
            # Reads of pagemap are whole entries, on its side of the contract.
            found.frombytes(chunk)
            remaining -= len(chunk)
            offset += len(chunk)
        return found


def all_present(entries: Sequence[int]) -> bool:
    """Whether every page is mapped just now."""
    return min(entries) >= PRESENT  # the top bit: quicker than looking at each


def same_pages(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether two readings show the same page frames (the other bits may differ)."""
    return before == after or [entry & PFN_MASK for entry in before] == [
        entry & PFN_MASK for entry in after
    ]


def hides_frames(entries: Sequence[int]) -> bool:
    """Tell whether the kernel hid the numbers: page frame 0 is never a file's page.

    It decides that when the pagemap is opened, so for all of them or none.
    """
    return not entries[0] & PFN_MASK


def to_extents(entries: Sequence[int]) -> Extents:
    """Join neighbouring page frames, in the order of the file."""
    words: list[int] = []
    add, first, expected = words.append, 0, -1
    for entry in entries:
        pfn = entry & PFN_MASK
        if pfn != expected:
            add((expected - first) * PAGE_SIZE)
            add(pfn * PAGE_SIZE)
            first = pfn
        expected = pfn + 1
    add((expected - first) * PAGE_SIZE)
    return Extents(array("Q", words[1:]))  # before the first extent is none
