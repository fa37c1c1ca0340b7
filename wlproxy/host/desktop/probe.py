"""Tries out what the compositor accepts, before a guest depends on it.

Each trial has a connection of its own, because the compositor may end it: that is merely
a "no".  `wlproxy.relay.buffers.choice` then chooses the mode for each buffer.
"""

import fcntl
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from wlproxy.host.desktop.udmabuf_device import UdmabufDevice, UdmabufItem
from wlproxy.host.desktop.wayland_client import Remote, WaylandClient
from wlproxy.host.errors import CompositorRefusedError, UdmabufError
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.formats import (
    DRM_ARGB8888,
    DRM_XRGB8888,
    LAYOUTS,
    MODIFIER_LINEAR,
    SHM_ARGB8888,
    SHM_XRGB8888,
    fourcc,
)
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd

DMABUF: Final = "zwp_linux_dmabuf_v1"
MODIFIERS_SINCE: Final = 3
"""Version of linux-dmabuf that first tells which formats are LINEAR."""

ROWS: Final = 64
"""Height of the trial buffers: no smaller than what some GPUs want."""

TRIED_FORMATS: Final = frozenset(
    {
        # What apps draw in.
        *(DRM_ARGB8888, DRM_XRGB8888),
        *map(fourcc, ("AB24", "XB24", "AR30", "XR30", "AB30", "XB30", "RG16")),
        # What video is in.
        *map(fourcc, ("NV12", "P010", "YU12", "YUYV")),
    }
)
"""The DRM formats that are tried, where the compositor says that it takes them."""

SHM_STRIDES: Final = (1024, 1332, 2408)
"""For mode A: a round one, one of an odd width, one that is a multiple of 8 only."""

DMABUF_STRIDES: Final = ((256, 768), (64, 832), (16, 816), (4, 804))
"""For mode B: alignments, and a stride that is no multiple of a larger one."""

PROBE_SECONDS: Final = 60.0
"""For all of it; a tenth of a second is usual, and llvmpipe takes a few."""

ANSWER_ROUNDTRIPS: Final = 10
"""Round trips to wait for the answer to an import, which may come late."""

_PLANE_ALIGNMENT: Final = 4096
"""Where planes begin in the trial buffers.  Only the stride is on trial."""
_MOST_PLANES: Final = max(len(LAYOUTS[each]) for each in TRIED_FORMATS)
_BIGGEST: Final = ROWS * max(*SHM_STRIDES, *(stride for _, stride in DMABUF_STRIDES))
_TRIAL_SIZE: Final = -(-_BIGGEST // _PLANE_ALIGNMENT) * _PLANE_ALIGNMENT * _MOST_PLANES


def probe_compositor(
    compositor: Path, device: UdmabufDevice | None, no_device: str = ""
) -> CompositorCapabilities:
    """Try out what the compositor accepts.  Blocks: run it in a thread.

    Args:
        compositor: its socket, or that of a security context.
        device: to make trial dma-bufs with; None if there is none.
        no_device: why there is none, for people.

    Raises:
        NoCompositorError: nobody listens there.
        CompositorRefusedError: it does not even answer, or takes longer than
            `PROBE_SECONDS`.
    """
    deadline = time.monotonic() + PROBE_SECONDS
    with WaylandClient(compositor, deadline=deadline) as client:
        versions = client.global_versions
        shm_formats = _shm_formats(client)
    found = CompositorCapabilities(
        shm_udmabuf=False,
        shm_formats=shm_formats,
        udmabuf_list_limit=0,
        udmabuf_size_limit=0,
        global_versions=versions,
    )
    if device is None:
        return _without_udmabufs(found, no_device or "no /dev/udmabuf")
    try:
        udmabuf = _trial_udmabuf(device)
    except UdmabufError as exc:
        return _without_udmabufs(found, f"no udmabuf could be made: {exc.problem}")
    limits = device.limits()
    with udmabuf:
        shm_reason = _try_shm(compositor, udmabuf, deadline)
        alignments, dmabuf_reason = _try_dmabufs(
            compositor, udmabuf, versions, deadline
        )
    if time.monotonic() >= deadline:  # what it was not asked is no "no"
        raise CompositorRefusedError(
            f"the compositor at {compositor} takes longer than {PROBE_SECONDS:g} s to answer"
            " what it can show"
        )
    return replace(
        found,
        shm_udmabuf=not shm_reason,
        shm_udmabuf_reason=shm_reason,
        dmabuf_stride_alignment=alignments,
        dmabuf_reason=dmabuf_reason,
        udmabuf_list_limit=limits.list_limit,
        udmabuf_size_limit=limits.size_limit,
    )


def trial_memfd() -> OwnedFd:
    """Make a memfd for trials that is like guest RAM: sealed against shrinking.

    Raises:
        OSError: no memory or no fd is left.
    """
    number = os.memfd_create("wlproxy-probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    memory = OwnedFd(number)
    with closed_on_error(memory):
        os.ftruncate(number, _TRIAL_SIZE)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return memory


def try_shm_pool(
    compositor: Path,
    fd: int,
    deadline: float = math.inf,
    *,
    size: int = _TRIAL_SIZE,
    strides: Sequence[int] = SHM_STRIDES,
    rows: int = ROWS,
) -> None:
    """Show a `wl_shm` pool of this fd to the compositor, at several strides.

    Args:
        compositor: its socket.
        fd: of a file.
        deadline: `time.monotonic` after which no answer is waited for.
        size: bytes of the file.
        strides: of the buffers.
        rows: of each.

    Raises:
        NoCompositorError: nobody listens there.
        CompositorRefusedError: it does not take such a pool.
        KeyError: it lacks a global, which is the argument.
    """
    with WaylandClient(compositor, deadline=deadline) as client:
        shm = client.bind("wl_shm", 1)
        surface = client.bind("wl_compositor", 4).create("create_surface")
        pool = shm.create("create_pool", size, fds=(fd,))
        client.roundtrip()
        for stride in strides:
            width = stride // 4
            shape = (0, width, rows, stride, SHM_XRGB8888)
            buffer = pool.create("create_buffer", *shape)
            # A surface without a role is never shown, but its buffer is looked at.
            surface.send("attach", buffer, 0, 0)
            surface.send("damage", 0, 0, width, rows)
            surface.send("commit")
            client.roundtrip()
        surface.send("destroy")
        client.roundtrip()


def _shm_formats(client: WaylandClient) -> frozenset[int]:
    """Ask for the formats of `wl_shm`."""
    if "wl_shm" not in client.global_versions:
        return frozenset()
    formats = {SHM_ARGB8888, SHM_XRGB8888}  # every compositor takes these
    client.bind("wl_shm", 1).on("format", formats.add)
    client.roundtrip()
    return frozenset(formats)


def _without_udmabufs(
    found: CompositorCapabilities, why: str
) -> CompositorCapabilities:
    return replace(found, shm_udmabuf_reason=why, dmabuf_reason=why)


def _trial_udmabuf(device: UdmabufDevice) -> OwnedFd:
    with trial_memfd() as memory:
        return device.create((UdmabufItem(memory.fileno(), 0, _TRIAL_SIZE),))


def _try_shm(compositor: Path, udmabuf: OwnedFd, deadline: float) -> str:
    try:
        try_shm_pool(compositor, udmabuf.fileno(), deadline)
    except CompositorRefusedError as exc:
        return f"the compositor refuses a udmabuf as a wl_shm pool: {exc.problem}"
    except KeyError as exc:
        return f"the compositor has no {exc.args[0]}"
    return ""


def _try_dmabufs(
    compositor: Path, udmabuf: OwnedFd, versions: dict[str, int], deadline: float
) -> tuple[dict[int, int], str]:
    """Find the alignments that mode B takes, by format; if there are none, why not."""
    version = versions.get(DMABUF, 0)
    if not version:
        return {}, "the compositor has no linux-dmabuf"
    if version < MODIFIERS_SINCE:
        return {}, f"the compositor's linux-dmabuf is of version {version}"
    advertised = _linear_formats(compositor, deadline)
    alignments = {
        drm_format: alignment
        for drm_format in advertised & TRIED_FORMATS
        if (alignment := _smallest_alignment(compositor, udmabuf, drm_format, deadline))
    }
    if alignments:
        return alignments, ""
    if advertised:
        return {}, "the compositor refuses to import a udmabuf"
    return {}, "the compositor imports no LINEAR dma-bufs"


def _linear_formats(compositor: Path, deadline: float) -> set[int]:
    """Ask for the formats that the compositor imports as LINEAR."""
    formats = set()

    def on_modifier(drm_format: int, high: int, low: int) -> None:
        if high << 32 | low == MODIFIER_LINEAR:
            formats.add(drm_format)

    try:
        with WaylandClient(compositor, deadline=deadline) as client:
            client.bind(DMABUF, MODIFIERS_SINCE).on("modifier", on_modifier)
            client.roundtrip()
    except CompositorRefusedError:
        return set()
    return formats


def _smallest_alignment(
    compositor: Path, udmabuf: OwnedFd, drm_format: int, deadline: float
) -> int:
    """Find the smallest alignment of the stride that is imported; 0 if none is."""
    smallest = 0
    with (
        suppress(CompositorRefusedError),
        WaylandClient(compositor, deadline=deadline) as client,
    ):
        dmabuf = client.bind(DMABUF, MODIFIERS_SINCE)
        surface = client.bind("wl_compositor", 4).create("create_surface")
        for alignment, stride in DMABUF_STRIDES:
            with _imported(client, dmabuf, udmabuf, drm_format, stride) as buffer:
                if buffer is None:
                    break
                surface.send("attach", buffer, 0, 0)
                surface.send("commit")
                client.roundtrip()
            smallest = alignment
    return smallest


@contextmanager
def _imported(
    client: WaylandClient,
    dmabuf: Remote,
    udmabuf: OwnedFd,
    drm_format: int,
    stride: int,
) -> Iterator[Remote | None]:
    """Import the udmabuf as one buffer; None if the compositor refuses."""
    made: list[Remote] = []
    refused: list[bool] = []
    params = dmabuf.create("create_params")
    params.on("created", made.append)
    params.on("failed", lambda: refused.append(True))
    layouts = LAYOUTS[drm_format]
    size = -(-stride * ROWS // _PLANE_ALIGNMENT) * _PLANE_ALIGNMENT
    modifier = (MODIFIER_LINEAR >> 32, MODIFIER_LINEAR & 0xFFFFFFFF)
    for index in range(len(layouts)):
        # The same stride for all: the chroma's may be longer than it need be.
        plane = (index, index * size, stride, *modifier)
        params.send("add", *plane, fds=(udmabuf.fileno(),))
    first = layouts[0]
    width = stride // first.sample * first.columns
    # Not create_immed: where that fails, weston ends the connection.
    params.send("create", width, ROWS, drm_format, 0)
    try:
        for _ in range(ANSWER_ROUNDTRIPS):
            client.roundtrip()
            if made or refused:
                break
        yield made[0] if made else None
    finally:
        for buffer in made:
            buffer.send("destroy")
