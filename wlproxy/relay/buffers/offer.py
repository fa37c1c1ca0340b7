"""linux-dmabuf as the guest sees it: a global of our own, its formats, its feedback.

Never the host's: its main device is none of the guest's, and its modifiers mean nothing
for memory of the guest.  There is one tranche: LINEAR, on the device that the agent
names; and what has no modifier, where the agent says that it is linear.  Not here: buffers
(`filters.dmabuf`).
"""

import struct
from typing import Final

from wlproxy.protocol.channel.frames import Attachment
from wlproxy.relay.formats import (
    LAYOUTS,
    MODIFIER_INVALID,
    MODIFIER_LINEAR,
    PIXEL_SIZE,
    drm_format,
)
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject

INTERFACE: Final = "zwp_linux_dmabuf_v1"

GLOBAL_NAME: Final = 0xFFFFFFFF
"""Its name in every registry of the guest.  Compositors count theirs from 1; one that
came so far would find its last global hidden."""

MODIFIERS_SINCE: Final = 3
"""Version of linux-dmabuf that tells of modifiers, by events as it is bound."""

FEEDBACK_SINCE: Final = 4
"""Version that tells of formats by feedback objects, and by nothing else."""

_TABLE_ENTRY: Final = struct.Struct("=I4xQ")
"""A pair of the format table: DRM format, padding, modifier."""

_DEVICE: Final = struct.Struct("=Q")
"""A `dev_t`, as an array argument."""


def offered_version(context: Context) -> int:
    """Say up to which version the guest may bind linux-dmabuf; 0 if it may not.

    That does not change in the life of a client; whether it is advertised, may.
    """
    if not context.config.main_device or not formats(context):
        return 0
    return context.config.policy.globals.caps.get(INTERFACE, 0)


def is_advertised(context: Context) -> bool:
    """Whether the guest shall see the global, as things are."""
    dmabuf = not context.is_withdrawn(INTERFACE)
    shm = not context.is_withdrawn("wl_shm")
    return bool(offered_version(context) and formats(context, dmabuf=dmabuf, shm=shm))


def formats(
    context: Context, *, dmabuf: bool = True, shm: bool = True
) -> tuple[int, ...]:
    """List the DRM formats that can be shown, one way or the other.

    Those of both ways are what the guest is told of.  They stay the same for a client;
    what can no longer be had is not imported.  Copies do not count where anything better
    can be had, so that no app takes to a format which is always copied.
    """
    capabilities = context.capabilities
    imported = set(capabilities.dmabuf_stride_alignment) if dmabuf else set()
    found = imported & LAYOUTS.keys()
    if shm and (capabilities.shm_udmabuf or not found):
        found |= {
            drm_format(known)
            for known in capabilities.shm_formats
            if known in PIXEL_SIZE
        }
    return tuple(sorted(found))


def modifiers(context: Context) -> tuple[int, ...]:
    """List the modifiers that each format is offered with; all mean LINEAR."""
    if context.config.implicit_linear:
        return (MODIFIER_LINEAR, MODIFIER_INVALID)
    return (MODIFIER_LINEAR,)


def introduce(context: Context, entry: ProtocolObject) -> None:
    """Say to an old version of the global what is to be said when it is bound."""
    if entry.version >= FEEDBACK_SINCE:
        return
    if entry.version < MODIFIERS_SINCE:
        for fourcc in formats(context):
            context.send_event(entry, "format", (fourcc,))
        return
    for fourcc, modifier in _pairs(context):
        high, low = modifier >> 32, modifier & 0xFFFFFFFF
        context.send_event(entry, "modifier", (fourcc, high, low))


def format_table(context: Context) -> bytes:
    """Make the contents of the file that `format_table` passes."""
    return b"".join(_TABLE_ENTRY.pack(*pair) for pair in _pairs(context))


def send_feedback(
    context: Context, entry: ProtocolObject, table: Attachment, size: int
) -> None:
    """Tell a feedback object everything; `table` is the file, of `size` bytes."""
    device = _DEVICE.pack(context.config.main_device)
    indices = range(size // _TABLE_ENTRY.size)
    context.send_event(entry, "format_table", (None, size), (table,))
    context.send_event(entry, "main_device", (device,))
    context.send_event(entry, "tranche_target_device", (device,))
    context.send_event(entry, "tranche_flags", (0,))
    packed = struct.pack(f"={len(indices)}H", *indices)
    context.send_event(entry, "tranche_formats", (packed,))
    context.send_event(entry, "tranche_done")
    context.send_event(entry, "done")


def _pairs(context: Context) -> list[tuple[int, int]]:
    """List the pairs of format and modifier that the guest is told of."""
    offered = modifiers(context)
    return [(fourcc, each) for fourcc in formats(context) for each in offered]
