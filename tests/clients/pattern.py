"""The test pattern: what a client draws, and what the compositor must then show.

A pure function of (x, y, frame), 4 opaque bytes a pixel, known to both ends.  Rows are
slices of one long random string, so that a row costs a memcpy: a page that is missing,
stale or out of place shows up as rows that differ.  Standard library only.
"""

import hashlib
from functools import lru_cache

PIXEL = 4
MAX_WIDTH = 4096
PERIOD = 65521
"""Where rows may start in the string, pixels: a prime, so that strides do not repeat."""


@lru_cache(maxsize=1)
def _noise() -> bytes:
    size = (PERIOD + MAX_WIDTH) * PIXEL
    noise = bytearray(hashlib.shake_256(b"wlproxy test pattern").digest(size))
    noise[3::4] = b"\xff" * (size // PIXEL)
    return bytes(noise)


def row(y: int, frame: int, width: int, x: int = 0) -> bytes:
    """Return `width` pixels of row `y` from column `x` on, in frame `frame`."""
    # Each frame has a step of its own: two frames are not shifted copies.
    start = (y * (7919 + 613 * frame) + frame * 30011) % PERIOD + x
    return _noise()[start * PIXEL : (start + width) * PIXEL]


def image(
    width: int, height: int, frame: int, origin: tuple[int, int] = (0, 0)
) -> bytes:
    """Return a tightly packed part of a frame, whose first pixel is at `origin`."""
    x, y = origin
    return b"".join(row(y + line, frame, width, x) for line in range(height))


def filling(size: int, seed: int) -> bytes:
    """Return bytes for memory that is no picture of 4 bytes a pixel."""
    return hashlib.shake_256(b"wlproxy test filling %d" % seed).digest(size)
