"""`wl_shm`, `wl_shm_pool` and their buffers: served here, not by the compositor.

The compositor never sees the guest's pools: each buffer becomes a `wl_buffer` of its own
when it is first shown (`relay.buffers`).  The checks are those of libwayland's
wayland-shm.c, so that a client meets the same errors as without us; a stride is held
to the width in bytes, not pixels, lest a compositor read beyond the pool.
"""

from typing import Final

from wlproxy.protocol.channel.frames import AttachmentKind
from wlproxy.relay.buffers.buffer import (
    SHM_INVALID_FD,
    SHM_INVALID_FORMAT,
    SHM_INVALID_STRIDE,
    Buffer,
    Pool,
    PoolGeometry,
    pool_plane,
)
from wlproxy.relay.formats import PIXEL_SIZE
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request

INT_MAX: Final = 0x7FFFFFFF


def offer_format(state: ClientState, event: Event) -> None:
    """`wl_shm.format`: one more that buffers may have."""
    state.context.shm_formats.add(event.integer("format"))
    state.forward_event(event.object, event.spec, event.raw)


def create_pool(state: ClientState, request: Request) -> None:
    """`wl_shm.create_pool`: enter the pool; nothing is located or mapped."""
    size = request.integer("size")
    attachment = request.fds[0]
    if size <= 0:
        raise request.error(SHM_INVALID_STRIDE, f"invalid size ({size})")
    if attachment.kind is not AttachmentKind.MEMORY:
        raise request.error(
            SHM_INVALID_FD, "the pool's fd is no memory that can be shared"
        )
    pool = state.add_guest(request, "wl_shm_pool")
    pool.role = Pool(state.locations.use_memory(attachment.object_id), size)


def create_buffer(state: ClientState, request: Request) -> None:
    """`wl_shm_pool.create_buffer`: enter the buffer."""
    pool = request.object.role
    assert isinstance(pool, Pool)
    values = request.integers("offset", "width", "height", "stride", "format")
    geometry = PoolGeometry(*values)
    _check(state, request, pool, geometry)
    buffer = state.add_guest(request, "wl_buffer")
    memory = state.locations.use_memory(pool.memory.memory_id)
    plane = pool_plane(memory, geometry, pool.size)
    state.buffers.add(buffer, (plane,), geometry)


def resize_pool(state: ClientState, request: Request) -> None:
    """`wl_shm_pool.resize`: pools only grow; ranges are located when they are used."""
    pool = request.object.role
    assert isinstance(pool, Pool)
    size = request.integer("size")
    if size < pool.size:
        raise request.error(SHM_INVALID_FD, "shrinking pool invalid")
    pool.size = size


def destroy_pool(state: ClientState, request: Request) -> None:
    """`wl_shm_pool.destroy`: its buffers live on."""
    pool = request.object.role
    assert isinstance(pool, Pool)
    state.context.delete_guest_id(request.object)
    state.locations.drop_memory(pool.memory)


def destroy_buffer(state: ClientState, request: Request) -> None:
    """`wl_buffer.destroy`: ours, or one that another protocol made."""
    buffer = request.object.role
    if isinstance(buffer, Buffer):
        # What the compositor makes of that is its own business.
        for waiting in state.surfaces.waiting_for(buffer):
            state.attach_postponed(waiting)
        state.buffers.destroy(buffer)
    else:
        state.forward(request)


def release_buffer(state: ClientState, event: Event) -> None:
    """`wl_buffer.release`: the compositor no longer reads it."""
    buffer = event.object.role
    if isinstance(buffer, Buffer):
        state.buffers.released(buffer)
    state.forward_event(event.object, event.spec, event.raw)


def _check(
    state: ClientState, request: Request, pool: Pool, geometry: PoolGeometry
) -> None:
    """Check a buffer as libwayland does.

    Raises:
        WaylandError: it is not in its pool, or of no format that there is.
    """
    known = state.context.shm_formats
    shm_format, stride = geometry.shm_format, geometry.stride
    width, height = geometry.width, geometry.height
    if known and shm_format not in known:
        raise request.error(SHM_INVALID_FORMAT, f"invalid format {shm_format:#x}")
    if (
        geometry.offset < 0
        or width <= 0
        or height <= 0
        or stride < width * PIXEL_SIZE.get(shm_format, 1)
        or INT_MAX // stride < height
        or geometry.offset > pool.size - stride * height
    ):
        raise request.error(
            SHM_INVALID_STRIDE,
            f"invalid width, height or stride ({width}x{height}, {stride})",
        )
