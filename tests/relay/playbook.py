"""A stage for the relay: an app, an agent, a shell and a compositor, all scripted.

Tests read like transcripts: the app does something, `said()` is what everybody heard of
it.  The compositor checks all it is sent as libwayland-server would, the app all that
reaches it as libwayland-client would, and the shell watches over handles and pins, so
that every test is a conformance test too.  Nothing here is taken from `wlproxy.relay`
but its inputs and its commands.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.relay.app import App
from tests.relay.compositor import Compositor, RefusedError
from tests.relay.shell import Shell, guest_memory
from tests.relay.things import Thing, integer
from tests.relay.twins import Twins
from wlproxy.protocol.channel.frames import (
    Attachment,
    ClientClosed,
    ClientOpened,
    CloseMemory,
    CloseReason,
    Data,
    Extent,
    Locate,
    Located,
    LocateStatus,
    OpenStream,
    ReadMemory,
    Release,
    Released,
)
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import (
    AdoptStream,
    AskUser,
    CloseClient,
    CloseHandle,
    Command,
    CopyRows,
    CreateCopyBuffer,
    CreateFile,
    CreateStream,
    CreateUdmabuf,
    GrantCredit,
    OpenCompositor,
    ReadFile,
    SendContents,
    SendFile,
    SendFrame,
    SendToCompositor,
    StartTimer,
    StopAsking,
    Trace,
    TraceLevel,
)
from wlproxy.relay.formats import DRM_ARGB8888, DRM_XRGB8888
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import (
    BufferCreated,
    BufferFailed,
    Copied,
    EventsTurn,
    FileRead,
    FromCompositor,
    ReceivedFd,
    RequestsTurn,
)
from wlproxy.relay.policy_tree import Policy
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.context import RelayConfig

ZERO_COPY = CompositorCapabilities(
    shm_udmabuf=True,
    dmabuf_stride_alignment={DRM_ARGB8888: 256, DRM_XRGB8888: 256},
)
ONLY_SHM = CompositorCapabilities(shm_udmabuf=True, dmabuf_reason="no linux-dmabuf")
ONCE = replace(ONLY_SHM, shm_once=True)
"""As of Xen's gntdev: what has been mapped once is never mapped again."""

NOTHING = CompositorCapabilities(
    shm_udmabuf=False, shm_udmabuf_reason="no /dev/udmabuf", udmabuf_list_limit=0
)


class Playbook:
    """One client of one relay, with everybody it talks to.

    Attributes:
        holds_locate: `Locate` is answered by `answer_locate` only.
        holds_create: `CreateUdmabuf`, `CreateCopyBuffer` wait for `answer_create`.
        holds_read: `ReadFile` waits for `answer_read`.
        create_fails: which of the two fail.
        deliver: the compositor's events arrive at once.
        files: contents of files that the relay itself sent, by their id.
        timers: what the relay had timed, and which tests end.
        questions: what the user was asked, and which tests answer.
        policy: of stages whose configuration is not given.
    """

    policy = Policy()

    def __init__(
        self,
        capabilities: CompositorCapabilities = ZERO_COPY,
        config: RelayConfig | None = None,
        *,
        start: bool = True,
    ) -> None:
        config = config or RelayConfig(policy=self.policy)
        self.relay = Twins(config, guest_memory(), capabilities)
        self.log: list[str] = []
        self.shell = Shell()
        self.app = App(self.send)
        self.host = Compositor()
        self.app.log = self.host.log = self.log
        self.holds_locate = self.holds_create = self.holds_read = False
        self.create_fails: set[type] = set()
        self.deliver = True
        self.locates: list[Locate] = []
        self.reads: list[ReadFile] = []
        self.creates: list[CreateUdmabuf | CreateCopyBuffer] = []
        self.traces: list[Trace] = []
        self.timers: list[StartTimer] = []
        self.questions: list[AskUser] = []
        self.files: dict[int, bytes] = {}
        self.credit = 0
        self.closed: CloseClient | None = None
        self._next_memory = 1
        self._ready: deque[Callable[[], list[Command]]] = deque()
        self._running = False
        self.run(self.relay.receive(ClientOpened(1, 4711, 1000, 1000, "app")))
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
        self.run(self.relay.receive(Data(1, data, tuple(attachments))))
        while self.relay.requests_wait(1):
            self.run(self.relay.receive(RequestsTurn(1)))

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
            memory = integer(buffer.facts["memory"])
            return self.shell.read(memory, offset, stride * height)
        data = self.shell.contents(Handle(integer(buffer.facts["fd"])))
        return data[offset : offset + stride * height]

    def host_pixels(self, surface: int = 0) -> bytes:
        current = self.host_thing("wl_surface", surface).facts["current"]
        assert isinstance(current, Thing)
        return self.pixels(current)

    def answer_locate(self, located: Located | None = None) -> None:
        locate = self.locates.pop(0)
        self.run(self.relay.receive(located or self._located(locate)))

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
        self.run(self.relay.receive(FromCompositor(1, data, fds)))

    def leave(self) -> None:
        frame = ClientClosed(1, CloseReason.NORMAL, "")
        self.run(self.relay.receive(frame))

    # ------------------------------------------------------------ what follows

    def run(self, commands: list[Command]) -> None:
        self._carry_out_all(commands)
        if self._running:
            return
        self._running = True
        try:
            while self.closed is None:
                if self.relay.events_wait(1):
                    commands = self.relay.receive(EventsTurn(1))
                elif self.relay.requests_wait(1):
                    commands = self.relay.receive(RequestsTurn(1))
                elif self._ready:
                    commands = self._ready.popleft()()
                elif self.host.out and self.deliver:
                    data, fds = self.host.out.popleft()
                    self.shell.others.update(fd.handle for fd in fds)
                    commands = self.relay.receive(FromCompositor(1, data, fds))
                else:
                    break
                self._carry_out_all(commands)
        finally:
            self._running = False

    def _carry_out_all(self, commands: list[Command]) -> None:
        """As the shell does: a compositor that refuses is no reason to stop half-way."""
        refused = []
        for command in commands:
            try:
                self._carry_out(command)
            except RefusedError as exc:
                refused.append(exc)
        if refused:
            raise refused[0]

    def _create(self, command: CreateUdmabuf | CreateCopyBuffer) -> list[Command]:
        if type(command) in self.create_fails:
            return self.relay.receive(BufferFailed(1, command.handle, 12, "no memory"))
        if isinstance(command, CreateUdmabuf):
            self.shell.udmabufs[command.handle] = command.items
        else:
            self.shell.copies[command.handle] = bytearray(command.size)
        return self.relay.receive(BufferCreated(1, command.handle))

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
                self._ready.append(lambda: self.relay.receive(released))
            case SendFrame(frame=CloseMemory(memory_id=memory)):
                shell.open_memories.remove(memory)
                self.log.append(f"agent: CloseMemory({memory})")
            case SendFrame(frame=OpenStream(memory_id=memory, stream_id=stream)):
                shell.open_memories.discard(memory)
                self.log.append(f"agent: OpenStream({memory}, {stream})")
            case SendFrame(frame=ReadMemory() as frame):
                assert frame.memory_id in shell.open_memories
                shell.open_memories.remove(frame.memory_id)
                self.log.append(
                    f"agent: ReadMemory({frame.memory_id}, {frame.stream_id}, "
                    f"{frame.offset}+{frame.length})"
                )
            case ReadFile():
                self.log.append(f"shell: ReadFile({command.stream_id}, {command.size})")
                self.reads.append(command)
                if not self.holds_read:
                    self._ready.append(self._read_later)
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
                amount = command.length * command.rows
                self.relay.receive(Copied(1, command.handle, amount))
            case CreateFile(handle=handle, contents=contents):
                shell.others.add(handle)
                self.log.append(f"shell: CreateFile({handle}, {len(contents)})")
            case CreateStream():
                shell.others.add(command.handle)
                unusable = "" if command.usable else ", unusable"
                self.log.append(
                    f"shell: CreateStream({command.stream_id},"
                    f" {command.direction.value}{unusable})"
                )
            case AdoptStream():
                shell.close(command.handle)
                self.log.append(
                    f"shell: AdoptStream({command.stream_id}, {command.direction.value})"
                )
            case SendFile():
                shell.close(command.handle)
                self.log.append(f"shell: SendFile({command.file_id})")
            case SendContents(file_id=file_id, contents=contents):
                self.files[file_id] = contents
                self.log.append(f"shell: SendContents({file_id})")
            case CloseHandle():
                shell.close(command.handle)
                self.log.append(f"shell: CloseHandle({command.handle})")
            case AskUser():
                self.questions.append(command)
                self.log.append(f"user: {command.mime_type}?")
            case StopAsking(number=number):
                assert all(each.number <= number for each in self.questions)
                self.log.append("user: never mind")
            case StartTimer():
                self.timers.append(command)
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

    def hold(self, step: str) -> None:
        """Have one step of showing a buffer wait: "locate", "create" or "import"."""
        self.holds_locate, self.holds_create = step == "locate", step == "create"
        self.host.imports = "hold" if step == "import" else "accept"

    def answer(self, step: str) -> None:
        """Answer what such a step waits for."""
        if step == "locate":
            self.answer_locate()
        elif step == "create":
            self.answer_create()
        else:
            self.host.answer()
        self.flush()

    def answer_read(self, *, whole: bool = True) -> None:
        """Have the file that is being read arrive, or not."""
        command = self.reads.pop(0)
        if whole:
            self.shell.others.add(command.handle)
        self.run(self.relay.receive(FileRead(1, command.handle, whole)))

    def _read_later(self) -> list[Command]:
        command = self.reads.pop(0)
        self.shell.others.add(command.handle)
        return self.relay.receive(FileRead(1, command.handle, whole=True))

    def _locate_later(self) -> list[Command]:
        return self.relay.receive(self._located(self.locates.pop(0)))

    def _located(self, locate: Locate) -> Located:
        """Answer as the agent does."""
        status = LocateStatus.OUT_OF_RANGE
        extents: tuple[Extent, ...] = ()
        if self.shell.has(locate):
            status, extents = LocateStatus.OK, self.shell.extents(locate)
        return Located(1, locate.location_id, status, 0, False, extents)

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

    def plug(self, interface: str, version: int = 1) -> Thing:
        """Have the compositor get another global, and the app bind it."""
        name = max(self.host.globals) + 1
        self.host.globals[name] = (interface, version)
        registry = self.host_thing("wl_registry")
        self.host.event(registry, "global", name, interface.encode(), version)
        self.flush()
        return self.app.bind(interface)

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
        memory = integer(buffer.facts["memory"])
        self.shell.write(memory, offset, bytes([byte]) * (stride * height))

    @property
    def mode(self) -> str:
        return self.relay.surfaces()[0].mode

    @property
    def reason(self) -> str:
        return self.relay.surfaces()[0].reason


def all_turns(relay: Relay | Twins, frame: Data) -> list[Command]:
    """Have the relay take a frame, and handle all that is in it."""
    commands = relay.receive(frame)
    while relay.requests_wait(frame.client_id):
        commands += relay.receive(RequestsTurn(frame.client_id))
    return commands


def geometry(buffer: Thing) -> tuple[int, int, int, int, int]:
    """A buffer's (offset, width, height, stride, format)."""
    facts = buffer.facts["geometry"]
    assert isinstance(facts, tuple)
    return facts
