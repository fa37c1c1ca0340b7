"""The objects of one client: which guest id is which host id.

An object has 0 or 1 guest ids and 0 or 1 host ids.  One with only a guest id is ours
to serve (a `wl_shm_pool`, a buffer that was never shown); one with only a host id is
the proxy's own (the pool behind a buffer), or one that the guest has destroyed.

Client-allocated ids live until `wl_display.delete_id`: requests may no longer name a
destroyed object, but events in flight may, so both ends keep zombies until then.
Server-allocated ids (0xff000000 and up) have no `delete_id`; their destructor frees
them.  Not here: what objects mean (`filters`), or bytes (`protocol.wayland`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.errors import (
    CompositorError,
    LimitExceededError,
    LocalProtocolError,
    WaylandError,
)
from wlproxy.protocol.wayland.interface import Interface
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    FIRST_SERVER_ID,
    DisplayError,
    Message,
)
from wlproxy.relay.inputs import ReceivedFd

MAX_OBJECTS = 1 << 16
"""Per client and side: more than any toolkit makes, small enough to serve hundreds."""


@dataclass(frozen=True, slots=True)
class Muted:
    """The role of an object of which the compositor knows nothing, and which does nothing.

    An app has it in place of one that policy denies it; what it makes by it does nothing either.
    """


MUTED: Final = Muted()

OwnEvent = Message[ReceivedFd]
"""An event of the compositor to an object of the proxy's own."""


class Listener:
    """What the next event of an object of the proxy's own is waited for with.

    Each kind is a value; who waits knows what follows of it.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Ignored(Listener):
    """Hears events that say nothing the proxy does not know."""


IGNORED: Final = Ignored()


@dataclass(slots=True, eq=False)
class Question(Listener):
    """What a request waits for that can only be judged by what the compositor has said.

    It is answered by the answer to a sync: whatever there was to say by then is said.
    """

    answered: bool = False


@dataclass(slots=True, eq=False, repr=False)
class ProtocolObject:
    """One Wayland object, as both sides know it.

    Attributes:
        interface: its type.
        version: as bound, on both sides.
        guest_id: 0 if the guest does not know it (any more).
        host_id: 0 if the compositor does not know it.
        role: what a filter keeps about it (a pool, a buffer, a surface), or None.
        listener: for the proxy's own objects: who waits for their next event.
    """

    interface: Interface
    version: int
    guest_id: int = 0
    host_id: int = 0
    role: object = None
    listener: Listener | None = None

    def error(self, code: int, message: str) -> WaylandError:
        """Make the error that ends a client for what it did to the object."""
        return WaylandError(self.guest_id or DISPLAY_ID, code, message)

    def __repr__(self) -> str:
        return f"{self.interface.name}@{self.guest_id}/{self.host_id}"


@dataclass(slots=True)
class _IdPool:
    """Hands out the lowest ids of a range: libwayland's maps allow no gaps."""

    _next: int
    _end: int
    _free: list[int] = field(default_factory=list)

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        if self._next == self._end:
            raise _too_many()
        self._next += 1
        return self._next - 1

    def give_back(self, object_id: int) -> None:
        self._free.append(object_id)


@dataclass(slots=True, init=False)
class ObjectTable:
    """Both id spaces of one client."""

    display: ProtocolObject
    _guest: dict[int, ProtocolObject]
    _host: dict[int, ProtocolObject]
    _host_ids: _IdPool
    _guest_server_ids: _IdPool
    _host_server_end: int

    def __init__(self, display: Interface) -> None:
        self.display = ProtocolObject(display, 1, DISPLAY_ID, DISPLAY_ID)
        self._guest, self._host = {DISPLAY_ID: self.display}, {DISPLAY_ID: self.display}
        first = DISPLAY_ID + 1
        self._host_ids = _IdPool(first, first + MAX_OBJECTS)
        self._guest_server_ids = _IdPool(FIRST_SERVER_ID, FIRST_SERVER_ID + MAX_OBJECTS)
        self._host_server_end = FIRST_SERVER_ID  # after the highest one seen

    def __len__(self) -> int:
        """Count ids in use on both sides."""
        return len(self._guest) + len(self._host)

    def guest(self, guest_id: int) -> ProtocolObject:
        """Find an object by its guest id.

        Raises:
            WaylandError: there is none.
        """
        try:
            return self._guest[guest_id]
        except KeyError:
            raise WaylandError(
                DISPLAY_ID, DisplayError.INVALID_OBJECT, f"invalid object {guest_id}"
            ) from None

    def host(self, host_id: int) -> ProtocolObject | None:
        """Find an object by its host id."""
        return self._host.get(host_id)

    def host_objects(self) -> Iterator[ProtocolObject]:
        """Every object that the compositor knows."""
        return iter(self._host.values())

    def guest_objects(self) -> Iterator[ProtocolObject]:
        """Every object that the guest knows."""
        return iter(self._guest.values())

    def add_guest(
        self, guest_id: int, interface: Interface, version: int
    ) -> ProtocolObject:
        """Enter an object that the guest creates; it has no host id yet.

        Raises:
            WaylandError: the id is in use or not a client's, or there are too many.
        """
        if not DISPLAY_ID < guest_id < FIRST_SERVER_ID or guest_id in self._guest:
            raise WaylandError(
                DISPLAY_ID,
                DisplayError.INVALID_OBJECT,
                f"new id {guest_id} is in use or invalid",
            )
        if len(self._guest) >= MAX_OBJECTS:
            raise _too_many()
        entry = ProtocolObject(interface, version)
        entry.guest_id = guest_id
        self._guest[guest_id] = entry
        return entry

    def give_host_id(self, entry: ProtocolObject) -> int:
        """Allocate a client-range host id for an object that has none.

        Raises:
            WaylandError: the client has too many objects.
        """
        if entry.host_id:
            raise LocalProtocolError(f"{entry!r} has a host id already")
        entry.host_id = self._host_ids.take()
        self._host[entry.host_id] = entry
        return entry.host_id

    def give_guest_id(self, entry: ProtocolObject) -> int:
        """Allocate a server-range guest id for an object that has none.

        Raises:
            WaylandError: the client has too many objects.
        """
        if entry.guest_id:
            raise LocalProtocolError(f"{entry!r} has a guest id already")
        entry.guest_id = self._guest_server_ids.take()
        self._guest[entry.guest_id] = entry
        return entry.guest_id

    def add_own(
        self, interface: Interface, version: int, listener: Listener | None = None
    ) -> ProtocolObject:
        """Enter an object of the proxy's own on the compositor connection."""
        entry = ProtocolObject(interface, version)
        entry.listener = listener
        self.give_host_id(entry)
        return entry

    def add_host(
        self, host_id: int, interface: Interface, version: int, *, visible: bool
    ) -> ProtocolObject:
        """Enter an object that the compositor creates.

        A server-range id that is still here was freed by a destructor before.

        Args:
            host_id: from the event.
            interface: its type.
            version: its parent's.
            visible: the guest gets an id for it.

        Raises:
            CompositorError: the compositor used an id that it may not.
            WaylandError: the client has too many objects.
        """
        end = self._host_server_end
        if not FIRST_SERVER_ID <= host_id <= end:
            raise CompositorError(f"it created an object with id {host_id}")
        if host_id == end:
            if end == FIRST_SERVER_ID + MAX_OBJECTS:
                raise _too_many()
            self._host_server_end += 1
        old = self._host.get(host_id)
        if old is not None and old.guest_id:
            self.forget_guest(old)
        entry = ProtocolObject(interface, version)
        entry.host_id = host_id
        self._host[host_id] = entry
        if visible:
            entry.guest_id = self._guest_server_ids.take()
            self._guest[entry.guest_id] = entry
        return entry

    def adopt_host(self, entry: ProtocolObject, created: ProtocolObject) -> None:
        """Give `entry`, which has no host id, the one of a host-only object."""
        if entry.host_id or created.guest_id:
            raise LocalProtocolError(f"cannot join {entry!r} and {created!r}")
        entry.host_id, created.host_id = created.host_id, 0
        self._host[entry.host_id] = entry

    def detach_host(self, entry: ProtocolObject) -> ProtocolObject:
        """Split an object in two; the host half comes back as one of our own.

        For a buffer that is made again another way: the old `wl_buffer` is destroyed
        while the guest's id lives on.
        """
        own = ProtocolObject(entry.interface, entry.version)
        own.host_id, entry.host_id = entry.host_id, 0
        self._host[own.host_id] = own
        return own

    def delete_host(self, host_id: int) -> ProtocolObject | None:
        """Free a client-range host id, as `wl_display.delete_id` says.

        Returns:
            What had the id; it may still have a guest id.  None if nothing had.
        """
        if host_id in (0, DISPLAY_ID) or host_id >= FIRST_SERVER_ID:
            return None
        entry = self._host.pop(host_id, None)
        if entry is not None:
            entry.host_id = 0
            self._host_ids.give_back(host_id)
        return entry

    def forget_guest(self, entry: ProtocolObject) -> None:
        """Free the guest id of an object; the guest may use it again at once."""
        del self._guest[entry.guest_id]
        if entry.guest_id >= FIRST_SERVER_ID:
            self._guest_server_ids.give_back(entry.guest_id)
        entry.guest_id = 0


def _too_many() -> LimitExceededError:
    message = f"over {MAX_OBJECTS} objects"
    return LimitExceededError(DISPLAY_ID, DisplayError.NO_MEMORY, message)
