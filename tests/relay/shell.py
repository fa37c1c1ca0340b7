"""What the agent and the host shell would do: pages, pins, handles, copies."""

from collections.abc import Iterable, Sequence

from wlproxy.memory.guest_memory import GuestMemory, RamItem, RamRegion
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    Extent,
    Locate,
)
from wlproxy.relay.commands import (
    CopyRows,
)
from wlproxy.relay.handles import Handle

PAGE = 4096
RAM_PAGES = 1024
RAM_START = 1 << 20


class Shell:
    """What the agent and the host shell would do: pages, pins, handles, copies."""

    def __init__(self) -> None:
        self.ram = bytearray(RAM_PAGES * PAGE)
        # Scattered: no two pages of a file are neighbours, and RAM starts at 1 MiB.
        self._pages = iter([page * 389 % RAM_PAGES for page in range(RAM_PAGES)])
        self.files: dict[int, list[int]] = {}
        self.open_memories: set[int] = set()
        self.pins: dict[int, tuple[int, int, int]] = {}
        self.udmabufs: dict[Handle, Sequence[RamItem]] = {}
        self.mapped: dict[Handle, Sequence[RamItem]] = {}
        """What a compositor may still have mapped, though we have closed it."""
        self.copies: dict[Handle, bytearray] = {}
        self.others: set[Handle] = set()
        self.copied = 0

    def memory(self, memory_id: int, size: int) -> Attachment:
        self.files[memory_id] = [next(self._pages) for _ in range(-(-size // PAGE))]
        self.open_memories.add(memory_id)
        flags = AttachmentFlags.MEMORY_WRITABLE
        return Attachment(AttachmentKind.MEMORY, flags, memory_id, size)

    def grow(self, memory_id: int) -> None:
        """Have a file be a page longer."""
        self.files[memory_id].append(next(self._pages))

    def write(self, memory_id: int, offset: int, data: bytes) -> None:
        pages = self.files[memory_id]
        for index, byte in enumerate(data, offset):
            self.ram[pages[index // PAGE] * PAGE + index % PAGE] = byte

    def read(self, memory_id: int, offset: int, length: int) -> bytes:
        pages = self.files[memory_id][offset // PAGE : -(-(offset + length) // PAGE)]
        data = b"".join(self.ram[p * PAGE : p * PAGE + PAGE] for p in pages)
        return data[offset % PAGE : offset % PAGE + length]

    def has(self, locate: Locate) -> bool:
        """Whether the file is long enough for what is asked about."""
        pages = len(self.files[locate.memory_id])
        return locate.offset + locate.length <= pages * PAGE

    def extents(self, locate: Locate) -> tuple[Extent, ...]:
        assert locate.memory_id in self.open_memories, "Locate after CloseMemory"
        first = locate.offset // PAGE
        end = -(-(locate.offset + locate.length) // PAGE)
        self.pins[locate.location_id] = (locate.memory_id, first, end)
        pages = self.files[locate.memory_id][first:end]
        return tuple(Extent(RAM_START + page * PAGE, PAGE) for page in pages)

    def is_open(self, handle: Handle) -> bool:
        return any(handle in kind for kind in (self.udmabufs, self.copies, self.others))

    def close(self, handle: Handle) -> None:
        assert self.is_open(handle), f"handle {handle} is not open"
        if handle in self.udmabufs:
            self.mapped[handle] = self.udmabufs.pop(handle)
        self.copies.pop(handle, None)
        self.others.discard(handle)

    def contents(self, handle: Handle) -> bytes:
        if handle in self.copies:
            return bytes(self.copies[handle])
        return self.gather((self.udmabufs | self.mapped)[handle])

    def gather(self, items: Iterable[RamItem]) -> bytes:
        return b"".join(self.ram[i.offset : i.offset + i.length] for i in items)

    def copy_rows(self, command: CopyRows) -> None:
        source, target = self.gather(command.items), self.copies[command.handle]
        assert command.rows > 0
        assert command.length > 0
        for row in range(command.rows):
            start = command.offset + row * command.stride
            end = start + command.length
            assert 0 <= start < end <= min(len(source), len(target))
            target[start:end] = source[start:end]
        self.copied += command.rows * command.length


def guest_memory() -> GuestMemory:
    return GuestMemory([RamRegion(RAM_START, RAM_PAGES * PAGE, 0, 0)])
