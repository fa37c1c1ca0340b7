"""Plays a recording to a `Relay`, and to nothing else: no socket, no fd, no page.

A recording has one app and one compositor that spoke directly to each other.  With a relay between
them each has ids of its own, so `prepare` plays it once, slowly: it looks up which id is
which, answers what the relay asks of agent, shell and compositor, and writes down every input.
The core does no I/O, so the same inputs lead another relay to the same commands: `play` gives
them to one as fast as it can, and that is what is timed and counted.

What is made up: the pages of files (runs of `RUN` bytes, no two neighbours, as in a guest that has
run for a while), that everything can be made, and what the compositor says of objects that only
the relay knows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from bench.conversation import Conversation, Said
from bench.recording import Batch, Passed, PassedFd, Recording, Speaker
from wlproxy.memory.guest_memory import GIB, GuestMemory, RamRegion
from wlproxy.protocol.channel.frames import (
    MAX_EXTENTS_PER_FRAME,
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
    OpenStream,
    Release,
    Released,
)
from wlproxy.protocol.wayland.interface import ArgKind
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import FIRST_SERVER_ID
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import (
    AdoptStream,
    CloseClient,
    CloseHandle,
    Command,
    CopyRows,
    CreateCopyBuffer,
    CreateFile,
    CreateStream,
    CreateUdmabuf,
    Direction,
    SendFile,
    SendFrame,
    SendToCompositor,
    Trace,
    TraceLevel,
)
from wlproxy.relay.handles import Handle, shell_handles
from wlproxy.relay.inputs import (
    BufferCreated,
    ClockSample,
    EventsTurn,
    FdKind,
    FromCompositor,
    Input,
    ReceivedFd,
    RequestsTurn,
)
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.clock import SETTLED
from wlproxy.relay.wire.context import RelayConfig

RAM: Final = 64 * GIB
RAM_START: Final = 4 * GIB
RUN: Final = 64 * 1024
PAGE: Final = 4096
CLIENT: Final = 1
CLOCK_AHEAD: Final = 5_000_000_000
"""By how much the guest's clock is ahead, nanoseconds: that of every VM is another."""

MODE_A: Final = CompositorCapabilities(shm_udmabuf=True, dmabuf_reason="not replayed")
"""What a compositor can that draws without a GPU, as those of the recordings did."""

_Snapshot = Mapping[str, Mapping[str, Sequence[Mapping[str, int]]]]
"""The part of a relay's snapshot that is looked at."""

Counts = Counter[tuple[str, str]]


class ReplayError(AssertionError):
    """The relay did what it must not, or the replay does not follow it."""


@dataclass(slots=True)
class Replay:
    """What a recording is to a relay.

    Attributes:
        name: of the app.
        inputs: everything that the relay is told.
        messages: how many Wayland messages are in them, both ways.
        recorded: how many of each there are in the recording, both ways.
        passed: how many of each came out at the other end.
        handles: how many were open as the app left: closing them ends with the client.
        owned: of how many the relay says so.
        pins: how many locations were pinned then.
        buffers: how many the app had not destroyed by then.
        warnings: what the relay logged as a warning, or worse.
    """

    name: str
    inputs: list[Input] = field(default_factory=list)
    messages: int = 0
    recorded: Counts = field(default_factory=Counter)
    passed: Counts = field(default_factory=Counter)
    handles: int = 0
    owned: int = 0
    pins: int = 0
    buffers: int = 0
    warnings: list[str] = field(default_factory=list)


def new_relay() -> Relay:
    """A relay that knows nobody."""
    memory = GuestMemory([RamRegion(RAM_START, RAM, 0, 0)])
    return Relay(RelayConfig(), memory, MODE_A)


def play(inputs: Sequence[Input]) -> Relay:
    """Tell a new relay everything; return it."""
    relay = new_relay()
    receive = relay.receive
    for given in inputs:
        receive(given)
    return relay


def prepare(recording: Recording) -> Replay:
    """Find out what to tell a relay.

    Raises:
        ReplayError: it does what it must not.
    """
    player = _Player(recording.name)
    for batch in recording.batches:
        player.hear(batch)
    player.leave()
    return player.replay


class _Shell:
    """Makes up what agent and shell would do, and watches over what they hold."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._streams = iter(range(2, 1 << 31, 2))
        self._handles = shell_handles()
        self._next_address = RAM_START
        self.open: set[Handle] = set()
        self.pinned: set[int] = set()

    def attachment(self, fd: PassedFd) -> Attachment:
        """Describe an fd of the app's as the agent does."""
        if fd.kind is Passed.FILE:
            memory = len(self._sizes) + 1
            self._sizes[memory] = fd.size
            flags = AttachmentFlags.MEMORY_WRITABLE
            return Attachment(AttachmentKind.MEMORY, flags, memory, fd.size)
        if fd.kind is Passed.OTHER:
            raise ReplayError("the app passed an fd that is neither file nor pipe")
        flags = AttachmentFlags.HOLDER_READS
        if fd.kind is Passed.WRITE:
            flags = AttachmentFlags.HOLDER_WRITES
        return Attachment(AttachmentKind.STREAM, flags, next(self._streams), 0)

    def received(self, fd: PassedFd) -> ReceivedFd:
        """Describe an fd of the compositor's as the shell does."""
        handle = next(self._handles)
        self.open.add(handle)
        if fd.kind is Passed.FILE:
            return ReceivedFd(handle, FdKind.FILE, fd.size)
        if fd.kind is Passed.OTHER:
            return ReceivedFd(handle, FdKind.OTHER)
        direction = Direction.TO_GUEST
        if fd.kind is Passed.WRITE:
            direction = Direction.TO_COMPOSITOR
        return ReceivedFd(handle, FdKind.STREAM, direction=direction)

    def locate(self, asked: Locate) -> list[Located]:
        """Make up where its pages are, in as many frames as that takes."""
        first = asked.offset // PAGE * PAGE
        length = -(-(asked.offset + asked.length) // PAGE) * PAGE - first
        self.pinned.add(asked.location_id)
        extents = []
        while length:
            part = min(length, RUN)
            extents.append(Extent(self._next_address, part))
            self._next_address += 2 * RUN
            length -= part
        if self._next_address > RAM_START + RAM:
            raise ReplayError("the recording shows more memory than there is")
        pieces = [
            extents[start : start + MAX_EXTENTS_PER_FRAME]
            for start in range(0, len(extents), MAX_EXTENTS_PER_FRAME)
        ]
        ok, location = LocateStatus.OK, asked.location_id
        return [
            Located(CLIENT, location, ok, 0, piece is not pieces[-1], piece)
            for piece in pieces
        ]

    def close(self, handle: Handle) -> None:
        """Close what a handle names.

        Raises:
            ReplayError: it names nothing.
        """
        if handle not in self.open:
            raise ReplayError(f"handle {handle} is not open")
        self.open.remove(handle)


class _Player:
    """An app, a compositor, and a relay that stands between them."""

    def __init__(self, name: str) -> None:
        self.replay = Replay(name)
        self._relay = new_relay()
        self._shell = _Shell()
        self._recorded = Conversation()
        self._at_compositor = Conversation()
        self._at_app = Conversation()
        self._host_ids = {1: 1}
        """An object's id, as the app gave it, to the compositor's."""
        self._destroyed: set[int] = set()
        """Host ids whose destructor the compositor has been sent, still without delete_id."""
        self._answers = b""
        """What the compositor is yet to say by itself."""
        self._closed = False
        for _ in range(SETTLED):
            self._tell(ClockSample(1_000, CLOCK_AHEAD, 2_000))
        self._tell(ClientOpened(CLIENT, 1, 1, 1, name))

    # ------------------------------------------------------------ what was recorded

    def hear(self, batch: Batch) -> None:
        """Have one of the two say what it said."""
        said = list(self._recorded.hear(batch.speaker, batch.data))
        self.replay.recorded.update(each.title for each in said)
        if batch.speaker is Speaker.APP:
            self._requests(said, batch.fds)
        else:
            self._events(said, batch.fds)

    def leave(self) -> None:
        """Have the app go; look at what is left.

        Raises:
            ReplayError: the client was not closed for that.
        """
        replay, recorded = self.replay, self.replay.recorded
        replay.handles, replay.pins = len(self._shell.open), len(self._shell.pinned)
        replay.owned = self._relay.holdings().clients[CLIENT].handles
        created = recorded["wl_shm_pool", "create_buffer"]
        replay.buffers = created - recorded["wl_buffer", "destroy"]
        self._tell(ClientClosed(CLIENT, CloseReason.NORMAL, ""))
        if not self._closed:
            raise ReplayError("the client was not closed")

    def _requests(self, said: list[Said], fds: Sequence[PassedFd]) -> None:
        guest_ids = self._guest_ids() if any(map(_names_server_ids, said)) else {}
        data = b"".join(_translated(each, guest_ids).encode() for each in said)
        attachments = tuple(self._shell.attachment(fd) for fd in fds)
        self._tell(Data(CLIENT, data, attachments))

    def _events(self, said: list[Said], fds: Sequence[PassedFd]) -> None:
        data = b""
        for each in said:
            if each.title == ("wl_display", "delete_id"):
                data += self._delete_id(each)
            elif each.sender in self._host_ids or each.sender >= FIRST_SERVER_ID:
                data += _translated(each, self._host_ids).encode()
            else:
                raise ReplayError(f"{each.spec}: the compositor knows no {each.sender}")
        received = tuple(self._shell.received(fd) for fd in fds)
        if data or received:
            self._tell(FromCompositor(CLIENT, data, received))

    def _delete_id(self, said: Said) -> bytes:
        """Free an id: now, or once the relay has destroyed what had it."""
        guest_id = said.args[0]
        assert isinstance(guest_id, int)
        host_id = self._host_ids.pop(guest_id, None)
        if host_id is None:
            return b""  # the relay alone served it
        requests = self._at_compositor.interface(host_id).requests
        if host_id not in self._destroyed and any(
            each.is_destructor for each in requests
        ):
            return b""
        return self._deleted(host_id)

    def _deleted(self, host_id: int) -> bytes:
        self._destroyed.discard(host_id)
        spec = INTERFACES["wl_display"].event("delete_id")
        return encode_message(1, spec, (host_id,))

    # ------------------------------------------------------------ what the relay does

    def _tell(self, given: Input) -> None:
        """Tell it something, and all that comes of it."""
        waiting = [given]
        relay = self._relay
        while waiting and not self._closed:
            now = waiting.pop(0)
            self.replay.inputs.append(now)
            self.replay.messages += self._messages_in(now)
            for command in relay.receive(now):
                waiting += self._carry_out(command)
            if relay.requests_wait(CLIENT):
                waiting.append(RequestsTurn(CLIENT))
            elif relay.events_wait(CLIENT):
                waiting.append(EventsTurn(CLIENT))
            elif self._answers and not waiting:
                waiting.append(FromCompositor(CLIENT, self._answers))
                self._answers = b""

    def _messages_in(self, given: Input) -> int:
        match given:
            case Data(data=data):
                return len(list(self._at_app.hear(Speaker.APP, data)))
            case FromCompositor(data=data):
                heard = self._at_compositor.hear(Speaker.COMPOSITOR, data)
                return len(list(heard))
            case _:
                return 0

    def _carry_out(self, command: Command) -> Sequence[Input]:
        shell = self._shell
        match command:
            case SendToCompositor():
                self._heard_by_compositor(command)
            case SendFrame():
                return self._heard_by_agent(command)
            case CreateUdmabuf() | CreateCopyBuffer():
                shell.open.add(command.handle)
                return [BufferCreated(CLIENT, command.handle)]
            case CreateStream() | CreateFile():
                shell.open.add(command.handle)
            case AdoptStream() | SendFile() | CloseHandle():
                shell.close(command.handle)
            case CopyRows():
                raise ReplayError("it copies, in mode A")
            case CloseClient():
                self._end(command)
            case Trace(level=level, message=message) if level >= TraceLevel.WARNING:
                self.replay.warnings.append(message)
        return []

    def _heard_by_agent(self, command: SendFrame) -> Sequence[Input]:
        match command.frame:
            case Data(data=data):
                said = list(self._at_app.hear(Speaker.COMPOSITOR, data))
                self.replay.passed.update(each.title for each in said)
            case Locate() as asked:
                return self._shell.locate(asked)
            case Release(location_id=location):
                self._shell.pinned.remove(location)
                return [Released(CLIENT, location)]
            case CloseMemory() | OpenStream():
                pass
            case frame:
                raise ReplayError(f"the agent is sent {type(frame).__name__}")
        return []

    def _heard_by_compositor(self, command: SendToCompositor) -> None:
        for handle in command.handles:
            if handle not in self._shell.open:
                raise ReplayError(f"handle {handle} is sent, and not open")
        said = list(self._at_compositor.hear(Speaker.APP, command.data))
        if any(each.created for each in said):
            self._learn({each.created for each in said if each.created})
        for each in said:
            self.replay.passed[each.title] += 1
            if each.title == ("wl_display", "sync"):
                self._answer_own_sync(each.created)
            if each.spec.is_destructor and each.sender < FIRST_SERVER_ID:
                self._destroyed.add(each.sender)
                if each.sender not in self._host_ids.values():
                    self._answers += self._deleted(each.sender)

    def _answer_own_sync(self, callback: int) -> None:
        if callback not in self._host_ids.values():
            done = INTERFACES["wl_callback"].event("done")
            self._answers += encode_message(callback, done, (0,))
            self._answers += self._deleted(callback)

    def _end(self, command: CloseClient) -> None:
        """Close the client, as the relay says.

        Raises:
            ReplayError: the relay ends the app by itself.
        """
        self._closed = True
        if command.reason is not CloseReason.NORMAL:
            raise ReplayError(f"it ends the app: {command.message}")

    # ------------------------------------------------------------ which id is which

    def _learn(self, host_ids: set[int]) -> None:
        for guest_id, host_id in self._pairs():
            if host_id in host_ids and 0 < guest_id < FIRST_SERVER_ID:
                self._host_ids[guest_id] = host_id

    def _guest_ids(self) -> dict[int, int]:
        """Say which id the app has for what the compositor created, by the recorded id."""
        return {
            host_id: guest_id
            for guest_id, host_id in self._pairs()
            if guest_id and host_id >= FIRST_SERVER_ID
        }

    def _pairs(self) -> list[tuple[int, int]]:
        """All objects: their guest ids and host ids."""
        snapshot = cast("_Snapshot", self._relay.snapshot())
        objects = snapshot["objects"]["ProtocolObject"]
        return [(each["guest_id"], each["host_id"]) for each in objects]


def _names_server_ids(said: Said) -> bool:
    return any(each >= FIRST_SERVER_ID for each in _ids(said))


def _ids(said: Said) -> list[int]:
    named = [
        value
        for arg, value in zip(said.spec.args, said.args, strict=True)
        if arg.kind is ArgKind.OBJECT and isinstance(value, int)
    ]
    return [said.sender, *named]


def _translated(said: Said, ids: dict[int, int]) -> Said:
    """A message with other ids of objects there are; those that are not in `ids` stay."""
    args = [
        ids.get(value, value)
        if arg.kind is ArgKind.OBJECT and isinstance(value, int)
        else value
        for arg, value in zip(said.spec.args, said.args, strict=True)
    ]
    return Said(said.speaker, ids.get(said.sender, said.sender), said.spec, args)
