"""Pixel formats: what `wl_shm` and DRM call them, and how they lie in memory.

Only LINEAR layouts, whatever they are called.  What a compositor takes is not known
here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

SHM_ARGB8888, SHM_XRGB8888 = 0, 1
DRM_ARGB8888, DRM_XRGB8888 = 0x34325241, 0x34325258
_DRM_OF_SHM = {SHM_ARGB8888: DRM_ARGB8888, SHM_XRGB8888: DRM_XRGB8888}
_SHM_OF_DRM = {drm: shm for shm, drm in _DRM_OF_SHM.items()}

MODIFIER_LINEAR: Final = 0
"""DRM_FORMAT_MOD_LINEAR."""

MODIFIER_INVALID: Final = (1 << 56) - 1
"""DRM_FORMAT_MOD_INVALID: no modifier, but what the driver implies."""


def fourcc(code: str) -> int:
    """Make a DRM format's number of its four characters."""
    return int.from_bytes(code.encode(), "little")


def _packed(size: int, *codes: str) -> dict[int, int]:
    return dict.fromkeys(map(fourcc, codes), size)


PIXEL_SIZE: Final[Mapping[int, int]] = MappingProxyType(
    {
        SHM_ARGB8888: 4,
        SHM_XRGB8888: 4,
        **_packed(1, "C8  ", "R8  ", "RGB8", "BGR8"),
        **_packed(2, "RG16", "BG16", "AR15", "XR15", "AB15", "XB15", "RA15", "RX15"),
        **_packed(2, "AR12", "XR12", "AB12", "XB12", "RA12", "RX12", "BA12", "BX12"),
        **_packed(3, "RG24", "BG24"),
        **_packed(4, "AB24", "XB24", "RA24", "RX24", "BA24", "BX24"),
        **_packed(4, "AR30", "XR30", "AB30", "XB30", "RA30", "RX30", "BA30", "BX30"),
        **_packed(8, "AR4H", "XR4H", "AB4H", "XB4H", "AR48", "XR48", "AB48", "XB48"),
    }
)
"""Bytes per pixel, by `wl_shm.format`, where a buffer ends at `stride * height` and
pixels do not share bytes.  Others may have planes behind that (drm_fourcc.h)."""


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """One plane of a format: `sample` bytes for every `columns` by `rows` pixels."""

    sample: int
    columns: int = 1
    rows: int = 1

    def row_bytes(self, width: int) -> int:
        """Count the bytes of one row of a buffer of `width` pixels."""
        return -(-width // self.columns) * self.sample

    def row_count(self, height: int) -> int:
        """Count the rows of a buffer of `height` pixels."""
        return -(-height // self.rows)


_LUMA, _LUMA_16 = PlaneLayout(1), PlaneLayout(2)
_CHROMA_420 = PlaneLayout(1, 2, 2)

LAYOUTS: Final[Mapping[int, tuple[PlaneLayout, ...]]] = MappingProxyType(
    {
        **{
            _DRM_OF_SHM.get(shm, shm): (PlaneLayout(size),)
            for shm, size in PIXEL_SIZE.items()
        },
        **dict.fromkeys(map(fourcc, ("YUYV", "UYVY")), (PlaneLayout(4, 2),)),
        **dict.fromkeys(map(fourcc, ("NV12", "NV21")), (_LUMA, PlaneLayout(2, 2, 2))),
        fourcc("NV16"): (_LUMA, PlaneLayout(2, 2)),
        fourcc("P010"): (_LUMA_16, PlaneLayout(4, 2, 2)),
        **dict.fromkeys(
            map(fourcc, ("YU12", "YV12")), (_LUMA, _CHROMA_420, _CHROMA_420)
        ),
    }
)
"""The planes of each DRM format that a guest's dma-buf may have."""


def drm_format(shm_format: int) -> int:
    """Translate a `wl_shm.format`: a DRM fourcc but for its first two values."""
    return _DRM_OF_SHM.get(shm_format, shm_format)


def shm_format(drm_format: int) -> int:
    """Translate back."""
    return _SHM_OF_DRM.get(drm_format, drm_format)
