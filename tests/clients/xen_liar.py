"""The guest agent in a domain of Xen's with one part replaced: it lies about what it has granted.

    echo KIND > /run/lie; python3 -m tests.clients.xen_liar [AGENT OPTIONS]

The proof and all else is the real agent's.  Which lie to tell is read from the file each time; an
empty one is the truth.  Needs root, and xen-gntalloc for what is granted read-only.
"""

import fcntl
import json
import os
import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from wlproxy.protocol.channel.extents import Extents
from wlproxy_guest import cli
from wlproxy_guest.locating.grant_locator import GrantLocator
from wlproxy_guest.locating.page_locator import PinnedRange

LIE = Path("/run/lie")
REFS = Path("/run/refs")
"""References of another domain's, as a JSON list."""
PAGE = 4096
ALLOC = 0x184705
"""IOCTL_GNTALLOC_ALLOC_GREF (include/uapi/xen/gntalloc.h): domid, flags, count, index, refs."""
FAR = 20_000
"""A reference that nothing is granted by."""


def singly(refs: list[int]) -> Extents:
    """Say that pages are these."""
    return Extents(array("Q", [n for ref in refs for n in (ref * PAGE, PAGE)]))


def read_only(pages: int) -> list[int]:
    """Grant pages that may only be read; they stay so until this process ends."""
    device = os.open("/dev/xen/gntalloc", os.O_RDWR | os.O_CLOEXEC)
    argument = bytearray(struct.pack("=HHIQ", 0, 0, pages, 0) + bytes(4 * pages))
    fcntl.ioctl(device, ALLOC, argument)
    return list(array("I", bytes(argument[16:])))


def another_domains(pages: int) -> list[int]:
    """Name what a test has had another domain grant."""
    refs: list[int] = json.loads(REFS.read_text())
    return refs[:pages]


REVOKED_BEFORE, REVOKED_WHILE_SHOWN = "revoked before", "revoked while shown"
NAMED: dict[str, Callable[[int, int], list[int]]] = {
    "never granted": lambda _first, pages: [*range(FAR, FAR + pages)],
    "another domain's": lambda _first, pages: another_domains(pages),
    "read-only": lambda _first, pages: read_only(pages),
    "repeated": lambda first, pages: [first] * pages,
    "a million": lambda first, _pages: [first] * 1_000_000,
    "beyond the table": lambda _first, pages: [*range(1 << 30, (1 << 30) + pages)],
    "Xen's own": lambda _first, pages: [*range(pages)],
}
"""Lies -> the references that are named, by the first one granted and how many pages there are."""
LIES = (*NAMED, REVOKED_BEFORE, REVOKED_WHILE_SHOWN)


class LyingLocator(GrantLocator):
    """Grants what it should, and says that it is something else."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        super().__init__()
        self._told: list[PinnedRange] = []

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """As `GrantLocator`, and then the lie of the moment."""
        location = super().locate(fd, offset, length, collapse_above)
        lie = LIE.read_text().strip() if LIE.exists() else ""
        if lie:
            print(f"liar: {lie}", file=sys.stderr, flush=True)
            location = self._lie(lie, location)
        self._told.append(location)
        return location

    def _lie(self, lie: str, location: PinnedRange) -> PinnedRange:
        pages = sum(each.length for each in location.extents) // PAGE
        first = location.extents[0].gpa // PAGE
        if lie == REVOKED_BEFORE:
            location.pin.close()
            return location
        if lie == REVOKED_WHILE_SHOWN:
            for each in self._told:
                each.pin.close()
            return location
        return replace(location, extents=singly(NAMED[lie](first, pages)))


if __name__ == "__main__":
    assert "make_locator" in vars(cli)  # else nothing is replaced
    vars(cli)["make_locator"] = LyingLocator
    sys.exit(cli.main())
