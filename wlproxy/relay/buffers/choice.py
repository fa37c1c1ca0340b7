"""How a buffer is shown: the three modes, what allows each, and the choice.

Pure policy.  The facts come from the compositor probe and the udmabuf limits
(`host/desktop/probe`), the buffers from the guest.
"""

from dataclasses import dataclass
from enum import Enum

from wlproxy.relay.capabilities import CompositorCapabilities, Preference
from wlproxy.relay.formats import LAYOUTS, drm_format

DMABUF_OFFSET_ALIGNMENT = 256
"""Plane offsets that every GPU takes; the same bound as its strides."""


class Mode(Enum):
    """How a buffer reaches the compositor."""

    SHM = "A"
    """The udmabuf as a `wl_shm` pool: nothing is copied."""
    DMABUF = "B"
    """The udmabuf through linux-dmabuf: nothing is copied or uploaded."""
    COPY = "C"
    """Damaged rectangles copied from guest RAM: the fallback."""
    NONE = "none"
    """Not at all: a dma-buf that none of the others can serve."""


@dataclass(frozen=True, slots=True)
class PlaneShape:
    """One plane: where it starts in its first page, and its stride, both in bytes."""

    byte_offset: int
    stride: int


@dataclass(frozen=True, slots=True)
class BufferShape:
    """The facts of a buffer that decide its mode.

    Attributes:
        planes: one, or as many as its format has.
        shm_format: as in `wl_shm`, for dma-bufs too.
        items: how many runs of RAM its pages are, or those of its worst plane.
        byte_length: bytes of its whole pages, or the most of one plane.
        not_shm: why it cannot be in a `wl_shm` pool, nor copied into one; empty if
            it can.
        is_dmabuf: the guest made it a dma-buf, and expects it to be kept until the
            next one is shown.
    """

    planes: tuple[PlaneShape, ...]
    shm_format: int
    items: int
    byte_length: int
    not_shm: str = ""
    is_dmabuf: bool = False


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
    if len(shape.planes) != len(LAYOUTS.get(fourcc, shape.planes)):
        return f"format {fourcc:#x} in one piece"
    # Where there is nothing else, the compositor may as well judge by itself.
    for plane in () if shape.not_shm else shape.planes:
        if plane.stride % alignment:
            return f"stride {plane.stride} is not a multiple of {alignment}"
        if plane.byte_offset % DMABUF_OFFSET_ALIGNMENT:
            return f"offset {plane.byte_offset} in its page is unaligned"
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
            buffer would wait for it for ever in mode B, unless it was a dma-buf
            from the start.
        refused: why mode B failed for this very buffer before, if it did.
    """
    if preference is Preference.COPY and not shape.not_shm:
        return Choice(Mode.COPY, "asked for")
    if obstacle := udmabuf_obstacle(shape, capabilities):
        return _copied(shape, obstacle)
    not_dmabuf = refused or dmabuf_obstacle(shape, capabilities) or ""
    not_shm = shape.not_shm
    if not capabilities.shm_udmabuf:
        not_shm = not_shm or capabilities.shm_udmabuf_reason
    elif not not_shm and not not_dmabuf:
        if preference is Preference.SHM:
            not_dmabuf = "mode A was asked for"
        elif not (cycled or shape.is_dmabuf or preference is Preference.DMABUF):
            not_dmabuf = "only for windows that take buffers in turn"
    if not not_dmabuf:
        return Choice(Mode.DMABUF, "zero-copy, no upload either")
    if capabilities.shm_udmabuf and not not_shm:
        return Choice(Mode.SHM, f"zero-copy; not B: {not_dmabuf}")
    return _copied(shape, f"{not_shm}; not B: {not_dmabuf}")


def _copied(shape: BufferShape, why: str) -> Choice:
    return Choice(Mode.NONE if shape.not_shm else Mode.COPY, why)
