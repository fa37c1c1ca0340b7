"""Mode C: copying rows of pixels from guest RAM into a memfd of ours.

The only module that touches pixels.  Which rows, and whether at all, the core decides.
"""

import errno
import fcntl
import mmap
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from wlproxy.host.errors import HostError
from wlproxy.host.fds import OwnedFd
from wlproxy.memory.guest import RamItem
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import CopyRows

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""The compositor need not fear a SIGBUS, as libwayland does of unsealed pools."""


class CopyBuffer:
    """A sealed memfd, and our mapping of it."""

    __slots__ = ("_map", "fd", "size")

    def __init__(self, size: int) -> None:
        """Make it, all zeros.

        Raises:
            HostError: no memory or no fd is left.
        """
        try:
            self.fd = OwnedFd(
                os.memfd_create("wlproxy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            )
        except OSError as exc:
            raise _no_memory(size, "memfd_create", exc.errno or 0) from exc
        try:
            os.ftruncate(self.fd.fileno(), size)
            fcntl.fcntl(self.fd.fileno(), fcntl.F_ADD_SEALS, SEALS)
            self._map = mmap.mmap(self.fd.fileno(), size)
        except (OSError, ValueError, OverflowError) as exc:
            self.fd.close()
            number = getattr(exc, "errno", None) or errno.EINVAL
            raise _no_memory(size, "ftruncate, mmap", number) from exc
        self.size = size

    @property
    def pixels(self) -> mmap.mmap:
        """What the compositor sees."""
        return self._map

    def close(self) -> None:
        """Unmap it.  The fd is closed by its owner, the handle table."""
        self._map.close()


class PixelCopier:
    """Copies out of guest RAM, whose files it maps when they are first needed."""

    def __init__(self, map_file: Callable[[int], mmap.mmap]) -> None:
        """Nothing is mapped yet.

        Args:
            map_file: maps a RAM file by its index; `GuestRam.map`.
        """
        self._map_file = map_file
        self._maps: dict[int, mmap.mmap] = {}

    def copy(self, command: CopyRows, target: CopyBuffer) -> int:
        """Carry out a `CopyRows`; tell how many bytes were copied.

        Raises:
            LocalProtocolError: the rows are not inside the items and the target.
            GuestRamError: the RAM cannot be mapped.
        """
        sources: dict[int, memoryview] = {}
        try:
            for item in command.items:
                if item.region not in sources:
                    sources[item.region] = memoryview(self._ram(item.region))
            with memoryview(target.pixels) as pixels:
                return copy_rows(command, sources, pixels)
        finally:
            for view in sources.values():
                view.release()

    def close(self) -> None:
        """Unmap the RAM.  Again: nothing happens."""
        while self._maps:
            self._maps.popitem()[1].close()

    def _ram(self, file: int) -> mmap.mmap:
        if file not in self._maps:
            self._maps[file] = self._map_file(file)
        return self._maps[file]


def copy_rows(
    command: CopyRows, sources: dict[int, memoryview], target: memoryview
) -> int:
    """Copy the rows of a command; tell how many bytes that were.

    Args:
        command: what to copy.
        sources: the whole RAM files, by their index.
        target: the whole memfd.

    Raises:
        LocalProtocolError: the rows are not inside the items and the target.
    """
    if not command.rows or not command.length:
        return 0
    ends = tuple(accumulate(item.length for item in command.items))
    last = command.offset + (command.rows - 1) * command.stride + command.length
    if min(command.offset, command.stride, command.length, command.rows) < 0:
        raise LocalProtocolError(f"negative rows: {_words(command)}")
    if not ends or last > min(ends[-1], len(target)):
        raise LocalProtocolError(f"rows outside their buffer: {_words(command)}")
    start, length, rows = command.offset, command.length, command.rows
    if command.stride == length:  # whole rows follow each other: one long one
        length, rows = length * rows, 1
    for row in range(rows):
        _copy_run(
            start + row * command.stride, length, command.items, ends, sources, target
        )
    return command.rows * command.length


def _copy_run(
    start: int,
    length: int,
    items: Sequence[RamItem],
    ends: Sequence[int],
    sources: dict[int, memoryview],
    target: memoryview,
) -> None:
    """Copy one run of bytes, from as many items as it lies in."""
    index = bisect_right(ends, start)
    end = start + length
    while start < end:
        item = items[index]
        skip = start - (ends[index] - item.length)
        taken = min(end - start, item.length - skip)
        source = item.offset + skip
        target[start : start + taken] = sources[item.region][source : source + taken]
        start += taken
        index += 1


def _no_memory(size: int, tried: str, number: int) -> HostError:
    return HostError(
        f"cannot make a buffer of {size} bytes to copy pixels into",
        tried=tried,
        errno=number,
    )


def _words(command: CopyRows) -> str:
    return (
        f"{command.rows} rows of {command.length} bytes, {command.stride} apart, "
        f"from {command.offset}"
    )
