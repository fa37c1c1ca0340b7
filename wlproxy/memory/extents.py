"""Is this list of extents an answer to what was asked.

Whether the extents are RAM at all is `GuestMemory.translate`'s question, not one for here.
"""

from collections.abc import Sequence
from itertools import pairwise

from wlproxy.memory.guest import ExtentError
from wlproxy.protocol.channel.frames import Extent


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
    mask = page_size - 1
    for extent in extents:
        if extent.length <= 0 or (extent.gpa | extent.length) & mask:
            raise ExtentError(
                f"extent of {extent.length:#x} bytes at {extent.gpa:#x} is empty or "
                f"not whole pages of {page_size}"
            )
    total = sum(extent.length for extent in extents)
    _, wanted = round_out(offset, length, page_size)
    if total != wanted:
        raise ExtentError(f"extents are {total} bytes, {wanted} were asked for")
    # The same page twice would only hurt the client that shows it, but no file has
    # one: whoever says so is lying, and the quotas count pages once.
    runs = sorted((extent.gpa, extent.gpa + extent.length) for extent in extents)
    for (_, end), (start, _) in pairwise(runs):
        if start < end:
            raise ExtentError(f"extents overlap at {start:#x}")
