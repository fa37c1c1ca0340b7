"""Checks whether a list of extents answers the question that was asked.

Whether the extents are RAM at all is a question for `GuestMemory.translate`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from wlproxy.memory.guest_memory import ExtentError
from wlproxy.protocol.channel.extents import pairs
from wlproxy.protocol.channel.frames import Extent

WORD: Final = 65
"""Bits of an address, or one more that is an end."""
MASK: Final = (1 << WORD) - 1


def round_out(offset: int, length: int, page_size: int) -> tuple[int, int]:
    """Widen a range of a file to whole pages: its start and its length in bytes."""
    start = offset & -page_size
    end = (offset + length + page_size - 1) & -page_size
    return start, end - start


def check_extents(
    extents: Sequence[Extent],
    offset: int,
    length: int,
    page_size: int,
    max_extents: int,
) -> None:
    """Check the whole answer to `Locate(offset, length)`, all frames together.

    Args:
        extents: what the guest says, in file order.
        offset: first byte asked for.
        length: bytes asked for.
        page_size: of the guest.
        max_extents: most that are accepted.

    Raises:
        ExtentError: too many, unaligned, empty, overlapping each other, or together
            not exactly the pages of the range.
    """
    if len(extents) > max_extents:
        raise ExtentError(f"{len(extents)} extents, limit {max_extents}")
    mask, total = page_size - 1, 0
    for gpa, size in pairs(extents):
        if size <= 0 or (gpa | size) & mask:
            raise ExtentError(
                f"extent of {size:#x} bytes at {gpa:#x} is empty or "
                f"not whole pages of {page_size}"
            )
        total += size
    _, wanted = round_out(offset, length, page_size)
    if total != wanted:
        raise ExtentError(f"extents are {total} bytes, {wanted} were asked for")
    # The same page twice would only hurt the client that shows it, but no file has
    # one: whoever says so is lying, and the quotas count pages once.
    runs = sorted(gpa << WORD | gpa + size for gpa, size in pairs(extents))
    for one, following in pairwise(runs):
        if following >> WORD < one & MASK:
            raise ExtentError(f"extents overlap at {following >> WORD:#x}")
