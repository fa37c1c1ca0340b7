"""The buffers of a client: when they are made ready, and when their pages are let go of.

A buffer costs the host nothing until it is first shown (cursor themes define dozens),
or until linux-dmabuf's `create` wants to know if it can be: then its pages are located,
and the host's buffer is made (`host_buffers`).  Each of these steps waits for an answer,
so `Buffers.prepare` is called again after every input until it says that nothing is
awaited any more.  Not here: damage and what is on which surface (`surfaces`).

A buffer in a pool that cannot be shown ends its client, since `wl_shm` knows no other
way to say so.  A dma-buf is *dead* then: its client is told, and goes on.
"""

from collections.abc import Iterator, Sequence
from itertools import count

from wlproxy.protocol.channel.frames import LocateStatus
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.message import FIRST_SERVER_ID, Message
from wlproxy.relay.buffer import Buffer, Plane, Pool, pool_plane
from wlproxy.relay.commands import TraceLevel
from wlproxy.relay.context import Context, once
from wlproxy.relay.formats import shm_format
from wlproxy.relay.handles import Handle
from wlproxy.relay.host_buffers import HostBuffers
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.locations import Location, Locations, Progress
from wlproxy.relay.objects import ProtocolObject

SHM_INVALID_FORMAT, SHM_INVALID_STRIDE, SHM_INVALID_FD = 0, 1, 2
"""`wl_shm.error`."""


class Buffers:
    """The buffers of one client."""

    def __init__(
        self, context: Context, locations: Locations, handles: Iterator[Handle]
    ) -> None:
        self._context = context
        self._locations = locations
        self._host_buffers = HostBuffers(context, locations, handles)
        self._serials = count(1)

    def create_pool(self, entry: ProtocolObject, memory_id: int, size: int) -> None:
        """Enter a pool; `entry` is the guest's `wl_shm_pool`."""
        entry.role = Pool(self._locations.use_memory(memory_id), size)

    def destroy_pool(self, pool: Pool) -> None:
        """The guest destroyed the pool; its buffers keep what they need."""
        self._locations.drop_memory(pool.memory)

    def create(
        self,
        pool: Pool,
        entry: ProtocolObject,
        geometry: tuple[int, int, int, int, int],
    ) -> None:
        """Enter a buffer: (offset, width, height, stride, format), already checked."""
        _offset, width, height, _stride, fmt = geometry
        memory = self._locations.use_memory(pool.memory.memory_id)
        plane = pool_plane(memory, geometry, pool.size)
        entry.role = Buffer(
            next(self._serials), entry, (plane,), width, height, shm_format=fmt
        )

    def create_of_dmabufs(
        self,
        entry: ProtocolObject,
        params: ProtocolObject,
        planes: Sequence[Plane],
        geometry: tuple[int, int, int, int],
        not_shm: str,
    ) -> Buffer:
        """Enter a buffer made of dma-bufs, all of it already checked.

        Args:
            entry: its `wl_buffer`, which the guest may not know yet.
            params: what it was made with; told if it cannot be shown.
            planes: as many as its format has; their memories are the buffer's now.
            geometry: (width, height, DRM format, flags).
            not_shm: why it can be in no `wl_shm` pool.
        """
        width, height, fourcc, flags = geometry
        entry.role = buffer = Buffer(
            next(self._serials),
            entry,
            tuple(planes),
            width,
            height,
            shm_format(fourcc),
            not_shm,
            params,
            flags,
        )
        return buffer

    def prepare(self, buffer: Buffer, *, cycled: bool) -> bool:
        """Make the buffer ready to be shown, as far as that goes now.

        Args:
            buffer: about to be attached, or imported.
            cycled: the surface takes two or more buffers in turn.

        Returns:
            Whether it is ready, or dead; if not, an answer is awaited: call again
            after it.

        Raises:
            WaylandError: it cannot be shown, and it is in a pool.
        """
        known = bool(buffer.dead)
        if known or not self._advance(buffer, cycled=cycled):
            return known
        if buffer.dead:
            self.kill(buffer, buffer.dead)
        return True

    def kill(self, buffer: Buffer, why: str) -> None:
        """Declare a dma-buf dead, and tell the app, if it still wants to know."""
        buffer.dead = why
        message = f"a dma-buf of {buffer.width}x{buffer.height} cannot be shown: {why}"
        self._context.trace(TraceLevel.WARNING, message)
        if buffer.params is not None and buffer.params.guest_id:
            self._context.send_event(buffer.params, "failed")

    def refuse(self, buffer: Buffer) -> None:
        """A dead buffer was attached: hand it back at once, nothing reads it."""
        if buffer.entry.guest_id:
            self._context.send_event(buffer.entry, "release")

    def destroy(self, buffer: Buffer) -> None:
        """The guest destroyed the buffer: free it when nothing reads it any more.

        For one that the compositor may be reading, the compositor's own lives on until
        it says that it has finished, which it could not say of one that is destroyed.
        """
        entry = buffer.entry
        if not entry.host_id:
            self._forget_guest(entry)
        elif buffer.held:
            host = self._context.objects.detach_host(entry)
            host.role = buffer
            host.listener = once(host, lambda _message: self._released(buffer, host))
            self._forget_guest(entry)
        else:
            self._context.send(entry, "destroy")
            if max(entry.host_id, entry.guest_id) >= FIRST_SERVER_ID:
                # One of the server's has no delete_id; what the guest allocated,
                # and the compositor did not, needs one all the same.
                self._forget_guest(entry)
        buffer.destroyed = True
        self.settle(buffer)

    def settle(self, buffer: Buffer) -> None:
        """Free a destroyed buffer that is released, and that no surface has any more.

        The compositor has seen that too when it answers a sync sent now; only then
        may the guest use the pages for something else.  That no surface has it is not
        enough: what a subsurface commits may have to wait for its parent.
        """
        if not buffer.destroyed or buffer.shown or buffer.held:
            return
        self._drop_memories(buffer)
        locations = [
            plane.location for plane in buffer.planes if plane.location is not None
        ]
        for plane in buffer.planes:
            plane.location = None
        if not locations:
            return

        def free(_message: Message[ReceivedFd]) -> None:
            self._host_buffers.drop_copy(buffer)
            for location in locations:
                self._locations.release(location)

        self._context.when_compositor_reached(free)

    def buffer_created(self, handle: Handle) -> None:
        """Take the shell's word that what a handle names is made."""
        if not self._locations.buffer_created(handle):
            self._host_buffers.copy_created(handle)

    def copied_for(self, handle: Handle) -> int:
        """Look up the surface that the memfd of a handle was copied for; 0 if none."""
        return self._host_buffers.copied_for(handle)

    def buffer_failed(self, handle: Handle, message: str) -> None:
        """Take the shell's word that it could not be made.

        Raises:
            WaylandError: it was the copy buffer of mode C: there is nothing left to try.
        """
        if not self._locations.buffer_failed(handle, message):
            self._host_buffers.copy_failed(handle)

    def _advance(self, buffer: Buffer, *, cycled: bool) -> bool:
        made = buffer.progress is Progress.READY and not buffer.destroyed
        if not made and not self._located(buffer):
            return False
        return bool(buffer.dead) or self._host_buffers.present(buffer, cycled=cycled)

    def _forget_guest(self, entry: ProtocolObject) -> None:
        if entry.guest_id:
            self._context.delete_guest_id(entry)

    def _released(self, buffer: Buffer, host: ProtocolObject) -> None:
        """The compositor has finished with a buffer that the guest destroyed before."""
        self._context.send(host, "destroy")
        buffer.held = False
        self.settle(buffer)

    def _located(self, buffer: Buffer) -> bool:
        """Find the pages of a buffer; False while the guest is looking.

        Of several planes, all are waited for before one that failed is judged.
        """
        for plane in buffer.planes:
            if plane.location is None and not self._acquire(buffer, plane):
                break
        locations = buffer.locations
        if any(location.progress is Progress.PENDING for location in locations):
            return False
        for location in locations:
            if location.failure is not None:
                self._fail(buffer, SHM_INVALID_FD, _words(buffer, location))
        if not buffer.dead:
            self._drop_memories(buffer)
            self._merge(buffer)
        return True

    def _acquire(self, buffer: Buffer, plane: Plane) -> bool:
        """Have the pages of a plane located; False if that cannot be.

        Raises:
            WaylandError: the buffer was destroyed, or the client has too many.
        """
        if plane.memory is None:
            raise self._context.fail(
                buffer.entry, SHM_INVALID_FD, "wlproxy: buffer without memory"
            )
        try:
            plane.location = self._locations.acquire(plane.memory, *plane.span)
            plane.start = plane.location.start
        except WaylandError as error:
            if buffer.params is None:
                raise
            buffer.dead = error.message
            return False
        return True

    def _fail(self, buffer: Buffer, code: int, message: str) -> None:
        """A buffer's pages are not to be had.

        Raises:
            WaylandError: it is in a pool.
        """
        if buffer.params is None:
            raise self._context.fail(buffer.entry, code, message)
        buffer.dead = message

    def _merge(self, buffer: Buffer) -> None:
        """Have planes of the same pages share one location, and one dma-buf."""
        first, *others = buffer.planes
        for plane in others:
            location, other = first.location, plane.location
            assert location is not None
            assert other is not None
            if other is not location and other.items == location.items:
                plane.location = self._locations.merge(location, other)

    def _drop_memories(self, buffer: Buffer) -> None:
        for plane in buffer.planes:
            if plane.memory is not None:
                self._locations.drop_memory(plane.memory)
                plane.memory = None


def _words(buffer: Buffer, location: Location) -> str:
    """Say to a client why its buffer cannot be shown."""
    failure = location.failure
    status = failure.status if failure is not None else LocateStatus.FAILED
    if status is LocateStatus.OUT_OF_RANGE:
        file = "pool's file" if buffer.params is None else "dma-buf"
        return f"wlproxy: the {file} ends before its buffer"
    errno = failure.errno if failure is not None else 0
    return f"wlproxy: the guest agent cannot locate the buffer: {status.name}" + (
        f" (errno {errno})" if errno else ""
    )
