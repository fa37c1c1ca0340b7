"""A stage for the relay: an app, an agent, a shell and a compositor, all scripted.

Tests read like transcripts: the app does something, `said()` is what everybody heard of
it.  The compositor checks all it is sent as libwayland-server would, the app all that
reaches it as libwayland-client would, and the shell watches over handles and pins, so
that every test is a conformance test too.  Nothing here is taken from `wlproxy.relay`
but its inputs and its commands.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from wlproxy.memory.guest import GuestMemory, RamItem, RamRegion
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseMemory,
    CloseReason,
    Data,
    Extent,
    Locate,
    Located,
    LocateStatus,
    Release,
    Released,
)
from wlproxy.protocol.wayland.interface import ArgKind, Interface, MessageSpec
from wlproxy.protocol.wayland.interfaces import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, NewId, RawMessage
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    encode_message,
)
from wlproxy.relay.commands import (
    AdoptStream,
    CloseClient,
    CloseHandle,
    Command,
    CopyRows,
    CreateCopyBuffer,
    CreateStream,
    CreateUdmabuf,
    GrantCredit,
    OpenCompositor,
    SendFile,
    SendFrame,
    SendToCompositor,
    Trace,
    TraceLevel,
)
from wlproxy.relay.context import RelayConfig
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.presentation import (
    DRM_ARGB8888,
    DRM_XRGB8888,
    CompositorCapabilities,
)
from wlproxy.relay.relay import Relay

PAGE = 4096
RAM_PAGES = 1024
SERVER = 0xFF000000

ZERO_COPY = CompositorCapabilities(
    shm_udmabuf=True,
    dmabuf_stride_alignment={DRM_ARGB8888: 256, DRM_XRGB8888: 256},
)
ONLY_SHM = CompositorCapabilities(shm_udmabuf=True, dmabuf_reason="no linux-dmabuf")
NOTHING = CompositorCapabilities(
    shm_udmabuf=False, shm_udmabuf_reason="no /dev/udmabuf", udmabuf_list_limit=0
)

GLOBALS = {
    1: ("wl_compositor", 6),
    2: ("wl_shm", 2),
    3: ("wl_seat", 9),
    4: ("xdg_wm_base", 6),
    5: ("zwp_linux_dmabuf_v1", 5),
    6: ("wp_viewporter", 1),
    7: ("wl_data_device_manager", 3),
    8: ("wl_output", 4),
    9: ("zwlr_screencopy_manager_v1", 3),
    10: ("xdg_toplevel_icon_manager_v1", 1),
    11: ("wp_single_pixel_buffer_manager_v1", 1),
    12: ("some_vendors_own_v1", 1),
    13: ("wl_subcompositor", 1),
}

DESTRUCTORS = {"destroy", "release"}


@dataclass(eq=False)
class Thing:
    """A proxy of the app or a resource of the compositor."""

    id: int
    interface: Interface
    version: int
    alive: bool = True
    facts: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.interface.name}@{self.id}"


def words(spec: MessageSpec, args: Sequence[ArgValue], fds: Sequence[object]) -> str:
    shown, left = [], deque(fds)
    for arg, value in zip(spec.args, args, strict=True):
        if arg.kind is ArgKind.FD:
            shown.append(f"fd {left.popleft()}")
        elif isinstance(value, NewId):
            shown.append(f"new {value.interface.decode()}@{value.object_id}")
        elif arg.kind is ArgKind.NEW_ID:
            shown.append(f"new {arg.interface}@{_int(value)}")
        elif arg.kind is ArgKind.OBJECT:
            shown.append(f"@{_int(value)}" if value else "null")
        elif isinstance(value, bytes):
            shown.append(repr(value.decode("utf-8", "replace")))
        else:
            shown.append(str(value))
    return f"{spec.name}({', '.join(shown)})"


def fill(
    spec: MessageSpec, args: Sequence[ArgValue], new_id: Callable[[str], int]
) -> list[ArgValue]:
    """Put in what a caller leaves out: new ids and the places of fds."""
    left = deque(args)
    full: list[ArgValue] = []
    for arg in spec.args:
        if arg.kind is ArgKind.FD:
            full.append(None)
        elif arg.kind is ArgKind.NEW_ID and arg.interface is not None:
            full.append(new_id(arg.interface))
        else:
            full.append(left.popleft())
    assert not left, f"too many arguments for {spec}"
    return full


class App:
    """An app in the guest, as strict about events as libwayland-client."""

    def __init__(self, send: Callable[[bytes, Sequence[Attachment]], None]) -> None:
        self._send = send
        self._splitter = MessageSplitter()
        self._free: list[int] = []
        self._next = 2
        self._server_next = SERVER
        self.attachments: deque[Attachment] = deque()
        self.display = Thing(1, INTERFACES["wl_display"], 1)
        self.things: dict[int, Thing] = {1: self.display}
        self.globals: dict[int, tuple[str, int]] = {}
        self.error: tuple[int, int, str] | None = None
        self.log: list[str] = []
        self.created: list[Thing] = []
        self.received: list[Attachment] = []

    def new(self, interface: str, version: int) -> Thing:
        """Allocate an id as libwayland does: the one freed last, or the next."""
        if self._free:
            object_id = self._free.pop()
        else:
            object_id, self._next = self._next, self._next + 1
        thing = Thing(object_id, INTERFACES[interface], version)
        self.things[object_id] = thing
        return thing

    def encode(
        self, sender: Thing, name: str, args: Sequence[ArgValue]
    ) -> tuple[bytes, Thing | None]:
        created: list[Thing] = []

        def new_id(interface: str) -> int:
            created.append(self.new(interface, sender.version))
            return created[-1].id

        spec = sender.interface.request(name)
        data = encode_message(sender.id, spec, fill(spec, args, new_id))
        return data, created[0] if created else None

    def request(
        self,
        sender: Thing,
        name: str,
        *args: ArgValue,
        attach: Sequence[Attachment] = (),
    ) -> Thing:
        """Send a request; what it creates comes back (else its sender)."""
        data, created = self.encode(sender, name, args)
        if name in DESTRUCTORS:
            self.destroyed(sender)
        self._send(data, attach)
        return created or sender

    def destroyed(self, thing: Thing) -> None:
        thing.alive = False
        if thing.id >= SERVER:
            self.things.pop(thing.id, None)

    def bind(self, interface: str, version: int = 0) -> Thing:
        name, known = next(
            (n, v) for n, (i, v) in self.globals.items() if i == interface
        )
        version = version or min(known, INTERFACES[interface].version)
        thing = self.new(interface, version)
        new_id = NewId(interface.encode(), version, thing.id)
        spec = self.registry.interface.request("bind")
        self._send(encode_message(self.registry.id, spec, (name, new_id)), ())
        return thing

    @property
    def registry(self) -> Thing:
        return next(
            t for t in self.things.values() if t.interface.name == "wl_registry"
        )

    def receive(self, frame: Data) -> None:
        self._splitter.feed(frame.data)
        self.attachments.extend(frame.attachments)
        while (raw := self._splitter.next_message()) is not None:
            self._event(raw)

    def _event(self, raw: RawMessage) -> None:
        thing = self.things.get(raw.object_id)
        assert thing is not None, f"event of unknown object {raw.object_id}"
        spec = thing.interface.events[raw.opcode]
        assert spec.since <= thing.version, f"{spec} is too new for {thing}"
        message = decode_message(spec, raw, self.attachments)
        self.received.extend(message.fds)
        for arg, value in zip(spec.args, message.args, strict=True):
            if arg.kind is ArgKind.OBJECT and value:
                assert isinstance(value, int)
                about = self.things.get(value)
                assert about is not None, f"{spec} names unknown object {value}"
                wanted = arg.interface or about.interface.name
                assert about.interface.name == wanted, f"{spec} names {about}"
            if arg.kind is ArgKind.NEW_ID:
                assert isinstance(value, int)
                assert arg.interface is not None
                self._created_by_server(value, arg.interface, thing.version)
        fds = [f"{a.kind.name.lower()} {a.object_id}" for a in message.fds]
        self.log.append(f"app: {thing}.{words(spec, message.args, fds)}")
        if thing is self.display:
            self._display_event(spec, message.args)
        elif spec.name == "global":
            name, interface, version = message.args
            assert isinstance(name, int)
            assert isinstance(interface, bytes)
            assert isinstance(version, int)
            self.globals[name] = (interface.decode(), version)
        elif thing.interface.name == "wl_callback":
            thing.alive = False  # `done` destroys it

    def _created_by_server(self, new_id: int, interface: str, version: int) -> None:
        assert SERVER <= new_id <= self._server_next, f"gap before {new_id:#x}"
        assert new_id not in self.things, f"{new_id:#x} is in use"
        self._server_next = max(self._server_next, new_id + 1)
        thing = Thing(new_id, INTERFACES[interface], version)
        self.things[new_id] = thing
        self.created.append(thing)

    def _display_event(self, spec: MessageSpec, args: Sequence[ArgValue]) -> None:
        if spec.name == "error":
            about, code, text = args
            assert isinstance(about, int)
            assert isinstance(code, int)
            assert isinstance(text, bytes)
            assert self.error is None, "a second error"
            self.error = about, code, text.decode()
        else:
            (freed,) = args
            assert isinstance(freed, int)
            gone = self.things.pop(freed, None)
            assert gone is not None, f"delete_id of unknown {freed}"
            assert not gone.alive, f"delete_id of {gone}, which is alive"
            self._free.append(freed)


class Compositor:
    """The host's compositor, as strict about requests as libwayland-server."""

    def __init__(self) -> None:
        self._splitter = MessageSplitter()
        self._fds: deque[Handle] = deque()
        self._next = 2
        self._free_server: list[int] = []
        self._server_next = SERVER
        self._serial = 0
        self.display = Thing(1, INTERFACES["wl_display"], 1)
        self.things: dict[int, Thing] = {1: self.display}
        self.globals = dict(GLOBALS)
        self.out: deque[tuple[bytes, tuple[ReceivedFd, ...]]] = deque()
        self.log: list[str] = []
        self.imports = "accept"
        self.answers_sync = True
        self.releases = True
        self.waiting: list[Callable[[], None]] = []

    # ------------------------------------------------------------ events

    def event(
        self, sender: Thing, name: str, *args: ArgValue, fds: Sequence[ReceivedFd] = ()
    ) -> Thing:
        created: list[Thing] = []

        def new_id(interface: str) -> int:
            if self._free_server:
                object_id = self._free_server.pop()
            else:
                object_id, self._server_next = self._server_next, self._server_next + 1
            thing = Thing(object_id, INTERFACES[interface], sender.version)
            self.things[object_id] = thing
            created.append(thing)
            return object_id

        spec = sender.interface.event(name)
        data = encode_message(sender.id, spec, fill(spec, args, new_id))
        self.out.append((data, tuple(fds)))
        return created[0] if created else sender

    def answer(self) -> None:
        """Do what was put off: syncs, imports."""
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action()

    # ------------------------------------------------------------ requests

    def receive(self, data: bytes, handles: Sequence[Handle]) -> None:
        self._splitter.feed(data)
        self._fds.extend(handles)
        assert len(handles) <= 28
        while (raw := self._splitter.next_message()) is not None:
            self._request(raw)
        assert not self._splitter.pending, "half a message"
        assert not self._fds, "fds of no message"

    def _request(self, raw: RawMessage) -> None:
        thing = self.things.get(raw.object_id)
        assert thing is not None, f"request to unknown object {raw.object_id}"
        spec = thing.interface.requests[raw.opcode]
        assert spec.since <= thing.version, f"{spec} is too new for {thing}"
        message = decode_message(spec, raw, self._fds)
        created = self._check_ids(thing, spec, message.args)
        self.log.append(f"host: {thing}.{words(spec, message.args, message.fds)}")
        special = getattr(self, f"_on_{thing.interface.name}", None)
        if special is not None:
            special(thing, spec.name, message.args, message.fds, created)
        if spec.name in DESTRUCTORS:
            self.destroy(thing)

    def _check_ids(
        self, thing: Thing, spec: MessageSpec, args: Sequence[ArgValue]
    ) -> Thing:
        created = thing
        for arg, value in zip(spec.args, args, strict=True):
            if arg.kind is ArgKind.OBJECT and value:
                assert isinstance(value, int)
                about = self.things.get(value)
                assert about is not None, f"{spec} names unknown object {value}"
                wanted = arg.interface or about.interface.name
                assert about.interface.name == wanted, f"{spec} names {about}"
            elif isinstance(value, NewId):
                interface = value.interface.decode()
                assert self.globals[_int(args[0])][0] == interface
                assert 0 < value.version <= self.globals[_int(args[0])][1]
                created = self._new(value.object_id, interface, value.version)
            elif arg.kind is ArgKind.NEW_ID:
                assert arg.interface is not None
                created = self._new(_int(value), arg.interface, thing.version)
        return created

    def _new(self, object_id: int, interface: str, version: int) -> Thing:
        assert 1 < object_id <= self._next, f"gap before new id {object_id}"
        assert object_id not in self.things, f"new id {object_id} is in use"
        self._next = max(self._next, object_id + 1)
        thing = Thing(object_id, INTERFACES[interface], version)
        self.things[object_id] = thing
        return thing

    def destroy(self, thing: Thing) -> None:
        thing.alive = False
        del self.things[thing.id]
        if thing.id < SERVER:
            self.event(self.display, "delete_id", thing.id)
        else:
            self._free_server.append(thing.id)

    def _on_wl_display(
        self,
        _thing: Thing,
        name: str,
        _args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if name == "get_registry":
            for number, (interface, version) in self.globals.items():
                self.event(created, "global", number, interface.encode(), version)
            return

        def done() -> None:
            self._serial += 1
            self.event(created, "done", self._serial)
            self.destroy(created)

        if self.answers_sync:
            done()
        else:
            self.waiting.append(done)

    def _on_wl_registry(
        self,
        _thing: Thing,
        _name: str,
        _args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if created.interface.name == "wl_shm":
            self.event(created, "format", 0)
            self.event(created, "format", 1)

    def _on_wl_shm(
        self,
        _thing: Thing,
        _name: str,
        args: Sequence[ArgValue],
        fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        size = _int(args[-1])
        assert size > 0
        created.facts = {"fd": fds[0], "size": size}

    def _on_wl_shm_pool(
        self,
        thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if name != "create_buffer":
            assert name == "destroy", "a pool of ours is never resized"
            return
        offset, width, height, stride, shm_format = map(_int, args[1:])
        size = _int(thing.facts["size"])
        assert offset >= 0
        assert width > 0
        assert height > 0
        assert stride >= width
        assert offset <= size - stride * height, "buffer exceeds its pool"
        created.facts = {
            "fd": thing.facts["fd"],
            "geometry": (offset, width, height, stride, shm_format),
        }

    def _on_zwp_linux_buffer_params_v1(
        self,
        thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        fds: Sequence[Handle],
        _created: Thing,
    ) -> None:
        if name == "add":
            assert "plane" not in thing.facts
            thing.facts["plane"] = (fds[0], args[2], args[3])
        elif name == "create":
            width, height, fourcc = map(_int, args[:3])
            plane = thing.facts["plane"]
            assert isinstance(plane, tuple)
            handle, offset, stride = plane

            def answer() -> None:
                if self.imports == "refuse":
                    self.event(thing, "failed")
                    return
                made = self.event(thing, "created")
                geometry = (offset, width, height, stride, fourcc)
                made.version = thing.version
                self.things[made.id] = made
                made.facts = {"fd": handle, "geometry": geometry}

            if self.imports == "hold":
                self.waiting.append(answer)
            else:
                answer()

    def _on_wl_surface(
        self,
        thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if name == "attach":
            buffer = _int(args[0])
            thing.facts["pending"] = self.things[buffer] if buffer else None
        elif name == "frame":
            thing.facts["frame"] = created
        elif name == "commit" and "pending" in thing.facts:
            old = thing.facts.get("current")
            thing.facts["current"] = thing.facts.pop("pending")
            if isinstance(old, Thing) and old.alive and self.releases:
                self.event(old, "release")

    def frame_done(self, surface: Thing) -> None:
        callback = surface.facts.pop("frame")
        assert isinstance(callback, Thing)
        self.event(callback, "done", 7)
        self.destroy(callback)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


class Shell:
    """What the agent and the host shell would do: pages, pins, handles, copies."""

    def __init__(self) -> None:
        self.ram = bytearray(RAM_PAGES * PAGE)
        # Scattered: no two pages of a file are neighbours, and RAM starts at 1 MiB.
        self._pages = iter([page * 389 % RAM_PAGES for page in range(RAM_PAGES)])
        self.files: dict[int, list[int]] = {}
        self.open_memories: set[int] = set()
        self.pins: dict[int, tuple[int, int, int]] = {}
        self.udmabufs: dict[Handle, tuple[RamItem, ...]] = {}
        self.copies: dict[Handle, bytearray] = {}
        self.others: set[Handle] = set()
        self.copied = 0

    def memory(self, memory_id: int, size: int) -> Attachment:
        self.files[memory_id] = [next(self._pages) for _ in range(-(-size // PAGE))]
        self.open_memories.add(memory_id)
        flags = AttachmentFlags.MEMORY_WRITABLE
        return Attachment(AttachmentKind.MEMORY, flags, memory_id, size)

    def write(self, memory_id: int, offset: int, data: bytes) -> None:
        pages = self.files[memory_id]
        for index, byte in enumerate(data, offset):
            self.ram[pages[index // PAGE] * PAGE + index % PAGE] = byte

    def read(self, memory_id: int, offset: int, length: int) -> bytes:
        pages = self.files[memory_id][offset // PAGE : -(-(offset + length) // PAGE)]
        data = b"".join(self.ram[p * PAGE : p * PAGE + PAGE] for p in pages)
        return data[offset % PAGE : offset % PAGE + length]

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
        self.udmabufs.pop(handle, None)
        self.copies.pop(handle, None)
        self.others.discard(handle)

    def contents(self, handle: Handle) -> bytes:
        if handle in self.copies:
            return bytes(self.copies[handle])
        return self.gather(self.udmabufs[handle])

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


RAM_START = 1 << 20


def guest_memory() -> GuestMemory:
    return GuestMemory([RamRegion(RAM_START, RAM_PAGES * PAGE, 0, 0)])


class Playbook:
    """One client of one relay, with everybody it talks to.

    Attributes:
        holds_locate: `Locate` is answered by `answer_locate` only.
        holds_create: `CreateUdmabuf`, `CreateCopyBuffer` wait for `answer_create`.
        create_fails: which of the two fail.
        deliver: the compositor's events arrive at once.
    """

    def __init__(
        self,
        capabilities: CompositorCapabilities = ZERO_COPY,
        config: RelayConfig | None = None,
        *,
        start: bool = True,
    ) -> None:
        self.relay = Relay(config or RelayConfig(), guest_memory(), capabilities)
        self.log: list[str] = []
        self.shell = Shell()
        self.app = App(self.send)
        self.host = Compositor()
        self.app.log = self.host.log = self.log
        self.holds_locate = self.holds_create = False
        self.create_fails: set[type] = set()
        self.deliver = True
        self.locates: list[Locate] = []
        self.creates: list[CreateUdmabuf | CreateCopyBuffer] = []
        self.traces: list[Trace] = []
        self.credit = 0
        self.closed: CloseClient | None = None
        self._next_memory = 1
        self._ready: deque[Callable[[], list[Command]]] = deque()
        self._running = False
        self.run(self.relay.receive_frame(ClientOpened(1, 4711, 1000, 1000, "app")))
        if start:
            self.app.request(self.app.display, "get_registry")
            self.said()

    # ------------------------------------------------------------ what tests say

    def said(self) -> list[str]:
        """What was said since the last call."""
        said = self.log[:]
        self.log.clear()
        return said

    def said_by(self, who: str) -> list[str]:
        """The same, of one speaker, without the name."""
        return [
            line.removeprefix(f"{who}: ")
            for line in self.said()
            if line.startswith(f"{who}: ")
        ]

    def send(self, data: bytes, attachments: Sequence[Attachment] = ()) -> None:
        """Have the app write bytes."""
        if self.closed is not None:
            return
        frame = Data(1, data, tuple(attachments))
        self.run(self.relay.receive_frame(frame))

    def memory(self, size: int) -> Attachment:
        attachment = self.shell.memory(self._next_memory, size)
        self._next_memory += 1
        return attachment

    def pool(self, shm: Thing, size: int) -> Thing:
        memory = self.memory(size)
        pool = self.app.request(shm, "create_pool", size, attach=[memory])
        pool.facts["memory"] = memory.object_id
        return pool

    def buffer(
        self,
        pool: Thing,
        offset: int,
        width: int,
        height: int,
        stride: int,
        fmt: int = 0,
    ) -> Thing:
        geometry = (offset, width, height, stride, fmt)
        buffer = self.app.request(pool, "create_buffer", *geometry)
        buffer.facts = {"memory": pool.facts["memory"], "geometry": geometry}
        return buffer

    def show(self, surface: Thing, buffer: Thing | None, *damage: int) -> None:
        """Attach, damage (all of it, unless told) and commit."""
        self.app.request(surface, "attach", buffer.id if buffer else 0, 0, 0)
        rectangle = damage or (0, 0, 0x7FFFFFFF, 0x7FFFFFFF)
        self.app.request(surface, "damage_buffer", *rectangle)
        self.app.request(surface, "commit")

    def host_thing(self, interface: str, index: int = 0) -> Thing:
        things = [t for t in self.host.things.values() if t.interface.name == interface]
        return things[index]

    def pixels(self, buffer: Thing) -> bytes:
        """What a buffer's rows hold: the app's, or the compositor's."""
        geometry = buffer.facts["geometry"]
        assert isinstance(geometry, tuple)
        offset, _width, height, stride, _fmt = geometry
        if "memory" in buffer.facts:
            memory = _int(buffer.facts["memory"])
            return self.shell.read(memory, offset, stride * height)
        data = self.shell.contents(Handle(_int(buffer.facts["fd"])))
        return data[offset : offset + stride * height]

    def host_pixels(self, surface: int = 0) -> bytes:
        current = self.host_thing("wl_surface", surface).facts["current"]
        assert isinstance(current, Thing)
        return self.pixels(current)

    def answer_locate(self, located: Located | None = None) -> None:
        locate = self.locates.pop(0)
        if located is None:
            extents = self.shell.extents(locate)
            located = Located(1, locate.location_id, LocateStatus.OK, 0, False, extents)
        self.run(self.relay.receive_frame(located))

    def answer_create(self) -> None:
        command = self.creates.pop(0)
        self._ready.append(lambda: self._create(command))
        self.run([])

    def flush(self) -> None:
        """Have the compositor's events arrive."""
        deliver, self.deliver = self.deliver, True
        self.run([])
        self.deliver = deliver

    def from_compositor(self, data: bytes, *fds: ReceivedFd) -> None:
        self.shell.others.update(fd.handle for fd in fds)
        self.run(self.relay.receive_from_compositor(1, data, fds))

    def leave(self) -> None:
        frame = ClientClosed(1, CloseReason.NORMAL, "")
        self.run(self.relay.receive_frame(frame))

    # ------------------------------------------------------------ what follows

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            self._carry_out(command)
        if self._running:
            return
        self._running = True
        try:
            while self.closed is None:
                if self._ready:
                    commands = self._ready.popleft()()
                elif self.host.out and self.deliver:
                    data, fds = self.host.out.popleft()
                    self.shell.others.update(fd.handle for fd in fds)
                    commands = self.relay.receive_from_compositor(1, data, fds)
                else:
                    break
                for command in commands:
                    self._carry_out(command)
        finally:
            self._running = False

    def _create(self, command: CreateUdmabuf | CreateCopyBuffer) -> list[Command]:
        if type(command) in self.create_fails:
            return self.relay.buffer_failed(1, command.handle, 12, "no memory")
        if isinstance(command, CreateUdmabuf):
            self.shell.udmabufs[command.handle] = command.items
        else:
            self.shell.copies[command.handle] = bytearray(command.size)
        return self.relay.buffer_created(1, command.handle)

    def _carry_out(self, command: Command) -> None:  # noqa: C901
        assert self.closed is None, f"{command} after CloseClient"
        shell = self.shell
        match command:
            case SendFrame(frame=Data() as frame):
                self.app.receive(frame)
            case SendFrame(frame=Locate() as frame):
                self.log.append(
                    f"agent: Locate(#{frame.location_id}, memory {frame.memory_id}, "
                    f"{frame.offset}+{frame.length})"
                )
                self.locates.append(frame)
                if not self.holds_locate:
                    self._ready.append(self._locate_later)
            case SendFrame(frame=Release(location_id=location)):
                assert shell.pins.pop(location, None), f"{location} is not pinned"
                self.log.append(f"agent: Release(#{location})")
                released = Released(1, location)
                self._ready.append(lambda: self.relay.receive_frame(released))
            case SendFrame(frame=CloseMemory(memory_id=memory)):
                shell.open_memories.remove(memory)
                self.log.append(f"agent: CloseMemory({memory})")
            case SendToCompositor(data=data, handles=handles):
                assert all(shell.is_open(handle) for handle in handles)
                self.host.receive(data, handles)
            case CreateUdmabuf() | CreateCopyBuffer():
                self.log.append(f"shell: {type(command).__name__}({command.handle})")
                if self.holds_create:
                    self.creates.append(command)
                else:
                    self._ready.append(lambda: self._create(command))
            case CopyRows():
                shell.copy_rows(command)
                self.log.append(f"shell: copied {command.length}x{command.rows}")
            case CreateStream():
                shell.others.add(command.handle)
                self.log.append(
                    f"shell: CreateStream({command.stream_id}, {command.direction.value})"
                )
            case AdoptStream():
                shell.close(command.handle)
                self.log.append(
                    f"shell: AdoptStream({command.stream_id}, {command.direction.value})"
                )
            case SendFile():
                shell.close(command.handle)
                self.log.append(f"shell: SendFile({command.file_id})")
            case CloseHandle():
                shell.close(command.handle)
                self.log.append(f"shell: CloseHandle({command.handle})")
            case GrantCredit():
                self.credit += command.amount
            case Trace():
                self.traces.append(command)
            case CloseClient():
                self.closed = command
                self.log.append(f"shell: CloseClient({command.reason.name})")
            case OpenCompositor():
                self.log.append(f"shell: OpenCompositor({command.label})")
            case _:
                raise AssertionError(command)

    def _locate_later(self) -> list[Command]:
        locate = self.locates.pop(0)
        extents = self.shell.extents(locate)
        located = Located(1, locate.location_id, LocateStatus.OK, 0, False, extents)
        return self.relay.receive_frame(located)

    # ------------------------------------------------------------ what must hold

    def warnings(self) -> list[str]:
        return [t.message for t in self.traces if t.level >= TraceLevel.WARNING]

    def nothing_left(self) -> None:
        """Check that nothing is held for buffers that are gone."""
        assert not self.shell.udmabufs
        assert not self.shell.copies
        assert not self.shell.others
        assert not self.shell.pins
        assert not self.shell.open_memories


class Stage(Playbook):
    """A playbook whose app has bound what it needs to show buffers, and a surface."""

    def __init__(
        self,
        capabilities: CompositorCapabilities = ZERO_COPY,
        config: RelayConfig | None = None,
    ) -> None:
        super().__init__(capabilities, config)
        self.shm = self.app.bind("wl_shm")
        self.compositor = self.app.bind("wl_compositor")
        self.surface = self.new_surface()
        self.said()

    def new_surface(self) -> Thing:
        return self.app.request(self.compositor, "create_surface")

    def buffers(self, number: int = 1, stride: int = 256, fmt: int = 0) -> list[Thing]:
        """Buffers of 64x64 pixels that share pages, in a pool that is gone."""
        size = stride * 64 + 512
        pool = self.pool(self.shm, number * size)
        made = [
            self.buffer(pool, index * size + 256, 64, 64, stride, fmt)
            for index in range(number)
        ]
        self.app.request(pool, "destroy")
        self.said()
        return made

    def paint(self, buffer: Thing, byte: int) -> None:
        """Fill a buffer's rows."""
        offset, _width, height, stride, _fmt = geometry(buffer)
        memory = _int(buffer.facts["memory"])
        self.shell.write(memory, offset, bytes([byte]) * (stride * height))

    @property
    def mode(self) -> str:
        return self.relay.surfaces()[0].mode

    @property
    def reason(self) -> str:
        return self.relay.surfaces()[0].reason


def geometry(buffer: Thing) -> tuple[int, int, int, int, int]:
    """A buffer's (offset, width, height, stride, format)."""
    facts = buffer.facts["geometry"]
    assert isinstance(facts, tuple)
    return facts
