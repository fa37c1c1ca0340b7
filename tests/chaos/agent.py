"""The guest agent with one part replaced, for where there is no guest.

    WLPROXY_CHAOS_RAM=PATH python3 -m tests.chaos.agent [AGENT OPTIONS]

It pins an app's pages as the real one does where there is no kernel module, in pipes; but
they are not in the RAM of `tests.chaos.machine`, so a copy of them, made when they are
located, is.  What windows show is therefore not looked at here: the lab is for that.
"""

import errno
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.machine import RAM_SIZE
from wlproxy.protocol.channel.frames import Extent, Feature, LocateStatus
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest import cli
from wlproxy_guest.locating.mapping import AlignedMapping, pages_of
from wlproxy_guest.locating.page_locator import (
    LocateError,
    Locator,
    Pin,
    PinnedRange,
    check_range,
)
from wlproxy_guest.locating.pin import PipePin


class Room:
    """Which ranges of the RAM are free; the first that fits is taken."""

    def __init__(self, size: int) -> None:
        self._free = [(0, size)]
        self._lock = threading.Lock()

    def take(self, length: int) -> int:
        """Take a range.

        Raises:
            LocateError: there is none so long.
        """
        with self._lock:
            for index, (start, size) in enumerate(self._free):
                if size >= length:
                    self._free[index] = (start + length, size - length)
                    return start
        raise LocateError(LocateStatus.FAILED, errno.ENOMEM)

    def give_back(self, start: int, length: int) -> None:
        """Have a range free again, one with its neighbours."""
        with self._lock:
            merged: list[tuple[int, int]] = []
            for begin, size in sorted([*self._free, (start, length)]):
                if merged and sum(merged[-1]) == begin:
                    merged[-1] = (merged[-1][0], merged[-1][1] + size)
                elif size:
                    merged.append((begin, size))
            self._free = merged


@dataclass(slots=True)
class RangePin(Closing):
    """What holds an app's pages, a range of the RAM that stands for them, and a file."""

    room: Room
    pages: Pin = field(default_factory=PipePin)
    place: tuple[int, int] | None = None
    file: OwnedFd | None = None

    def take(self, length: int) -> int:
        """Take a range of the RAM; return where it begins.

        Raises:
            LocateError: there is none so long.
        """
        start = self.room.take(length)
        self.place = (start, length)
        return start

    def close(self) -> None:
        """Let all of it go; again is harmless."""
        self.pages.close()
        if self.file is not None:
            self.file.close()
        if self.place is not None:
            self.room.give_back(*self.place)
            self.place = None


class StandIn(Locator):
    """Stands in for `ModuleLocator`: pins an app's pages, and says a range of the RAM."""

    def __init__(self, ram: int) -> None:
        """Use the file that is the RAM, which stays open."""
        self.ram = ram
        self.room = Room(RAM_SIZE)

    def close(self) -> None:
        """Nothing is open but the RAM."""

    def find_features(self) -> Feature:
        """As where there is no module."""
        return Feature.LOCATE_MEMFD

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """Populate and pin; then say a range that nobody else has."""
        try:
            check_range(offset, length, os.fstat(fd).st_size)
            start, end = pages_of(offset, length)
            pipes = PipePin()
            pin = RangePin(self.room, pipes)
            with closed_on_error(pin):
                with AlignedMapping(fd, start, end) as mapping:
                    mapping.populate(start, end)
                    pipes.hold(mapping, start, end)
                place = pin.take(end - start)
                self.fill(pin, fd, start, end)
        except OSError as exc:
            raise LocateError(LocateStatus.FAILED, exc.errno or errno.EIO) from exc
        return PinnedRange((Extent(place, end - start),), pin, pinned=end - start)

    def fill(self, pin: RangePin, fd: int, start: int, end: int) -> None:
        """Fill the range of the RAM, which `pin` has: with a copy of the pages."""
        assert pin.place is not None
        place, _ = pin.place
        # In pieces: an agent that is short of memory is not to fail here.
        for offset in range(start, end, 1 << 16):
            piece = os.pread(fd, min(1 << 16, end - offset), offset)
            os.pwrite(self.ram, piece, place + offset - start)


def run_agent(make_locator: Callable[[], StandIn], *arguments: str) -> int:
    """Run the agent's command line with another locator; return its exit status."""
    assert "make_locator" in vars(cli)  # else nothing is replaced
    vars(cli)["make_locator"] = make_locator
    return cli.main(arguments or None)


def open_ram() -> StandIn:
    """Use the RAM that `tests.chaos.machine` has made."""
    ram = os.open(os.environ["WLPROXY_CHAOS_RAM"], os.O_RDWR | os.O_CLOEXEC)
    return StandIn(ram)


if __name__ == "__main__":
    sys.exit(run_agent(open_ram))
