"""Making host `wl_buffer`s of located buffers: the three modes, as requests and commands.

Which mode, `choice` says; where the bytes are, `locations`; when a buffer is made, and
what follows of it, `life`.
"""

from dataclasses import dataclass
from typing import Final

from wlproxy.protocol.errors import CompositorError
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import FIRST_SERVER_ID
from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.choice import Choice, Mode, choose
from wlproxy.relay.buffers.life import Input, State
from wlproxy.relay.buffers.locations import Location, Locations, Progress
from wlproxy.relay.buffers.pages import Obstacle
from wlproxy.relay.commands import CreateCopyBuffer
from wlproxy.relay.formats import MODIFIER_LINEAR, drm_format
from wlproxy.relay.handles import Handle
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import IGNORED, Listener, OwnEvent, ProtocolObject

DMABUF_VERSION: Final = 4
"""The version of linux-dmabuf to bind: from 4 on no flood of formats comes unasked."""


@dataclass(frozen=True, slots=True)
class Memfd:
    """A memfd of mode C, taken from its buffer."""

    handle: Handle
    size: int


@dataclass(frozen=True, slots=True)
class ImportAnswer(Listener):
    """Waits for what the compositor says to the import of a buffer."""

    buffer: Buffer


@dataclass(frozen=True, slots=True)
class OrphanRelease(Listener):
    """Waits until the compositor has finished with a buffer that is destroyed."""

    buffer: Buffer


@dataclass(frozen=True, slots=True)
class Reached(Listener):
    """Waits until the compositor has seen us let go of a buffer: its pages are free.

    Attributes:
        locations: the pages.
        copy: the memfd of mode C, if there was one.
        released: the buffer, if its app does not know yet that it may use it.
    """

    locations: tuple[Location, ...]
    copy: Memfd | None
    released: Buffer | None


class Presenter:
    """Makes the host's buffers for those of one client."""

    def __init__(self, context: Context, locations: Locations) -> None:
        self._context = context
        self._locations = locations

    def make(self, buffer: Buffer) -> Input | Obstacle | None:
        """Make the host's buffer of a located one, as far as that goes now.

        Args:
            buffer: all its planes have their locations, and it is wanted.

        Returns:
            What that means for the buffer; None if the shell is to answer first.

        Raises:
            CompositorError: it has no `wl_shm`, and the buffer is in a pool.
        """
        assert buffer.wanted is not None
        if buffer.choice is None:
            buffer.choice = self._choose(buffer, cycled=buffer.wanted.cycled)
        if buffer.choice.mode in (Mode.SHM, Mode.DMABUF) and not self._mapped(buffer):
            return None
        # Again, since a udmabuf may have failed.
        match buffer.choice.mode:
            case Mode.NONE:
                return Obstacle(buffer.choice.reason)
            case Mode.COPY:
                return self._make_copy(buffer)
            case Mode.DMABUF:
                return self._import(buffer)
            case _:
                location = buffer.rows.location
                assert location is not None
                assert location.udmabuf is not None  # READY
                made = self._create_in_pool(buffer, location.udmabuf)
                if made is Input.MADE and self._context.capabilities.shm_once:
                    self._locations.spend_udmabuf(location)
                return made

    def imported(
        self, buffer: Buffer, params: ProtocolObject, answer: OwnEvent
    ) -> Input:
        """Take `created` or `failed` of our own params; say what that means."""
        created = params.interface.event("created").opcode == answer.opcode
        if created:
            host = self._context.objects.host(answer.integer(0))
            assert host is not None  # entered before anybody is told
            self._context.objects.adopt_host(buffer.object, host)
        else:
            buffer.refused = "the compositor refused the import"
            buffer.choice = None
        self._context.send(params, "destroy")
        return Input.MADE if created else Input.REFUSED

    def outgrows(self, buffer: Buffer, *, cycled: bool) -> bool:
        """Whether a ready mode A buffer would now be better off in mode B."""
        if buffer.choice is None or buffer.choice.mode is not Mode.SHM:
            return False
        if not cycled or buffer.life.state is not State.READY or not buffer.outgrows:
            return False
        better = self._choose(buffer, cycled=True)
        buffer.outgrows = better.mode is not Mode.SHM
        if not buffer.outgrows:
            buffer.choice = better  # for its reason
        return buffer.outgrows

    def withdraw(self, buffer: Buffer) -> None:
        """Destroy the host's buffer; the guest's lives on without one."""
        old = self._context.objects.detach_host(buffer.object)
        old.listener = IGNORED
        self._context.send(old, "destroy")
        buffer.choice = None

    def destroy(self, buffer: Buffer) -> None:
        """Destroy the host's buffer, if there is one, and the guest's with it."""
        entry = buffer.object
        if not entry.host_id:
            self._forget_guest(entry)
            return
        self._context.send(entry, "destroy")
        if max(entry.host_id, entry.guest_id) >= FIRST_SERVER_ID:
            # One of the server's has no delete_id; what the guest allocated,
            # and the compositor did not, needs one all the same.
            self._forget_guest(entry)

    def orphan(self, buffer: Buffer) -> None:
        """Part the host's half from the guest's, which ends, and await its release."""
        buffer.orphan = self._context.objects.detach_host(buffer.object)
        buffer.orphan.role = buffer
        buffer.orphan.listener = OrphanRelease(buffer)
        self._forget_guest(buffer.object)

    def disown(self, buffer: Buffer) -> None:
        """Destroy the host's half of an orphan."""
        host, buffer.orphan = buffer.orphan, None
        assert host is not None  # taken once
        host.listener = IGNORED
        self._context.send(host, "destroy")

    def take_copy(self, buffer: Buffer) -> Memfd | None:
        """Take the memfd of mode C from a buffer, if it has one, for `drop_copy`."""
        handle, buffer.copy = buffer.copy, None
        buffer.copied_for, buffer.copy_made = 0, False
        return None if handle is None else Memfd(handle, buffer.pool_size)

    def drop_copy(self, copy: Memfd | None) -> None:
        """Close a memfd that nobody reads any more."""
        if copy is not None:
            self._context.shares.copy_bytes.give_back(copy.size)
            self._context.close_handle(copy.handle)

    def copy_failed(self, buffer: Buffer) -> None:
        """Take the shell's word that the memfd of a buffer could not be made."""
        buffer.copy = None
        self._context.shares.copy_bytes.give_back(buffer.pool_size)

    def _forget_guest(self, entry: ProtocolObject) -> None:
        if entry.guest_id:
            self._context.delete_guest_id(entry)

    def _choose(self, buffer: Buffer, *, cycled: bool) -> Choice:
        return choose(
            buffer.shape,
            self._context.capabilities,
            self._context.config.preference,
            cycled=cycled,
            refused=buffer.refused,
        )

    def _mapped(self, buffer: Buffer) -> bool:
        """Have the udmabufs made; False while that is awaited."""
        # All of them are waited for before one that failed is judged.
        made = [self._locations.want_udmabuf(each) for each in buffer.locations]
        if Progress.PENDING in made:
            return False
        for location in buffer.locations:
            if location.udmabuf_progress is Progress.FAILED:
                reason = f"not mapped: {location.udmabuf_failure}"
                mode = Mode.NONE if buffer.not_shm else Mode.COPY
                buffer.choice = Choice(mode, reason)
        return True

    def _make_copy(self, buffer: Buffer) -> Input | Obstacle | None:
        size = buffer.pool_size
        if buffer.copy is None:
            if not self._context.shares.copy_bytes.take(size):
                reason = "too many bytes in buffers that are copied"
                return Obstacle(reason, limit=True)
            buffer.copy = self._context.make_handle(buffer)
            client_id = self._context.client_id
            self._context.command(CreateCopyBuffer(client_id, buffer.copy, size))
        if not buffer.copy_made:
            return None
        return self._create_in_pool(buffer, buffer.copy)

    def _create_in_pool(self, buffer: Buffer, handle: Handle) -> Input | Obstacle:
        """Make a host pool of a handle's bytes, the buffer in it, and drop the pool."""
        context, entry, rows = self._context, buffer.object, buffer.rows
        shm = context.own_global("wl_shm", 1)
        if shm is None:
            if buffer.params is not None:
                return Obstacle("the compositor has no wl_shm")
            raise CompositorError("it has no wl_shm")
        pool = context.objects.add_own(INTERFACES["wl_shm_pool"], 1, IGNORED)
        pool.role = buffer  # what an error about it is about
        context.send(
            shm, "create_pool", (pool.host_id, None, buffer.pool_size), (handle,)
        )
        host_id = context.objects.give_host_id(entry)
        geometry = (buffer.width, buffer.height, rows.stride, buffer.shm_format)
        context.send(pool, "create_buffer", (host_id, rows.place, *geometry))
        context.send(pool, "destroy")
        return Input.MADE

    def _import(self, buffer: Buffer) -> Input | Obstacle | None:
        """Import as linux-dmabuf, with `create`: a refusal is an event, not an error."""
        context = self._context
        dmabuf = context.own_global("zwp_linux_dmabuf_v1", DMABUF_VERSION)
        if dmabuf is None:
            buffer.refused = "the compositor took linux-dmabuf away"
            buffer.choice = None
            return self.make(buffer)
        params = context.objects.add_own(
            INTERFACES["zwp_linux_buffer_params_v1"],
            dmabuf.version,
            ImportAnswer(buffer),
        )
        context.send(dmabuf, "create_params", (params.host_id,))
        for index, plane in enumerate(buffer.planes):
            assert plane.location is not None
            assert plane.location.udmabuf is not None  # READY
            args = (None, index, plane.place, plane.stride, 0, MODIFIER_LINEAR)
            context.send(params, "add", args, (plane.location.udmabuf,))
        fourcc = drm_format(buffer.shm_format)
        size = (buffer.width, buffer.height)
        context.send(params, "create", (*size, fourcc, buffer.flags))
        return Input.ASKED
