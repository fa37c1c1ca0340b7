"""Pixel formats: what pixman, which QEMU's numbers are of, and `wl_shm` call them.

pixman names a format's bits from the highest to the lowest of a number (pixman.h), as `wl_shm`
and DRM do.
"""

from types import MappingProxyType
from typing import Final

from wlproxy.relay.formats import PIXEL_SIZE, SHM_ARGB8888, SHM_XRGB8888, fourcc

SHM_OF_PIXMAN: Final = MappingProxyType(
    {
        0x20020888: SHM_XRGB8888,
        0x20028888: SHM_ARGB8888,
        0x20030888: fourcc("XB24"),
        0x20038888: fourcc("AB24"),
        0x20080888: fourcc("BX24"),
        0x20088888: fourcc("BA24"),
        0x10020565: fourcc("RG16"),
        0x10021555: fourcc("AR15"),
        0x10020555: fourcc("XR15"),
    }
)

ALWAYS: Final = frozenset({SHM_ARGB8888, SHM_XRGB8888})
"""What every compositor takes."""


def pixel_size(shm_format: int) -> int:
    """Tell how many bytes a pixel has."""
    return PIXEL_SIZE[shm_format]
