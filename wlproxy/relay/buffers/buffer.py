"""What a buffer is: planes of guest memory, a format, and how it is presented.

Values; where a buffer is in its life is `life`'s, what is done about it
`client_buffers`'s and `present`'s.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from wlproxy.relay.buffers.choice import BufferShape, Choice, PlaneShape
from wlproxy.relay.buffers.life import Life
from wlproxy.relay.buffers.locations import Location, Memory
from wlproxy.relay.formats import PIXEL_SIZE, shm_format
from wlproxy.relay.handles import Handle
from wlproxy.relay.wire.objects import ProtocolObject

SHM_INVALID_FORMAT, SHM_INVALID_STRIDE, SHM_INVALID_FD = 0, 1, 2
"""`wl_shm.error`."""


@dataclass(frozen=True, slots=True)
class PoolGeometry:
    """Where a buffer is in its pool, in bytes, and what its pixels are."""

    offset: int
    width: int
    height: int
    stride: int
    shm_format: int
    flags: ClassVar = 0


@dataclass(frozen=True, slots=True)
class DmabufGeometry:
    """What the pixels of dma-bufs are: a DRM format, and flags of linux-dmabuf."""

    width: int
    height: int
    fourcc: int
    flags: int

    @property
    def shm_format(self) -> int:
        """The format, as in `wl_shm`."""
        return shm_format(self.fourcc)


@dataclass(slots=True)
class Pool:
    """A `wl_shm_pool`.  It exists only on the guest's side.

    Attributes:
        memory: the file behind it.
        size: bytes, as the guest last said.
    """

    memory: Memory
    size: int


@dataclass(slots=True)
class Plane:
    """Rows of pixels in a memory.

    Attributes:
        memory: the file, until the buffer is destroyed: it may be located anew.
        offset: first byte in the file.
        length: bytes that the compositor may read.
        stride: bytes per row.
        span: (first byte, bytes) of what is located for it: itself, or all planes of
            its buffer, where they may lie in the same memory.
        location: the pinned pages of the span.
        start: first byte in the file of these pages.
    """

    memory: Memory | None
    offset: int
    length: int
    stride: int
    span: tuple[int, int]
    location: Location | None = None
    start: int = 0

    @property
    def place(self) -> int:
        """Where it starts in its located pages, bytes."""
        return self.offset - self.start


@dataclass(frozen=True, slots=True)
class Want:
    """Who wants a buffer to be ready.

    Attributes:
        cycled: a surface that takes two or more buffers in turn.
        final: that it cannot be shown may end its client.
        create: linux-dmabuf's `create`; else the request that its client waits with.
    """

    cycled: bool
    final: bool = True
    create: bool = False


@dataclass(slots=True, eq=False)
class Buffer:
    """A buffer of the guest, in a pool or made of dma-bufs.

    Attributes:
        serial: tells it from every other buffer that this client ever had.
        object: the `wl_buffer`; its host id is that of the current presentation.
        planes: where its bytes are; one in a pool, whatever the format.
        width: pixels.
        height: pixels.
        shm_format: as in `wl_shm`.
        not_shm: why it can be in no `wl_shm` pool; empty if it can.
        params: the guest's `zwp_linux_buffer_params_v1` of a dma-buf; None in a pool.
        flags: of linux-dmabuf.
        created: the guest was told that it is, as an answer to `create`.
        life: where it is in its life.
        wanted: by whom, from then on until that is told.
        failure: why it was not shown when it was last wanted, if it was not.
        choice: how it is presented, and why, once that is known.
        lasting: no commit shows that the compositor has finished with it, only its
            release does, or the end of what else than a surface it was given to.
        orphan: the host's half, where the guest has destroyed its own.
        copy: mode C: the handle of our memfd.
        copy_made: mode C: the shell has made it.
        copied_for: mode C: guest id of the surface whose damage the copy follows.
        refused: why mode B was refused, if it was.
        outgrows: mode B may yet turn out to serve it better than mode A.
    """

    serial: int
    object: ProtocolObject
    planes: tuple[Plane, ...]
    width: int
    height: int
    shm_format: int
    not_shm: str = ""
    params: ProtocolObject | None = None
    flags: int = 0
    created: bool = False
    life: Life = field(default_factory=Life)
    wanted: Want | None = None
    failure: str = ""
    choice: Choice | None = None
    lasting: bool = False
    orphan: ProtocolObject | None = None
    copy: Handle | None = None
    copy_made: bool = False
    copied_for: int = 0
    refused: str = ""
    outgrows: bool = True

    @property
    def rows(self) -> Plane:
        """The one plane of a buffer that is in a pool, or could be."""
        return self.planes[0]

    @property
    def pool_size(self) -> int:
        """Bytes of a pool of its pages that ends with its last byte."""
        # Whole pages might be one byte over an int32.
        return self.rows.place + self.rows.length

    @property
    def locations(self) -> list[Location]:
        """The pinned ranges it has, each once."""
        found: dict[int, Location] = {}
        for plane in self.planes:
            if plane.location is not None:
                found[plane.location.location_id] = plane.location
        return list(found.values())

    @property
    def shape(self) -> BufferShape:
        """What decides its mode, once it is located."""
        locations = self.locations
        return BufferShape(
            planes=tuple(PlaneShape(each.place, each.stride) for each in self.planes),
            shm_format=self.shm_format,
            items=max(len(location.items) for location in locations),
            byte_length=max(location.length for location in locations),
            not_shm=self.not_shm,
            is_dmabuf=self.params is not None,
        )


def pool_plane(memory: Memory, geometry: PoolGeometry, pool_size: int) -> Plane:
    """Say where the bytes of a buffer in a pool are.

    Args:
        memory: the file.
        geometry: already checked.
        pool_size: bytes of the pool.
    """
    offset, stride = geometry.offset, geometry.stride
    length = stride * geometry.height
    if geometry.shm_format not in PIXEL_SIZE:
        length = min(3 * length, pool_size - offset)
    return Plane(memory, offset, length, stride, (offset, length))


def span_of(areas: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Say what contains all of these (first byte, bytes)."""
    known = list(areas)
    start = min(offset for offset, _ in known)
    return start, max(offset + length for offset, length in known) - start
