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
from dataclasses import dataclass

from tests.chaos.machine import RAM_SIZE
from wlproxy.protocol.channel.frames import Extent, Feature, LocateStatus
from wlproxy_guest import cli
from wlproxy_guest.locating.mapping import (
    PAGE_SIZE,
    AlignedMapping,
    round_down,
    round_up,
)
from wlproxy_guest.locating.page_locator import (
    LocateError,
    Locator,
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
class CopiedPin:
    """Pipes that hold an app's pages, and the place of their copy."""

    pipes: PipePin
    room: Room
    place: tuple[int, int] | None

    def close(self) -> None:
        """Let both go; again is harmless."""
        self.pipes.close()
        if self.place is not None:
            self.room.give_back(*self.place)
            self.place = None


class CopyingLocator(Locator):
    """Stands in for `ModuleLocator`."""

    def __init__(self) -> None:
        self._ram = os.open(os.environ["WLPROXY_CHAOS_RAM"], os.O_RDWR | os.O_CLOEXEC)
        self._room = Room(RAM_SIZE)

    def close(self) -> None:
        """Close the RAM."""
        os.close(self._ram)

    def find_features(self) -> Feature:
        """As where there is no module."""
        return Feature.LOCATE_MEMFD

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """Pin, copy, and say where the copy is."""
        try:
            size = os.fstat(fd).st_size
            check_range(offset, length, size)
            start = round_down(offset, PAGE_SIZE)
            end = round_up(offset + length, PAGE_SIZE)
            pin = CopiedPin(PipePin(), self._room, None)
            try:
                with AlignedMapping(fd, start, end) as mapping:
                    mapping.populate(start, end)
                    pin.pipes.hold(fd, start, min(end, size))
                place = self._room.take(end - start)
                pin.place = (place, end - start)
                self._copy(fd, start, end, place)
            except BaseException:
                pin.close()
                raise
        except EOFError:
            raise LocateError(LocateStatus.OUT_OF_RANGE) from None
        except OSError as exc:
            raise LocateError(LocateStatus.FAILED, exc.errno or errno.EIO) from exc
        return PinnedRange((Extent(place, end - start),), pin, pinned=end - start)

    def _copy(self, fd: int, start: int, end: int, place: int) -> None:
        # In pieces: an agent that is short of memory is not to fail here.
        for offset in range(start, end, 1 << 16):
            piece = os.pread(fd, min(1 << 16, end - offset), offset)
            os.pwrite(self._ram, piece, place + offset - start)


if __name__ == "__main__":
    assert "ModuleLocator" in vars(cli)  # else nothing is replaced
    vars(cli)["ModuleLocator"] = CopyingLocator
    sys.exit(cli.main())
