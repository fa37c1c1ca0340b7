"""Pools and buffers of guest shared memory, and how they become host `wl_buffer`s.

A buffer costs the host nothing until it is first shown (cursor themes define dozens):
then its pages are located, a mode is chosen (`presentation`) and the host's buffer is
made.  Each of these steps waits for an answer, so `Buffers.prepare` is called again
after every input until it says that the buffer is ready.  Not here: damage and what is
on which surface (`surfaces`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from wlproxy.protocol.channel.frames import LocateStatus
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.interfaces import INTERFACES
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    FIRST_SERVER_ID,
    DisplayError,
    Message,
)
from wlproxy.relay.commands import CloseHandle, CreateCopyBuffer
from wlproxy.relay.context import Context, ignore_event, once
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.locations import Location, Locations, Memory, Progress
from wlproxy.relay.objects import ProtocolObject
from wlproxy.relay.presentation import (
    PAGE_SIZE,
    PIXEL_SIZE,
    BufferShape,
    Choice,
    Mode,
    choose,
    drm_format,
)

SHM_INVALID_FORMAT, SHM_INVALID_STRIDE, SHM_INVALID_FD = 0, 1, 2
"""`wl_shm.error`."""

DMABUF_VERSION: Final = 4
"""Of linux-dmabuf: from 4 on no event comes unasked, before that a flood of formats."""

MODIFIER_LINEAR = 0


@dataclass(slots=True)
class Pool:
    """A `wl_shm_pool`.  It exists only on the guest's side.

    Attributes:
        memory: the file behind it.
        size: bytes, as the guest last said.
    """

    memory: Memory
    size: int


@dataclass(slots=True, eq=False)
class Buffer:
    """A buffer in a pool.

    Attributes:
        serial: tells it from every other buffer that this client ever had.
        entry: the `wl_buffer`; its host id is that of the current presentation.
        memory: the file, until it is located.
        offset: first byte in the file.
        length: bytes that the compositor may read.
        width: pixels.
        height: pixels.
        stride: bytes per row.
        shm_format: as in `wl_shm`.
        location: its pinned pages.
        choice: how it is presented, and why, once that is known.
        progress: of the host's buffer.
        held: the compositor may be reading it.
        shown: how many surfaces have it, pending or current.
        destroyed: the guest has destroyed it.
        copy: mode C: the handle of our memfd.
        copy_progress: of making that.
        copied_for: mode C: guest id of the surface whose damage the copy follows.
        refused: why mode B was refused, if it was.
        settled: mode A is final: mode B cannot serve it.
    """

    serial: int
    entry: ProtocolObject
    memory: Memory | None
    offset: int
    length: int
    width: int
    height: int
    stride: int
    shm_format: int
    location: Location | None = None
    choice: Choice | None = None
    progress: Progress = Progress.NONE
    held: bool = False
    shown: int = 0
    destroyed: bool = False
    copy: Handle | None = None
    copy_progress: Progress = Progress.NONE
    copied_for: int = 0
    refused: str = ""
    settled: bool = False

    @property
    def page_offset(self) -> int:
        """Where it starts in its first page, bytes."""
        return self.offset % PAGE_SIZE


class Buffers:
    """The buffers of one client."""

    def __init__(
        self, context: Context, locations: Locations, handles: Iterator[Handle]
    ) -> None:
        self._context = context
        self._locations = locations
        self._handles = handles
        self._copies: dict[Handle, Buffer] = {}
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
        offset, width, height, stride, shm_format = geometry
        length = stride * height
        if shm_format not in PIXEL_SIZE:
            length = min(3 * length, pool.size - offset)
        memory = self._locations.use_memory(pool.memory.memory_id)
        entry.role = Buffer(
            next(self._serials),
            entry,
            memory,
            offset,
            length,
            width,
            height,
            stride,
            shm_format,
        )

    def prepare(self, buffer: Buffer, *, cycled: bool) -> bool:
        """Make the buffer ready to be shown, as far as that goes now.

        Args:
            buffer: about to be attached.
            cycled: the surface takes two or more buffers in turn.

        Returns:
            Whether it is ready; if not, an answer is awaited: call again after it.

        Raises:
            WaylandError: the guest cannot say where its pages are.
        """
        location = self._located(buffer)
        if location is None:
            return False
        if buffer.progress is Progress.READY:
            if not self._should_upgrade(buffer, location, cycled=cycled):
                return True
            self._withdraw(buffer)
        return self._present(buffer, location, cycled=cycled)

    def destroy(self, buffer: Buffer) -> None:
        """The guest destroyed the buffer: free it when nothing reads it any more.

        For one that the compositor may be reading, the compositor's own lives on until
        it says that it has finished, which it could not say of one that is destroyed.
        """
        entry = buffer.entry
        if not entry.host_id:
            self._context.delete_guest_id(entry)
        elif buffer.held:
            host = self._context.objects.detach_host(entry)
            host.role = buffer
            host.listener = once(host, lambda _message: self._released(buffer, host))
            self._context.delete_guest_id(entry)
        else:
            self._context.send(entry, "destroy")
            if entry.host_id >= FIRST_SERVER_ID:
                # The host's id has no delete_id, the guest's needs one.
                self._context.delete_guest_id(entry)
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
        if buffer.memory is not None:
            self._locations.drop_memory(buffer.memory)
            buffer.memory = None
        location, buffer.location = buffer.location, None
        if location is None:
            return

        def free(_message: Message[ReceivedFd]) -> None:
            self._drop_copy(buffer)
            self._locations.release(location)

        self._context.when_compositor_reached(free)

    def buffer_created(self, handle: Handle) -> None:
        """Take the shell's word that what a handle names is made."""
        if not self._locations.buffer_created(handle):
            self._copies[handle].copy_progress = Progress.READY

    def buffer_failed(self, handle: Handle, message: str) -> None:
        """Take the shell's word that it could not be made.

        Raises:
            WaylandError: it was the copy buffer of mode C: there is nothing left to try.
        """
        if not self._locations.buffer_failed(handle, message):
            buffer = self._copies.pop(handle)
            buffer.copy = None
            raise WaylandError(
                DISPLAY_ID, DisplayError.NO_MEMORY, f"wlproxy: no memory: {message}"
            )

    def _released(self, buffer: Buffer, host: ProtocolObject) -> None:
        """The compositor has finished with a buffer that the guest destroyed before."""
        self._context.send(host, "destroy")
        buffer.held = False
        self.settle(buffer)

    def _located(self, buffer: Buffer) -> Location | None:
        """Find the pages of a buffer; None while the guest is looking."""
        if buffer.location is None:
            if buffer.memory is None:
                raise self._context.fail(
                    buffer.entry, SHM_INVALID_FD, "wlproxy: buffer without memory"
                )
            buffer.location = self._locations.acquire(
                buffer.memory, buffer.offset, buffer.length
            )
        location = buffer.location
        if location.failure is not None:
            raise self._context.fail(buffer.entry, *_words(location))
        if location.progress is Progress.PENDING:
            return None
        if buffer.memory is not None:
            self._locations.drop_memory(buffer.memory)
            buffer.memory = None
        return location

    def _present(self, buffer: Buffer, location: Location, *, cycled: bool) -> bool:
        """Make the host's buffer, as far as that goes now; says whether it is there."""
        if buffer.choice is None:
            buffer.choice = self._choose(buffer, location, cycled=cycled)
        if buffer.choice.mode is not Mode.COPY:
            made = self._locations.want_udmabuf(location)
            if made is Progress.FAILED:
                reason = f"udmabuf: {location.udmabuf_failure}"
                buffer.choice = Choice(Mode.COPY, reason)
            elif made is not Progress.READY:
                return False
        match buffer.choice.mode:
            case Mode.COPY:
                return self._prepare_copy(buffer)
            case Mode.DMABUF:
                return self._prepare_dmabuf(buffer, location)
            case _:
                return self._prepare_shm(buffer, location)

    def _choose(self, buffer: Buffer, location: Location, *, cycled: bool) -> Choice:
        shape = BufferShape(
            byte_offset=buffer.page_offset,
            stride=buffer.stride,
            shm_format=buffer.shm_format,
            items=len(location.items),
            byte_length=location.length,
        )
        config, capabilities = self._context.config, self._context.capabilities
        return choose(
            shape,
            capabilities,
            config.preference,
            cycled=cycled,
            refused=buffer.refused,
        )

    def _should_upgrade(
        self, buffer: Buffer, location: Location, *, cycled: bool
    ) -> bool:
        """Whether a ready mode A buffer would now be better off in mode B."""
        if buffer.choice is None or buffer.choice.mode is not Mode.SHM:
            return False
        if not cycled or buffer.held or buffer.shown or buffer.settled:
            return False
        better = self._choose(buffer, location, cycled=True)
        buffer.settled = better.mode is Mode.SHM
        if buffer.settled:
            buffer.choice = better  # for its reason
        return not buffer.settled

    def _withdraw(self, buffer: Buffer) -> None:
        """Destroy the host's buffer; the guest's lives on without one."""
        old = self._context.objects.detach_host(buffer.entry)
        old.listener = ignore_event
        self._context.send(old, "destroy")
        buffer.progress, buffer.choice = Progress.NONE, None

    def _prepare_shm(self, buffer: Buffer, location: Location) -> bool:
        assert location.udmabuf is not None  # READY
        self._create_in_pool(buffer, location.udmabuf)
        return True

    def _prepare_copy(self, buffer: Buffer) -> bool:
        size = buffer.page_offset + buffer.length
        if buffer.copy_progress is Progress.NONE:
            if not self._context.shares.copy_bytes.take(size):
                raise WaylandError(
                    DISPLAY_ID,
                    DisplayError.NO_MEMORY,
                    "wlproxy: too many bytes in buffers that are copied",
                )
            buffer.copy = next(self._handles)
            self._copies[buffer.copy] = buffer
            buffer.copy_progress = Progress.PENDING
            client_id = self._context.client_id
            self._context.command(CreateCopyBuffer(client_id, buffer.copy, size))
        if buffer.copy_progress is not Progress.READY or buffer.copy is None:
            return False
        self._create_in_pool(buffer, buffer.copy)
        return True

    def _create_in_pool(self, buffer: Buffer, handle: Handle) -> None:
        """Make a host pool of a handle's bytes, the buffer in it, and drop the pool."""
        context, entry = self._context, buffer.entry
        offset = buffer.page_offset
        size = offset + buffer.length  # whole pages might be one byte over an int32
        shm = context.own_global("wl_shm", 1)
        if shm is None:
            raise WaylandError(
                DISPLAY_ID, DisplayError.IMPLEMENTATION, "wlproxy: host has no wl_shm"
            )
        pool = context.objects.add_own(INTERFACES["wl_shm_pool"], 1, ignore_event)
        pool.role = buffer  # what an error about it is about
        context.send(shm, "create_pool", (pool.host_id, None, size), (handle,))
        host_id = context.objects.give_host_id(entry)
        geometry = (buffer.width, buffer.height, buffer.stride, buffer.shm_format)
        context.send(pool, "create_buffer", (host_id, offset, *geometry))
        context.send(pool, "destroy")
        buffer.progress = Progress.READY

    def _prepare_dmabuf(self, buffer: Buffer, location: Location) -> bool:
        """Import as linux-dmabuf, with `create`: a refusal is an event, not an error."""
        if buffer.progress is not Progress.NONE or location.udmabuf is None:
            return False  # awaiting `created` or `failed`
        context = self._context
        dmabuf = context.own_global("zwp_linux_dmabuf_v1", DMABUF_VERSION)
        if dmabuf is None:
            self._refuse_dmabuf(buffer, "the compositor took linux-dmabuf away")
            return self._present(buffer, location, cycled=False)
        params = context.objects.add_own(
            INTERFACES["zwp_linux_buffer_params_v1"], dmabuf.version
        )

        def answered(message: Message[ReceivedFd]) -> None:
            created = params.interface.event("created").opcode == message.opcode
            if created:
                host = context.objects.host(message.integer(0))
                assert host is not None  # entered before listeners are called
                context.objects.adopt_host(buffer.entry, host)
                buffer.progress = Progress.READY
            else:
                self._refuse_dmabuf(buffer, "the compositor refused the import")
            context.send(params, "destroy")

        params.listener = once(params, answered)
        buffer.progress = Progress.PENDING
        context.send(dmabuf, "create_params", (params.host_id,))
        plane = (None, 0, buffer.page_offset, buffer.stride, 0, MODIFIER_LINEAR)
        context.send(params, "add", plane, (location.udmabuf,))
        fourcc = drm_format(buffer.shm_format)
        context.send(params, "create", (buffer.width, buffer.height, fourcc, 0))
        return False

    def _refuse_dmabuf(self, buffer: Buffer, why: str) -> None:
        buffer.refused = why
        buffer.progress, buffer.choice = Progress.NONE, None

    def _drop_copy(self, buffer: Buffer) -> None:
        if buffer.copy is not None:
            self._copies.pop(buffer.copy, None)
            size = buffer.page_offset + buffer.length
            self._context.shares.copy_bytes.give_back(size)
            self._context.command(CloseHandle(self._context.client_id, buffer.copy))
            buffer.copy = None


def _words(location: Location) -> tuple[int, str]:
    """Say to a client why its buffer cannot be shown: error code and message."""
    failure = location.failure
    status = failure.status if failure is not None else LocateStatus.FAILED
    if status is LocateStatus.OUT_OF_RANGE:
        return SHM_INVALID_FD, "wlproxy: the pool's file ends before its buffer"
    errno = failure.errno if failure is not None else 0
    return (
        SHM_INVALID_FD,
        f"wlproxy: the guest agent cannot locate the buffer: {status.name}"
        + (f" (errno {errno})" if errno else ""),
    )
