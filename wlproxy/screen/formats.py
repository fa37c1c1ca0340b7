"""Pixel formats: what pixman, which QEMU's numbers are of, and `wl_shm` call them.

pixman names a format's bits from the highest to the lowest of a number (pixman.h), as `wl_shm`
and DRM do.
"""

from types import MappingProxyType
from typing import Final

from wlproxy.relay.formats import (
    PIXEL_SIZE,
    SHM_ARGB8888,
    SHM_XRGB8888,
    drm_format,
    fourcc,
)

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

_OPAQUE: Final = MappingProxyType(
    {
        fourcc(alpha): fourcc(without)
        for alpha, without in (
            ("AR24", "XR24"),
            ("AB24", "XB24"),
            ("BA24", "BX24"),
            ("RA24", "RX24"),
            ("AR30", "XR30"),
            ("AB30", "XB30"),
            ("AR15", "XR15"),
            ("AB4H", "XB4H"),
        )
    }
)
"""DRM formats with alpha, and what is the same without."""
_KNOWN: Final = frozenset(map(drm_format, PIXEL_SIZE))
"""DRM formats of which it is known how long a row is."""

ALWAYS: Final = frozenset({SHM_ARGB8888, SHM_XRGB8888})
"""What every compositor takes."""


def drm_formats(found: int) -> tuple[int, ...]:
    """Tell what a screen in a DRM format may be shown as, the best first; none: unknown.

    Nothing is behind a screen: what is in the bits of alpha is of no account, and is anything
    in QEMU's textures of VGA.
    """
    if found not in _KNOWN:
        return ()
    opaque = _OPAQUE.get(found)
    return (found,) if opaque is None else (opaque, found)


def pixel_size(shm_format: int) -> int:
    """Tell how many bytes a pixel has."""
    return PIXEL_SIZE[shm_format]
