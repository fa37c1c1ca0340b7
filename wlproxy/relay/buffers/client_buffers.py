"""The buffers of one client: carries out what the table of `life` says of each.

Each input of the table comes from a method here, each of its actions is one.  An action
may lead to the next input at once, where nothing has to be waited for.  Whoever waits
is told: the request of the client by `Context.wake`, the app that asked by linux-dmabuf's
`create` by its answer.  Not here: damage and what is on which surface (`surfaces`).

What no surface has any more makes room for others where a limit is in the way (`room`);
when it is shown again it is located anew.  A buffer that cannot be shown all the same is
handed back: a dma-buf for good, which its client is told, one in a pool until it is
shown the next time.  Only a pool that ends before its buffer ends its client, as
libwayland would have it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from wlproxy.protocol.channel.frames import Located
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError
from wlproxy.relay.buffers.buffer import (
    Buffer,
    DmabufGeometry,
    Plane,
    PoolGeometry,
    Want,
)
from wlproxy.relay.buffers.life import Action, Input, State
from wlproxy.relay.buffers.locations import Location, Locations, Progress
from wlproxy.relay.buffers.pages import Obstacle, Pages, take_locations
from wlproxy.relay.buffers.present import (
    ImportAnswer,
    OrphanRelease,
    Presenter,
    Reached,
)
from wlproxy.relay.buffers.room import Room
from wlproxy.relay.handles import Handle
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import Listener, OwnEvent, ProtocolObject

MADE_ROOM_FOR: Final = 8
"""Buffers that go at once where one has no room: each time costs a roundtrip."""

MAX_TOLD: Final = 16
"""Reasons not to show a buffer that are logged: guests must not fill the log."""

Waiters = dict[int, Buffer]
"""Buffers that wait for the same answer, by their serials, in order."""


@dataclass(slots=True, eq=False)
class Buffers:
    """The buffers of one client.

    Attributes:
        creating: how many of linux-dmabuf's `create` are not answered yet.
    """

    _context: Context
    _locations: Locations
    _last_serial: int = 0
    _room: Room = field(default_factory=Room)
    _all: dict[int, Buffer] = field(default_factory=dict)
    _locating: dict[int, Waiters] = field(default_factory=dict)
    _mapping: dict[Handle, Waiters] = field(default_factory=dict)
    _crowded: Waiters = field(default_factory=dict)
    _going: int = 0
    """Buffers that the compositor has not yet seen us let go of."""
    creating: int = 0
    _reasons: set[str] = field(default_factory=set)
    _pages: Pages = field(init=False)
    _presenter: Presenter = field(init=False)

    def __post_init__(self) -> None:
        self._pages = Pages(self._context, self._locations)
        self._presenter = Presenter(self._context, self._locations)

    @property
    def states(self) -> tuple[str, ...]:
        """The states of all buffers that are not gone."""
        return tuple(buffer.life.state.name for buffer in self._all.values())

    # ------------------------------------------------------------ what the guest says

    def add(
        self,
        entry: ProtocolObject,
        planes: Sequence[Plane],
        geometry: PoolGeometry | DmabufGeometry,
        params: ProtocolObject | None = None,
        not_shm: str = "",
    ) -> Buffer:
        """Enter a buffer, all of it already checked.

        Args:
            entry: its `wl_buffer`, which the guest may not know yet.
            planes: as many as its format has; their memories are the buffer's now.
            geometry: as the guest said it.
            params: what it was made with, if of dma-bufs; told if it cannot be shown.
            not_shm: why it can be in no `wl_shm` pool.
        """
        self._last_serial += 1
        entry.role = buffer = Buffer(
            self._last_serial,
            entry,
            tuple(planes),
            geometry.width,
            geometry.height,
            geometry.shm_format,
            not_shm,
            params,
            geometry.flags,
        )
        self._all[buffer.serial] = buffer
        return buffer

    def answer_create(self, buffer: Buffer) -> None:
        """Answer linux-dmabuf's `create`, once it is known if the buffer can be shown.

        The client goes on, and hears of it by an event; only a `wl_display.sync` of its
        waits (`client`).

        Raises:
            WaylandError: the client has too many objects.
        """
        self.creating += 1
        buffer.wanted = Want(cycled=True, create=True)
        self._tell(buffer, Input.WANTED)

    def kill(self, buffer: Buffer, why: str) -> None:
        """Declare a dma-buf dead that nobody has wanted yet."""
        buffer.failure = why
        self._tell(buffer, Input.KILLED)

    def is_ready(self, buffer: Buffer, *, cycled: bool) -> bool:
        """Whether a buffer can be attached as it is; arguments as of `want`.

        Raises:
            WaylandError: the client has destroyed it.
        """
        if buffer.life.is_destroyed:
            raise _unknown(buffer)
        return buffer.life.is_usable and not self._presenter.outgrows(
            buffer, cycled=cycled
        )

    def want(self, buffer: Buffer, *, cycled: bool, final: bool = True) -> bool:
        """Have a buffer made ready for the client's next request.

        Args:
            buffer: about to be shown.
            cycled: the surface takes two or more buffers in turn.
            final: that it cannot be shown may end its client.

        Returns:
            Whether it is ready, or has failed; if not, the request waits, and asks
            again when it is woken.

        Raises:
            WaylandError: the client did what it may not.
        """
        life = buffer.life
        if life.is_destroyed:
            raise _unknown(buffer)
        if life.is_making:
            return False
        known = buffer.wanted is not None and (life.is_usable or life.is_failed)
        if not known:
            outgrown = self._presenter.outgrows(buffer, cycled=cycled)
            buffer.wanted = Want(cycled, final)
            self._tell(buffer, Input.OUTGROWN if outgrown else Input.WANTED)
        if buffer.life.is_making:
            return False
        buffer.wanted = None
        return True

    def keep(self, buffer: Buffer) -> None:
        """Something other than a surface has a buffer, and nobody says until when."""
        buffer.lasting = True

    def refuse(self, buffer: Buffer) -> None:
        """A buffer that failed was to be shown: hand it back, nothing reads it."""
        if buffer.object.guest_id:
            self._context.send_event(buffer.object, "release")

    def destroy(self, buffer: Buffer) -> None:
        """The guest destroyed the buffer: free it when nothing reads it any more.

        Raises:
            WaylandError: it had done so before.
        """
        if buffer.life.is_destroyed:
            raise _unknown(buffer)
        self._tell(buffer, Input.DESTROYED)

    # ------------------------------------------------------------ what surfaces say

    def shown(self, buffer: Buffer) -> None:
        """A surface has it, as pending or current."""
        self._tell(buffer, Input.SHOWN)

    def left(self, buffer: Buffer) -> None:
        """A surface has it no more."""
        self._tell(buffer, Input.LEFT)

    def read(self, buffer: Buffer, *, lasting: bool) -> None:
        """A commit shows it; `lasting`: which may be long after, one after the other."""
        buffer.lasting |= lasting
        self._tell(buffer, Input.READ)

    # ------------------------------------------------------------ what answers say

    def located(self, frame: Located) -> None:
        """Take an answer to `Locate`, or a part of one.

        Raises:
            RemoteProtocolError: the agent broke the channel protocol.
            WaylandError: the buffer cannot be shown, and its client is to blame.
        """
        location = self._locations.receive(frame)
        if location.progress is not Progress.PENDING:
            self._tell_all(self._locating.pop(location.location_id, {}))

    def handle_made(self, handle: Handle) -> None:
        """Take the shell's word that what a handle names is made."""
        owner = self._context.owners[handle]
        if isinstance(owner, Location):
            owner.udmabuf_progress = Progress.READY
            self._tell_all(self._mapping.pop(handle, {}))
        else:
            assert isinstance(owner, Buffer)
            owner.copy_made = True
            self._tell(owner, Input.ANSWERED)

    def handle_failed(self, handle: Handle, message: str) -> None:
        """Take the shell's word that it could not be made."""
        owner = self._context.owners.pop(handle)
        if isinstance(owner, Location):
            owner.udmabuf, owner.udmabuf_failure = None, message
            owner.udmabuf_progress = Progress.FAILED
            self._tell_all(self._mapping.pop(handle, {}))
        else:
            assert isinstance(owner, Buffer)
            self._presenter.copy_failed(owner)
            reason = "the host has no memory for a copy of its pixels"
            self._tell(owner, self._judge(owner, Obstacle(reason, limit=True)))

    def copied_for(self, handle: Handle) -> int:
        """Look up the surface that a memfd was copied for; 0 if none."""
        owner = self._context.owners.get(handle)
        return owner.copied_for if isinstance(owner, Buffer) else 0

    def released(self, buffer: Buffer) -> None:
        """Take the compositor's word that it has finished with a buffer."""
        self._tell(buffer, Input.RELEASED)

    def hear(
        self, listener: Listener | None, entry: ProtocolObject, event: OwnEvent
    ) -> None:
        """Take an event that a buffer, or what was left of one, has waited for.

        Args:
            listener: what for; others than ours are none of our business.
            entry: the proxy's own object that it came from.
            event: it.

        Raises:
            CompositorError: it lacks what it had.
        """
        match listener:
            case ImportAnswer(buffer):
                self._tell(buffer, self._presenter.imported(buffer, entry, event))
            case OrphanRelease(buffer):
                self.released(buffer)
            case Reached():
                self._free(listener)
            case _:
                pass

    def _free(self, reached: Reached) -> None:
        """Give the guest the pages back of what the compositor has seen us let go of."""
        self._going -= 1
        self._presenter.drop_copy(reached.copy)
        for location in reached.locations:
            self._locations.release(location)
        if reached.released is not None:
            self.refuse(reached.released)
        while self._crowded and not self._going:
            first = next(iter(self._crowded))
            self._tell(self._crowded.pop(first), Input.ROOM)

    # ------------------------------------------------------------ actions

    def _tell(self, buffer: Buffer, happened: Input) -> None:
        """Tell a buffer's life an input, and do what follows."""
        following: Input | None = happened
        while following is not None:
            action = buffer.life.receive(following)
            following = (
                self._ACTIONS[action](self, buffer) if action is not None else None
            )

    def _tell_all(self, waiters: Waiters) -> None:
        for buffer in waiters.values():
            self._tell(buffer, Input.ANSWERED)

    def _locate(self, buffer: Buffer) -> Input | None:
        found = self._pages.find(buffer)
        if found is None:
            for location in buffer.locations:
                if location.progress is Progress.PENDING:
                    waiters = self._locating.setdefault(location.location_id, {})
                    waiters[buffer.serial] = buffer
        return self._judge(buffer, found) if isinstance(found, Obstacle) else found

    def _make(self, buffer: Buffer) -> Input | None:
        made = self._presenter.make(buffer)
        if isinstance(made, Obstacle):
            return self._judge(buffer, made)
        if made is None and buffer.copy is None:
            for location in buffer.locations:
                if location.udmabuf_progress is Progress.PENDING:
                    assert location.udmabuf is not None
                    waiters = self._mapping.setdefault(location.udmabuf, {})
                    waiters[buffer.serial] = buffer
        return made

    def _remake(self, buffer: Buffer) -> Input | None:
        self._room.use(buffer)
        self._presenter.withdraw(buffer)
        return self._make(buffer)

    def _answer(self, buffer: Buffer) -> Input | None:
        """Tell who wanted a buffer; an app that is gone from its params gets none.

        A buffer is not given up before: its pages would be located for nobody.
        """
        if not self._take_create(buffer):
            self._context.wake()
            return None
        params = buffer.params
        assert params is not None
        if not params.guest_id:
            return Input.DESTROYED
        new_id = self._context.objects.give_guest_id(buffer.object)
        self._context.send_event(params, "created", (new_id,))
        buffer.created = True
        self._rest(buffer)  # nothing shows it yet
        return None

    def _take_create(self, buffer: Buffer) -> bool:
        """Whether it was `create` that wanted a buffer, which is answered with this."""
        if buffer.wanted is None or not buffer.wanted.create:
            return False
        buffer.wanted = None
        self.creating -= 1
        if not self.creating:
            self._context.wake()
        return True

    def _set_back(self, buffer: Buffer) -> None:
        """Forget how a buffer was made that the compositor has never seen."""
        for location in take_locations(buffer):
            self._locations.release(location)
        self._presenter.drop_copy(self._presenter.take_copy(buffer))
        buffer.choice = None
        if buffer.life.state is State.CROWDED:
            self._crowded[buffer.serial] = buffer

    def _give_up(self, buffer: Buffer) -> None:
        self._set_back(buffer)
        if buffer.failure not in self._reasons and len(self._reasons) < MAX_TOLD:
            self._reasons.add(buffer.failure)
            size = f"{buffer.width}x{buffer.height}"
            self._context.warn(f"a buffer of {size} is not shown: {buffer.failure}")
        self._context.wake()

    def _kill(self, buffer: Buffer) -> Input | None:
        """Declare a dma-buf dead, and tell the app, if it still wants to know."""
        self._set_back(buffer)
        size = f"{buffer.width}x{buffer.height}"
        message = f"a dma-buf of {size} cannot be shown: {buffer.failure}"
        self._context.warn(message)
        if buffer.params is not None and buffer.params.guest_id and not buffer.created:
            self._context.send_event(buffer.params, "failed")
        if self._take_create(buffer):
            return Input.DESTROYED
        self._context.wake()
        return None

    def _rest(self, buffer: Buffer) -> None:
        """Let a buffer make room for others.

        That the compositor does not release it is no reason to keep every one of an app
        that makes new ones all the time: it has finished with what no surface has any
        more, after a moment.
        """
        self._room.rest(buffer)
        surplus = self._room.take_surplus()
        if surplus is not None:
            self._tell(surplus, Input.EVICTED)

    def _evict(self, buffer: Buffer) -> None:
        self._presenter.withdraw(buffer)
        self._let_go(buffer)

    def _evict_unreleased(self, buffer: Buffer) -> None:
        self._presenter.withdraw(buffer)
        self._let_go(buffer, released=True)

    def _destroy(self, buffer: Buffer) -> None:
        self._destroy_host(buffer)
        self._let_go(buffer)

    def _destroy_host(self, buffer: Buffer) -> None:
        self._presenter.destroy(buffer)
        self._pages.drop_memories(buffer)

    def _orphan(self, buffer: Buffer) -> None:
        self._presenter.orphan(buffer)
        self._pages.drop_memories(buffer)
        if buffer.life.state is State.ORPHAN:
            self._rest(buffer)

    def _disown_last(self, buffer: Buffer) -> None:
        self._presenter.disown(buffer)
        self._let_go(buffer)

    def _let_go(self, buffer: Buffer, *, released: bool = False) -> None:
        """Give up the pages of a buffer that the compositor has none of any more.

        The compositor has seen that too when it answers a sync sent now; only then may
        the guest use the pages for something else.

        Args:
            buffer: no surface has it.
            released: the guest does not know yet that it may.
        """
        self._room.use(buffer)
        if buffer.life.state is State.GONE:
            del self._all[buffer.serial]
        locations = take_locations(buffer)
        copy = self._presenter.take_copy(buffer)
        if not locations:
            self._presenter.drop_copy(copy)
            return
        self._going += 1
        self._context.when_compositor_reached(
            Reached(tuple(locations), copy, buffer if released else None)
        )

    # ------------------------------------------------------------ what stands in the way

    def _judge(self, buffer: Buffer, obstacle: Obstacle) -> Input:
        """Say what an obstacle means for a buffer, and have room made if that helps."""
        if obstacle.limit and self._make_room():
            return Input.OVER_LIMIT
        buffer.failure = obstacle.reason
        return Input.KILLED if buffer.params is not None else Input.NOT_MADE

    def _make_room(self) -> bool:
        """Let go of buffers that are not in use; False if there are none."""
        if self._going:
            return True
        for buffer in self._room.take():
            self._tell(buffer, Input.EVICTED)
            if self._going >= MADE_ROOM_FOR:
                break
        return self._going > 0

    _ACTIONS: ClassVar[Mapping[Action, Callable[["Buffers", Buffer], Input | None]]] = {
        Action.LOCATE: _locate,
        Action.MAKE: _make,
        Action.REMAKE: _remake,
        Action.ANSWER: _answer,
        Action.SET_BACK: _set_back,
        Action.GIVE_UP: _give_up,
        Action.KILL: _kill,
        Action.USE: lambda self, buffer: self._room.use(buffer),
        Action.REST: _rest,
        Action.EVICT: _evict,
        Action.EVICT_UNRELEASED: _evict_unreleased,
        Action.DESTROY: _destroy,
        Action.DESTROY_HOST: _destroy_host,
        Action.ORPHAN: _orphan,
        Action.DISOWN: lambda self, buffer: self._presenter.disown(buffer),
        Action.DISOWN_LAST: _disown_last,
        Action.LET_GO: _let_go,
    }


def _unknown(buffer: Buffer) -> WaylandError:
    """Say what libwayland says of an object that is destroyed."""
    message = f"invalid object {buffer.object.guest_id}"
    return WaylandError(DISPLAY_ID, DisplayError.INVALID_OBJECT, message)
