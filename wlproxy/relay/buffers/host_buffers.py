"""Host `wl_buffer`s of located buffers: the three modes, as requests and commands.

Which mode, `presentation` says; where the bytes are, `locations`.  When a buffer is
made ready, and when its pages are let go of, is decided in `buffers`.
"""

from collections.abc import Callable, Iterator
from typing import Final

from wlproxy.protocol.errors import CompositorError
from wlproxy.protocol.wayland.interfaces import INTERFACES
from wlproxy.protocol.wayland.message import Message
from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.choice import Choice, Mode, choose
from wlproxy.relay.buffers.locations import Locations, Progress
from wlproxy.relay.commands import CloseHandle, CreateCopyBuffer
from wlproxy.relay.formats import MODIFIER_LINEAR, drm_format
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.wire.context import Context, ignore_event, once
from wlproxy.relay.wire.objects import ProtocolObject

DMABUF_VERSION: Final = 4
"""Of linux-dmabuf: from 4 on no event comes unasked, before that a flood of formats."""


class HostBuffers:
    """Makes the host's buffers for those of one client."""

    def __init__(
        self, context: Context, locations: Locations, handles: Iterator[Handle]
    ) -> None:
        self._context = context
        self._locations = locations
        self._handles = handles
        self._copies: dict[Handle, Buffer] = {}

    def present(self, buffer: Buffer, *, cycled: bool) -> bool:
        """Make the host's buffer of a located one, as far as that goes now.

        Args:
            buffer: all its planes have their locations.
            cycled: the surface takes two or more buffers in turn.

        Returns:
            Whether it is there, or the buffer is dead; else an answer is awaited.

        Raises:
            WaylandError: the compositor has no `wl_shm`, and it is in a pool.
        """
        if buffer.progress is Progress.READY:
            if not self.should_upgrade(buffer, cycled=cycled):
                return True
            self.withdraw(buffer)
        if buffer.choice is None:
            buffer.choice = self._choose(buffer, cycled=cycled)
        if buffer.choice.mode in (Mode.SHM, Mode.DMABUF) and not self._mapped(buffer):
            return False
        # Again, since a udmabuf may have failed.
        match buffer.choice.mode:
            case Mode.NONE:
                buffer.dead = buffer.choice.reason
                return True
            case Mode.COPY:
                return self._prepare_copy(buffer)
            case Mode.DMABUF:
                return self._prepare_dmabuf(buffer)
            case _:
                return self._prepare_shm(buffer)

    def take_copy(self, buffer: Buffer) -> Callable[[], None]:
        """Take the memfd of mode C from a buffer, if it has one; returns what frees it."""
        handle, buffer.copy = buffer.copy, None
        if handle is None:
            return lambda: None
        size = buffer.pool_size
        buffer.copy_progress, buffer.copied_for = Progress.NONE, 0

        def free() -> None:
            self._forget_copy(handle, size)
            self._context.command(CloseHandle(self._context.client_id, handle))

        return free

    def copy_created(self, handle: Handle) -> None:
        """Take the shell's word that a memfd is made."""
        self._copies[handle].copy_progress = Progress.READY

    def copied_for(self, handle: Handle) -> int:
        """Look up the surface that a memfd was copied for; 0 if none."""
        return self._copies[handle].copied_for if handle in self._copies else 0

    def copy_failed(self, handle: Handle) -> None:
        """Take the shell's word that it could not be made: nothing is left to try."""
        buffer = self._copies[handle]
        self._forget_copy(handle, buffer.pool_size)
        buffer.copy, buffer.copy_progress = None, Progress.NONE
        _no_memory(buffer, "the host has no memory for a copy of its pixels")

    def _choose(self, buffer: Buffer, *, cycled: bool) -> Choice:
        return choose(
            buffer.shape,
            self._context.capabilities,
            self._context.config.preference,
            cycled=cycled,
            refused=buffer.refused,
        )

    def should_upgrade(self, buffer: Buffer, *, cycled: bool) -> bool:
        """Whether a ready mode A buffer would now be better off in mode B."""
        if buffer.choice is None or buffer.choice.mode is not Mode.SHM:
            return False
        if not cycled or buffer.held or buffer.shown or buffer.settled:
            return False
        better = self._choose(buffer, cycled=True)
        buffer.settled = better.mode is Mode.SHM
        if buffer.settled:
            buffer.choice = better  # for its reason
        return not buffer.settled

    def withdraw(self, buffer: Buffer) -> None:
        """Destroy the host's buffer; the guest's lives on without one."""
        old = self._context.objects.detach_host(buffer.entry)
        old.listener = ignore_event
        self._context.send(old, "destroy")
        buffer.progress, buffer.choice = Progress.NONE, None

    def _mapped(self, buffer: Buffer) -> bool:
        """Have the udmabufs made; False while that is awaited."""
        # All of them are waited for before one that failed is judged.
        made = [self._locations.want_udmabuf(each) for each in buffer.locations]
        if Progress.PENDING in made:
            return False
        for location in buffer.locations:
            if location.udmabuf_progress is Progress.FAILED:
                reason = f"udmabuf: {location.udmabuf_failure}"
                mode = Mode.NONE if buffer.not_shm else Mode.COPY
                buffer.choice = Choice(mode, reason)
        return True

    def _prepare_shm(self, buffer: Buffer) -> bool:
        location = buffer.rows.location
        assert location is not None
        assert location.udmabuf is not None  # READY
        return self._create_in_pool(buffer, location.udmabuf)

    def _prepare_copy(self, buffer: Buffer) -> bool:
        size = buffer.pool_size
        if buffer.copy_progress is Progress.NONE:
            if not self._context.shares.copy_bytes.take(size):
                _no_memory(buffer, "too many bytes in buffers that are copied")
                return self.present(buffer, cycled=False)
            buffer.copy = next(self._handles)
            self._copies[buffer.copy] = buffer
            buffer.copy_progress = Progress.PENDING
            client_id = self._context.client_id
            self._context.command(CreateCopyBuffer(client_id, buffer.copy, size))
        if buffer.copy_progress is not Progress.READY or buffer.copy is None:
            return False
        return self._create_in_pool(buffer, buffer.copy)

    def _forget_copy(self, handle: Handle, size: int) -> None:
        del self._copies[handle]
        self._context.shares.copy_bytes.give_back(size)

    def _create_in_pool(self, buffer: Buffer, handle: Handle) -> bool:
        """Make a host pool of a handle's bytes, the buffer in it, and drop the pool."""
        context, entry, rows = self._context, buffer.entry, buffer.rows
        shm = context.own_global("wl_shm", 1)
        if shm is None:
            if buffer.params is not None:
                buffer.dead = "the compositor has no wl_shm"
                return True
            raise CompositorError("it has no wl_shm")
        pool = context.objects.add_own(INTERFACES["wl_shm_pool"], 1, ignore_event)
        pool.role = buffer  # what an error about it is about
        context.send(
            shm, "create_pool", (pool.host_id, None, buffer.pool_size), (handle,)
        )
        host_id = context.objects.give_host_id(entry)
        geometry = (buffer.width, buffer.height, rows.stride, buffer.shm_format)
        context.send(pool, "create_buffer", (host_id, rows.place, *geometry))
        context.send(pool, "destroy")
        buffer.progress = Progress.READY
        return True

    def _prepare_dmabuf(self, buffer: Buffer) -> bool:
        """Import as linux-dmabuf, with `create`: a refusal is an event, not an error."""
        if buffer.progress is not Progress.NONE:
            return False  # awaiting `created` or `failed`
        context = self._context
        dmabuf = context.own_global("zwp_linux_dmabuf_v1", DMABUF_VERSION)
        if dmabuf is None:
            _refuse_dmabuf(buffer, "the compositor took linux-dmabuf away")
            return self.present(buffer, cycled=False)
        params = context.objects.add_own(
            INTERFACES["zwp_linux_buffer_params_v1"], dmabuf.version
        )

        def answered(message: Message[ReceivedFd]) -> None:
            created = params.interface.event("created").opcode == message.opcode
            if created:
                self._imported(buffer, context.objects.host(message.integer(0)))
            else:
                _refuse_dmabuf(buffer, "the compositor refused the import")
            context.send(params, "destroy")

        params.listener = once(params, answered)
        buffer.progress = Progress.PENDING
        context.send(dmabuf, "create_params", (params.host_id,))
        for index, plane in enumerate(buffer.planes):
            assert plane.location is not None
            assert plane.location.udmabuf is not None  # READY
            args = (None, index, plane.place, plane.stride, 0, MODIFIER_LINEAR)
            context.send(params, "add", args, (plane.location.udmabuf,))
        fourcc = drm_format(buffer.shm_format)
        size = (buffer.width, buffer.height)
        context.send(params, "create", (*size, fourcc, buffer.flags))
        return False

    def _imported(self, buffer: Buffer, host: ProtocolObject | None) -> None:
        assert host is not None  # entered before listeners are called
        self._context.objects.adopt_host(buffer.entry, host)
        buffer.progress = Progress.READY


def _no_memory(buffer: Buffer, message: str) -> None:
    """Choose to show it in no way, unless room can be made."""
    buffer.choice = Choice(Mode.NONE, message)
    buffer.over_limit = True


def _refuse_dmabuf(buffer: Buffer, why: str) -> None:
    buffer.refused = why
    buffer.progress, buffer.choice = Progress.NONE, None
