"""How a buffer is shown: the three modes, what allows each, and the choice.

Pure policy.  The facts come from the compositor probe and the udmabuf limits
(`host/probe`), the buffers from the guest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

PAGE_SIZE = 4096
"""Bytes of a host page; udmabuf items and mode A pools are made of these."""

DMABUF_OFFSET_ALIGNMENT = 256
"""Plane offsets that every GPU takes; the same bound as its strides."""

SHM_ARGB8888, SHM_XRGB8888 = 0, 1
DRM_ARGB8888, DRM_XRGB8888 = 0x34325241, 0x34325258
_DRM_OF_SHM = {SHM_ARGB8888: DRM_ARGB8888, SHM_XRGB8888: DRM_XRGB8888}


def _packed(size: int, *fourccs: str) -> dict[int, int]:
    return {int.from_bytes(code.encode(), "little"): size for code in fourccs}


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


def drm_format(shm_format: int) -> int:
    """Translate a `wl_shm.format`: a DRM fourcc but for its first two values."""
    return _DRM_OF_SHM.get(shm_format, shm_format)


class Mode(Enum):
    """How a buffer reaches the compositor."""

    SHM = "A"
    """The udmabuf as a `wl_shm` pool: nothing is copied."""
    DMABUF = "B"
    """The udmabuf through linux-dmabuf: nothing is copied or uploaded."""
    COPY = "C"
    """Damaged rectangles copied from guest RAM: the fallback."""


class Preference(Enum):
    """What the user asked for on the command line."""

    AUTO = "auto"
    SHM = "a"
    DMABUF = "b"
    COPY = "c"


@dataclass(frozen=True, slots=True)
class CompositorCapabilities:
    """What the probe found.

    Attributes:
        shm_udmabuf: the compositor takes a udmabuf as a `wl_shm` pool (mode A).
        shm_udmabuf_reason: why not, for people; empty if it does.
        dmabuf_stride_alignment: for each DRM format that the compositor imports
            as LINEAR (mode B), the smallest stride alignment it took, bytes.
        dmabuf_reason: why mode B is not to be had; empty if it is.
        udmabuf_list_limit: most items of one udmabuf; 0 without /dev/udmabuf.
        udmabuf_size_limit: most bytes of one udmabuf.
        global_versions: interface name to version, as the host advertises them.
    """

    shm_udmabuf: bool
    shm_udmabuf_reason: str = ""
    dmabuf_stride_alignment: Mapping[int, int] = field(default_factory=dict)
    dmabuf_reason: str = ""
    udmabuf_list_limit: int = 1024
    udmabuf_size_limit: int = 64 << 20
    global_versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BufferShape:
    """The facts of a buffer that decide its mode.

    Attributes:
        byte_offset: where it starts in its first page, bytes.
        stride: bytes per row.
        shm_format: as in `wl_shm_pool.create_buffer`.
        items: how many runs of RAM its pages are.
        byte_length: bytes of its whole pages.
    """

    byte_offset: int
    stride: int
    shm_format: int
    items: int
    byte_length: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A mode and, for people, why it is this one."""

    mode: Mode
    reason: str


def udmabuf_obstacle(
    shape: BufferShape, capabilities: CompositorCapabilities
) -> str | None:
    """Say why no udmabuf can be made of these pages, or None if one can."""
    if not capabilities.udmabuf_list_limit:
        return capabilities.shm_udmabuf_reason or "no /dev/udmabuf"
    if shape.items > capabilities.udmabuf_list_limit:
        return (
            f"{shape.items} extents, udmabuf list_limit is "
            f"{capabilities.udmabuf_list_limit}: raise it"
        )
    if shape.byte_length > capabilities.udmabuf_size_limit:
        return (
            f"{shape.byte_length} bytes, udmabuf size_limit_mb is "
            f"{capabilities.udmabuf_size_limit >> 20}: raise it"
        )
    return None


def dmabuf_obstacle(
    shape: BufferShape, capabilities: CompositorCapabilities
) -> str | None:
    """Say why mode B cannot serve this buffer, or None if it can."""
    fourcc = drm_format(shape.shm_format)
    alignment = capabilities.dmabuf_stride_alignment.get(fourcc)
    if alignment is None:
        return capabilities.dmabuf_reason or (
            f"the compositor does not import format {fourcc:#x} as LINEAR"
        )
    if shape.stride % alignment:
        return f"stride {shape.stride} is not a multiple of {alignment}"
    if shape.byte_offset % DMABUF_OFFSET_ALIGNMENT:
        return f"offset {shape.byte_offset} in its page is unaligned"
    return None


def choose(
    shape: BufferShape,
    capabilities: CompositorCapabilities,
    preference: Preference,
    *,
    cycled: bool,
    refused: str = "",
) -> Choice:
    """Choose how to show a buffer.

    Args:
        shape: the buffer.
        capabilities: the host's.
        preference: the user's; a mode that cannot be had is not insisted on.
        cycled: the surface alternates between two or more buffers.  A compositor
            holds a dma-buf until the next one is shown, so a client with a single
            buffer would wait for it for ever in mode B.
        refused: why mode B failed for this very buffer before, if it did.
    """
    if preference is Preference.COPY:
        return Choice(Mode.COPY, "asked for")
    if obstacle := udmabuf_obstacle(shape, capabilities):
        return Choice(Mode.COPY, obstacle)
    not_dmabuf = refused or dmabuf_obstacle(shape, capabilities) or ""
    if preference is Preference.SHM:
        not_dmabuf = "mode A was asked for"
    elif not (cycled or preference is Preference.DMABUF or not_dmabuf):
        not_dmabuf = "only for windows that take buffers in turn"
        if not capabilities.shm_udmabuf:
            not_dmabuf = ""
    if not not_dmabuf:
        return Choice(Mode.DMABUF, "zero-copy, no upload either")
    if capabilities.shm_udmabuf:
        return Choice(Mode.SHM, f"zero-copy; not B: {not_dmabuf}")
    return Choice(Mode.COPY, f"{capabilities.shm_udmabuf_reason}; not B: {not_dmabuf}")
