"""The guest agent with one part replaced: it lies about where pages are.

    echo KIND > /run/lie; python3 -m tests.clients.hostile_agent [AGENT OPTIONS]

The proof of RAM and all else is the real agent's, so the host believes it so far.  Which
lie to tell is read from the file each time; an empty one is the truth.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from wlproxy.protocol.channel.frames import Extent
from wlproxy_guest import cli
from wlproxy_guest.locating.module_locator import ModuleLocator
from wlproxy_guest.locating.page_locator import PinnedRange

LIE = Path("/run/lie")
PAGE = 4096
TOP = 1 << 64
Extents = Sequence[Extent]


def _with_first(extents: Extents, first: Extent) -> Extents:
    return (first, *extents[1:])


LIES: dict[str, Callable[[Extents], Extents]] = {
    "outside": lambda all_: _with_first(all_, Extent(1 << 44, all_[0].length)),
    "in the hole": lambda all_: _with_first(all_, Extent(0xF000_0000, all_[0].length)),
    "beyond the end": lambda all_: _with_first(all_, Extent(1 << 30, all_[0].length)),
    "unaligned": lambda all_: _with_first(
        all_, Extent(all_[0].gpa + 8, all_[0].length)
    ),
    "part of a page": lambda all_: _with_first(
        all_, Extent(all_[0].gpa, all_[0].length + 12)
    ),
    "overflowing": lambda all_: _with_first(all_, Extent(TOP - PAGE, all_[0].length)),
    "endless": lambda all_: _with_first(all_, Extent(all_[0].gpa, TOP - PAGE)),
    "empty": lambda all_: (Extent(all_[0].gpa, 0), *all_),
    "too little": lambda all_: all_[:-1],
    "silent": lambda _all: (),  # without extents there is no frame to send
    "too much": lambda all_: (*all_, Extent(PAGE, PAGE)),
    "overlapping": lambda all_: tuple(
        Extent(all_[0].gpa, PAGE) for _ in range(_pages(all_))
    ),
    "a million": lambda all_: (Extent(all_[0].gpa, PAGE),) * 1_000_000,
}


def _pages(extents: Extents) -> int:
    return sum(each.length for each in extents) // PAGE


class LyingLocator(ModuleLocator):
    """Pins what it should, and says that it is elsewhere."""

    __slots__ = ("_honest",)

    def __init__(self) -> None:
        super().__init__()
        self._honest = ModuleLocator()

    def close(self) -> None:
        """Close both."""
        self._honest.close()
        super().close()

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """As `ModuleLocator`, and then the lie of the moment."""
        location = super().locate(fd, offset, length, collapse_above)
        lie = LIE.read_text().strip() if LIE.exists() else ""
        if not lie:
            return location
        print(f"hostile agent: {lie}", file=sys.stderr, flush=True)
        return replace(location, extents=LIES[lie](location.extents))

    def place_token(self, token: bytes) -> PinnedRange:
        """The truth."""
        return self._honest.place_token(token)


if __name__ == "__main__":
    assert "make_locator" in vars(cli)  # else nothing is replaced
    vars(cli)["make_locator"] = LyingLocator
    sys.exit(cli.main())
