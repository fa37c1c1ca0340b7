"""The buffers of a client: when they are made ready, and when their pages are let go of.

A buffer costs the host nothing until it is first shown (cursor themes define dozens),
or until linux-dmabuf's `create` wants to know if it can be: then its pages are located,
and the host's buffer is made (`host_buffers`).  Each of these steps waits for an answer,
so `Buffers.prepare` is called again after every input until it says that nothing is
awaited any more.  Not here: damage and what is on which surface (`surfaces`).

What no surface has any more makes room for others where a limit is in the way; when it
is shown again it is located anew.  A buffer that cannot be shown all the same is *dead*,
and handed back: a dma-buf for good, which its client is told, one in a pool until it is
shown the next time.  Only a pool that ends before its buffer ends its client, as
libwayland would have it.
"""

import errno
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

from wlproxy.protocol.channel.frames import Located, LocateStatus
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    FIRST_SERVER_ID,
    DisplayError,
    Message,
)
from wlproxy.relay.buffers.buffer import Buffer, Plane, Pool, pool_plane
from wlproxy.relay.buffers.host_buffers import HostBuffers
from wlproxy.relay.buffers.locations import Location, Locations, Progress
from wlproxy.relay.commands import TraceLevel
from wlproxy.relay.formats import shm_format
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.wire.context import Context, ignore_event, once
from wlproxy.relay.wire.objects import ProtocolObject

SHM_INVALID_FORMAT, SHM_INVALID_STRIDE, SHM_INVALID_FD = 0, 1, 2
"""`wl_shm.error`."""

MAX_UNRELEASED: Final = 3
"""Buffers that no surface has any more, and for whose release we wait all the same: a
GPU may still be reading the last ones."""

MADE_ROOM_FOR: Final = 8
"""Buffers that go at once where one has no room: each time costs a roundtrip."""

MAX_TOLD: Final = 16
"""Reasons not to show a buffer that are logged: guests must not fill the log."""

_SCARCE: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What the guest may have again when it lets go of something; numbers as Linux has them."""

_FOR_GOOD: Final = {LocateStatus.NOT_PERMITTED, LocateStatus.UNSUPPORTED}
"""Why a buffer is not located whatever the app does: better it ends, and says why."""


class Buffers:
    """The buffers of one client."""

    def __init__(
        self, context: Context, locations: Locations, handles: Iterator[Handle]
    ) -> None:
        self._context = context
        self._locations = locations
        self._host_buffers = HostBuffers(context, locations, handles)
        self._serials = count(1)
        # What no surface has any more, in the order in which that came to be.
        self._idle = OrderedDict[int, Buffer]()
        self._unreleased = OrderedDict[int, Buffer]()
        self._orphans = OrderedDict[int, Buffer]()
        self._going = 0
        """Buffers that the compositor has not yet seen us let go of."""
        self._told: set[str] = set()

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

    def is_ready(self, buffer: Buffer, *, cycled: bool) -> bool:
        """Whether a buffer can be attached as it is; arguments as of `prepare`.

        Raises:
            WaylandError: the client has destroyed it.
        """
        if buffer.destroyed:
            raise _unknown(buffer)
        return (
            buffer.progress is Progress.READY
            and not self._host_buffers.should_upgrade(buffer, cycled=cycled)
        )

    def prepare(self, buffer: Buffer, *, cycled: bool, final: bool = True) -> bool:
        """Make the buffer ready to be shown, as far as that goes now.

        Args:
            buffer: about to be shown, or imported.
            cycled: the surface takes two or more buffers in turn.
            final: that it cannot be shown may end its client.

        Returns:
            Whether it is ready, or dead; if not, an answer is awaited: call again
            after it.

        Raises:
            WaylandError: the client did what it may not.
        """
        if buffer.destroyed:
            raise _unknown(buffer)
        if buffer.dead and buffer.params is not None:
            return True
        if buffer.over_limit:
            if self._going:
                return False
            buffer.over_limit = False
        buffer.dead = ""
        if not self._advance(buffer, cycled=cycled, final=final):
            return False
        if not buffer.dead:
            return True
        if buffer.over_limit and self._make_room():
            self._set_back(buffer)
            buffer.dead = ""
            return False
        buffer.over_limit = False
        self._set_back(buffer)
        if buffer.params is not None:
            self.kill(buffer, buffer.dead)
        else:
            self._tell(buffer)
        return True

    def kill(self, buffer: Buffer, why: str) -> None:
        """Declare a dma-buf dead, and tell the app, if it still wants to know."""
        buffer.dead = why
        message = f"a dma-buf of {buffer.width}x{buffer.height} cannot be shown: {why}"
        self._context.trace(TraceLevel.WARNING, message)
        if buffer.params is not None and buffer.params.guest_id and not buffer.created:
            self._context.send_event(buffer.params, "failed")

    def refuse(self, buffer: Buffer) -> None:
        """A dead buffer was to be shown: hand it back at once, nothing reads it."""
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
            host.listener = once(host, lambda _message: self._disown(buffer))
            buffer.orphan = host
            self._forget_guest(entry)
        else:
            self._context.send(entry, "destroy")
            if max(entry.host_id, entry.guest_id) >= FIRST_SERVER_ID:
                # One of the server's has no delete_id; what the guest allocated,
                # and the compositor did not, needs one all the same.
                self._forget_guest(entry)
        buffer.destroyed = True
        self._drop_memories(buffer)
        self.settle(buffer)

    def settle(self, buffer: Buffer) -> None:
        """Find out what is still needed of a buffer that a surface has let go of.

        Or that was released, or destroyed.  That the compositor does not release it is
        no reason to keep every one of an app that makes new ones all the time: it has
        finished with what no surface has any more, after a moment.
        """
        for kept in (self._idle, self._unreleased, self._orphans):
            kept.pop(buffer.serial, None)
        if buffer.shown:
            return
        if not buffer.held:
            if buffer.destroyed:
                self._let_go(buffer)
            elif buffer.progress is Progress.READY and not buffer.lasting:
                self._idle[buffer.serial] = buffer
        elif buffer.lasting:
            return
        elif not buffer.destroyed:
            self._unreleased[buffer.serial] = buffer
        else:
            self._orphans[buffer.serial] = buffer
            if len(self._orphans) > MAX_UNRELEASED:
                _, oldest = self._orphans.popitem(last=False)
                self._disown(oldest)

    def buffer_created(self, handle: Handle) -> None:
        """Take the shell's word that what a handle names is made."""
        if not self._locations.buffer_created(handle):
            self._host_buffers.copy_created(handle)

    def copied_for(self, handle: Handle) -> int:
        """Look up the surface that the memfd of a handle was copied for; 0 if none."""
        return self._host_buffers.copied_for(handle)

    def buffer_failed(self, handle: Handle, message: str) -> None:
        """Take the shell's word that it could not be made."""
        if not self._locations.buffer_failed(handle, message):
            self._host_buffers.copy_failed(handle)

    def _advance(self, buffer: Buffer, *, cycled: bool, final: bool) -> bool:
        made = buffer.progress is Progress.READY
        if not made and not self._located(buffer, final=final):
            return False
        return bool(buffer.dead) or self._host_buffers.present(buffer, cycled=cycled)

    def _forget_guest(self, entry: ProtocolObject) -> None:
        if entry.guest_id:
            self._context.delete_guest_id(entry)

    def _disown(self, buffer: Buffer) -> None:
        """The compositor has finished with a buffer that the guest destroyed before."""
        host, buffer.orphan = buffer.orphan, None
        assert host is not None  # taken once
        host.listener = ignore_event
        self._context.send(host, "destroy")
        buffer.held = False
        self.settle(buffer)

    def _let_go(self, buffer: Buffer, *, released: bool = False) -> None:
        """Give up the pages of a buffer that the compositor has none of any more.

        The compositor has seen that too when it answers a sync sent now; only then may
        the guest use the pages for something else.

        Args:
            buffer: no surface has it.
            released: the guest does not know yet that it may.
        """
        locations = _take_locations(buffer)
        drop_copy = self._host_buffers.take_copy(buffer)
        if not locations:
            drop_copy()
            return

        def free(_message: Message[ReceivedFd]) -> None:
            self._going -= 1
            drop_copy()
            for location in locations:
                self._locations.release(location)
            if released and buffer.entry.guest_id:
                self._context.send_event(buffer.entry, "release")

        self._going += 1
        self._context.when_compositor_reached(free)

    def _make_room(self) -> bool:
        """Let go of buffers that are not in use; False if there are none.

        Those that the compositor has released; then those that it would have to release
        by now.
        """
        if self._going:
            return True
        for kept in (self._idle, self._orphans, self._unreleased):
            while kept and self._going < MADE_ROOM_FOR:
                _, buffer = kept.popitem(last=False)
                if not buffer.shown and not buffer.lasting:
                    self._evict(buffer)
        return self._going > 0

    def _evict(self, buffer: Buffer) -> None:
        if buffer.destroyed:
            self._disown(buffer)
            return
        if buffer.progress is not Progress.READY:
            return  # it is just being made another way
        held, buffer.held = buffer.held, False
        self._host_buffers.withdraw(buffer)
        self._let_go(buffer, released=held)

    def _set_back(self, buffer: Buffer) -> None:
        """Have a buffer that the compositor has never seen made anew the next time."""
        for location in _take_locations(buffer):
            self._locations.release(location)
        self._host_buffers.take_copy(buffer)()
        buffer.progress, buffer.choice = Progress.NONE, None

    def _tell(self, buffer: Buffer) -> None:
        """Log why a buffer is not shown, once."""
        if buffer.dead not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(buffer.dead)
            size = f"{buffer.width}x{buffer.height}"
            self._context.trace(
                TraceLevel.WARNING, f"a buffer of {size} is not shown: {buffer.dead}"
            )

    def _located(self, buffer: Buffer, *, final: bool) -> bool:
        """Find the pages of a buffer; False while the guest is looking.

        Of several planes, all are waited for before one that failed is judged.
        """
        for plane in buffer.planes:
            if plane.location is None:
                assert plane.memory is not None  # not destroyed
                plane.location = self._locations.acquire(plane.memory, *plane.span)
            if plane.location is None:
                break
            plane.start = plane.location.start
        locations = buffer.locations
        if any(location.progress is Progress.PENDING for location in locations):
            return False
        for location in locations:
            if location.failure is not None:
                self._fail(buffer, location.failure, final=final)
        if any(plane.location is None for plane in buffer.planes):
            buffer.dead = "too many buffers are shown, of this app or of its VM"
            buffer.over_limit = True
        if not buffer.dead:
            self._merge(buffer)
        return True

    def _fail(self, buffer: Buffer, failure: Located, *, final: bool) -> None:
        """A buffer's pages are not to be had.

        Raises:
            WaylandError: the client is to blame, or cannot go on like that.
        """
        message = _words(buffer, failure)
        short = failure.status is LocateStatus.OUT_OF_RANGE
        if final and buffer.params is None and (short or failure.status in _FOR_GOOD):
            raise self._context.fail(buffer.entry, SHM_INVALID_FD, message)
        buffer.dead = message
        limit = failure.status is LocateStatus.LIMIT_EXCEEDED
        buffer.over_limit |= limit or failure.errno in _SCARCE

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


def _take_locations(buffer: Buffer) -> list[Location]:
    """Take the locations of all planes, of each as many times as planes use it."""
    taken = [plane.location for plane in buffer.planes if plane.location is not None]
    for plane in buffer.planes:
        plane.location = None
    return taken


def _unknown(buffer: Buffer) -> WaylandError:
    """Say what libwayland says of an object that is destroyed."""
    message = f"invalid object {buffer.entry.guest_id}"
    return WaylandError(DISPLAY_ID, DisplayError.INVALID_OBJECT, message)


def _words(buffer: Buffer, failure: Located) -> str:
    """Say why a buffer cannot be shown."""
    if failure.status is LocateStatus.OUT_OF_RANGE:
        file = "pool's file" if buffer.params is None else "dma-buf"
        return f"wlproxy: the {file} ends before its buffer"
    return (
        "wlproxy: the guest agent cannot locate the buffer: "
        f"{failure.status.name}"
        + (f" (errno {failure.errno})" if failure.errno else "")
    )
