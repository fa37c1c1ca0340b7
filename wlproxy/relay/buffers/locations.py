"""Where the bytes of a client's buffers are: memories, pinned ranges, their udmabufs.

A *memory* is a file that the guest attached, a *location* a pinned range of whole pages
of it.  Buffers over the same pages share one location and one udmabuf; both live until
nothing reads the pages any more.  Guest addresses are checked here, on arrival.  Who waits for a
location is told by `client_buffers`.
"""

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from wlproxy.memory.extents import check_extents, round_out
from wlproxy.memory.guest_memory import RamItems
from wlproxy.protocol.channel.extents import Extents
from wlproxy.protocol.channel.frames import (
    CloseMemory,
    Locate,
    Located,
    LocateStatus,
    Release,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy.relay.commands import CreateUdmabuf
from wlproxy.relay.handles import Handle
from wlproxy.relay.wire.context import Context


class Progress(Enum):
    """How far something asked for has come."""

    NONE = auto()
    PENDING = auto()
    READY = auto()
    FAILED = auto()


@dataclass(slots=True, eq=False)
class Memory:
    """A guest file that backs buffers.

    Attributes:
        memory_id: of the channel, per client.
        users: pools, planes and not yet located buffers that may still need it.
    """

    memory_id: int
    users: int = 0


@dataclass(slots=True, eq=False)
class Location:
    """A pinned range of a memory.

    Attributes:
        location_id: of the channel, per client.
        memory_id: of which memory.
        start: first byte in the file, aligned to the guest's pages.
        length: bytes, whole pages of the guest.
        users: buffers that read it.
        progress: of locating it.
        failure: why that failed.
        extents: gathered so far, while PENDING.
        runs: how many of the share it takes.
        items: the pages in the RAM files, once READY.
        udmabuf: handle of the dma-buf over all of it.
        udmabuf_progress: of making that.
        udmabuf_failure: why that failed.
    """

    location_id: int
    memory_id: int
    start: int
    length: int
    users: int = 0
    progress: Progress = Progress.PENDING
    failure: Located | None = None
    extents: Extents = field(default_factory=Extents)
    runs: int = 0
    items: RamItems = field(default_factory=RamItems)
    udmabuf: Handle | None = None
    udmabuf_progress: Progress = Progress.NONE
    udmabuf_failure: str = ""


@dataclass(slots=True, eq=False)
class Locations:
    """The memories and locations of one client."""

    _context: Context
    _memories: dict[int, Memory] = field(default_factory=dict)
    _by_id: dict[int, Location] = field(default_factory=dict)
    _by_range: dict[tuple[int, int, int], Location] = field(default_factory=dict)
    _next_id: int = 1

    def __len__(self) -> int:
        """Count pinned ranges."""
        return len(self._by_id)

    @property
    def memories(self) -> int:
        """How many files of the guest are open there."""
        return len(self._memories)

    def ram_files(self) -> set[int]:
        """List the RAM files that the pinned pages are in.  Looks at each of their runs."""
        return set().union(*(each.items.files for each in self._by_id.values()))

    def use_memory(self, memory_id: int) -> Memory:
        """Enter a memory, or count one more user of it."""
        memory = self._memories.setdefault(memory_id, Memory(memory_id))
        memory.users += 1
        return memory

    def drop_memory(self, memory: Memory) -> None:
        """Count one user less; the last one closes the memory in the guest."""
        memory.users -= 1
        if not memory.users:
            del self._memories[memory.memory_id]
            client_id = self._context.client_id
            self._context.send_frame(CloseMemory(client_id, memory.memory_id))

    def acquire(self, memory: Memory, offset: int, length: int) -> Location | None:
        """Pin the pages of a range of bytes, or share the pin of the same pages.

        Returns:
            What may not be located yet; None where there are too many.
        """
        page_size = self._context.config.guest_page
        start, rounded = round_out(offset, length, page_size)
        end = start + rounded
        key = (memory.memory_id, start, end)
        location = self._by_range.get(key)
        if location is None or location.progress is Progress.FAILED:
            if not self._take_share(end - start):
                return None
            location = Location(self._next_id, memory.memory_id, start, end - start)
            self._next_id += 1
            self._by_range[key] = self._by_id[location.location_id] = location
            # The exact bytes, not the pages: a file may end within its last page.
            frame = Locate(
                client_id=self._context.client_id,
                location_id=location.location_id,
                memory_id=memory.memory_id,
                offset=offset,
                length=length,
                collapse_above=self._context.capabilities.udmabuf_list_limit,
            )
            self._context.send_frame(frame)
        location.users += 1
        return location

    def merge(self, location: Location, same: Location) -> Location:
        """Give up `same`, which lies in the same pages, for another user of `location`.

        An app passes an fd for each plane, be it of the same dma-buf.
        """
        location.users += 1
        self.release(same)
        return location

    def receive(self, frame: Located) -> Location:
        """Take an answer of the guest, or a part of one.

        Returns:
            What it is about: PENDING, if there is more to come.

        Raises:
            ChannelError: nobody asked.
            ExtentError: the extents are not what was asked for, or not RAM.
        """
        location = self._by_id.get(frame.location_id)
        if location is None or location.progress is not Progress.PENDING:
            raise ChannelError(
                f"client {frame.client_id}: Located for location "
                f"{frame.location_id}, which was not asked for"
            )
        if frame.status is not LocateStatus.OK:
            self._fail(location, frame)
            return location
        location.extents.words.extend(Extents.of(frame.extents).words)
        page_size = self._context.config.guest_page
        pages = location.length // page_size
        if frame.more:
            if len(location.extents) >= pages:
                raise ChannelError(f"more extents than the {pages} pages asked for")
            return location
        check_extents(location.extents, 0, location.length, page_size, pages)
        items = self._context.shared.ram.translate(location.extents)
        location.extents = Extents()
        if not self._context.shares.runs.take(len(items)):
            release = Release(self._context.client_id, location.location_id)
            self._context.send_frame(release)
            status = LocateStatus.LIMIT_EXCEEDED
            self._fail(location, replace(frame, status=status))
            return location
        location.items, location.runs = items, len(items)
        location.progress = Progress.READY
        return location

    def want_udmabuf(self, location: Location) -> Progress:
        """Have the udmabuf of a location made, once; say how far that is."""
        if location.udmabuf_progress is Progress.NONE:
            location.udmabuf = self._context.make_handle(location)
            location.udmabuf_progress = Progress.PENDING
            self._context.command(
                CreateUdmabuf(self._context.client_id, location.udmabuf, location.items)
            )
        return location.udmabuf_progress

    def spend_udmabuf(self, location: Location) -> None:
        """Let go of a udmabuf that its one user has had; the next one has another made."""
        assert location.udmabuf is not None
        self._context.close_handle(location.udmabuf)
        location.udmabuf = None
        location.udmabuf_progress = Progress.NONE

    def release(self, location: Location) -> None:
        """Count one user less; the last one drops the pin in the guest."""
        location.users -= 1
        if location.users:
            return
        del self._by_id[location.location_id]
        key = (location.memory_id, location.start, location.start + location.length)
        if self._by_range.get(key) is location:
            del self._by_range[key]
        shares = self._context.shares
        shares.locations.give_back(1)
        shares.located_bytes.give_back(location.length)
        shares.runs.give_back(location.runs)
        client_id = self._context.client_id
        if location.udmabuf is not None:
            self._context.close_handle(location.udmabuf)
        if location.progress is not Progress.FAILED:
            self._context.send_frame(Release(client_id, location.location_id))

    def _fail(self, location: Location, failure: Located) -> None:
        location.progress = Progress.FAILED
        location.failure = replace(failure, extents=())
        location.extents = Extents()

    def _take_share(self, length: int) -> bool:
        """Count one location more; False if the client, or all together, have too many."""
        shares = self._context.shares
        if shares.locations.take(1):
            if shares.located_bytes.take(length):
                return True
            shares.locations.give_back(1)
        return False
