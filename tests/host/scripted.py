"""Peers that do what a test says: a core, a guest agent, guest RAM."""

import fcntl
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from wlproxy.host.link import Link
from wlproxy.host.pages import Views
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.qemu.ram_pages import RamPages
from wlproxy.host.report.metrics import Metrics
from wlproxy.memory.guest_memory import GuestMemory, RamItem, RamRegion
from wlproxy.protocol.channel.frames import (
    CloseReason,
    Feature,
    Frame,
    Hello,
    HelloAck,
    LocateStatus,
    Ping,
    Pong,
    ProveRam,
    RamProof,
    Side,
)
from wlproxy.protocol.channel.session import Session
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import CloseClient, Command
from wlproxy.relay.inputs import (
    BufferCreated,
    BufferFailed,
    ClientFailed,
    ClockSample,
    CompositorAway,
    CompositorClosed,
    CompositorFound,
    Copied,
    EventsTurn,
    FromCompositor,
    Input,
    RequestsTurn,
    SessionEnded,
)
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

RAM_SIZE = 1 << 20
WINDOW = 64 * 1024
TOKEN_GPA = 8 * 4096


async def see_hang_up(compositor: FdStream) -> None:
    """Take what a compositor gets of a client that leaves, and let go of it."""
    left, fds = await compositor.receive()
    assert left == b"\0"
    assert (await compositor.receive())[0] == b""
    for fd in fds:
        fd.close()


def guest_ram(size: int = RAM_SIZE) -> GuestRam:
    """RAM as QEMU's is, in a memfd of the test."""
    fd = OwnedFd(os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    os.ftruncate(fd.fileno(), size)
    fcntl.fcntl(fd.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    memory = GuestMemory([RamRegion(gpa=0, length=size, file=0, offset=0)])
    return GuestRam(os.getpid(), {0: fd}, memory, "of the test")


class Bytes(Views):
    """Bytes of the test, in place of RAM files."""

    slow = False

    def __init__(self, *files: bytes) -> None:
        self._files = {index: memoryview(each) for index, each in enumerate(files)}

    def view(
        self, items: Sequence[RamItem]
    ) -> tuple[Sequence[RamItem], Mapping[int, memoryview]]:
        return items, self._files

    def close(self) -> None:
        self._files.clear()


def ram_pages(ram: GuestRam | None = None, tap: Path | None = None) -> RamPages:
    """Pages of such RAM, and no udmabuf."""
    return RamPages(ram or guest_ram(), lambda: None, tap)


class ScriptedRelay(Relay):
    """A core that notes every input and answers by the test's function.

    Attributes:
        clients: those it knows.
        turns: how many more turns the requests of a client take.
        event_turns: the same of the events for a client.
    """

    def __init__(self, respond: Callable[[tuple[object, ...]], list[Command]]) -> None:
        memory = GuestMemory([RamRegion(gpa=0, length=RAM_SIZE, file=0, offset=0)])
        super().__init__(
            RelayConfig(), memory, CompositorCapabilities(shm_udmabuf=False)
        )
        self.inputs: list[tuple[object, ...]] = []
        self.clients: set[int] = set()
        self.turns: Counter[int] = Counter()
        self.event_turns: Counter[int] = Counter()
        self._respond = respond

    def _note(self, *what: object) -> list[Command]:
        self.inputs.append(what)
        return self._respond(what)

    def receive(  # noqa: C901 - one flat table
        self, given: Input
    ) -> list[Command]:
        match given:
            case RequestsTurn(client_id=client_id):
                self.turns[client_id] -= 1
                return self._note("turn", client_id)
            case EventsTurn(client_id=client_id):
                self.event_turns[client_id] -= 1
                return self._note("event turn", client_id)
            case FromCompositor(client_id, data, fds):
                return self._note("event", client_id, data, tuple(fds))
            case CompositorClosed(client_id, message):
                gone = CloseReason.COMPOSITOR_GONE
                said = self._note("closed", client_id, message)
                return [*said, CloseClient(client_id, gone, message)]
            case ClientFailed(client_id, reason, message):
                said = self._note("client failed", client_id, reason, message)
                if client_id not in self.clients:
                    return said
                self.clients.remove(client_id)
                return [*said, CloseClient(client_id, reason, message)]
            case BufferCreated(client_id, handle):
                return self._note("created", client_id, handle)
            case BufferFailed(client_id, handle, error, message):
                return self._note("failed", client_id, handle, error, message)
            case Copied(client_id, handle, amount):
                self.inputs.append(("copied", client_id, handle, amount))
                return []
            case CompositorAway():
                self.inputs.append(("away",))
                return []
            case CompositorFound(capabilities):
                return self._note("capabilities", capabilities)
            case ClockSample():
                self.clock.measure(given)
                return []
            case SessionEnded(reason, message):
                said = self._note("end", reason, message)
                ends = [CloseClient(each, reason, message) for each in self.clients]
                return [*said, *ends]
            case _:
                return self._note("frame", given)

    def requests_wait(self, client_id: int) -> bool:
        return self.turns[client_id] > 0

    def events_wait(self, client_id: int) -> bool:
        return self.event_turns[client_id] > 0


class Agent:
    """The guest's end of a channel, moved by the test frame by frame."""

    def __init__(self, stream: FdStream, ram: GuestRam | None = None) -> None:
        self.stream = stream
        self.ram = ram
        self.session = Session(Side.GUEST)
        self.features = Feature.LOCATE_MEMFD
        self.main_device = 0
        self.answers_pings = True
        """By itself, whenever it receives; the test does not see them."""
        self.clock: Callable[[], int] = time.monotonic_ns
        self.page_size = 4096
        self._queue: list[Frame] = []

    async def greet(self, window: int = WINDOW) -> Hello:
        """Take a Hello and accept it."""
        hello = await self.receive()
        assert isinstance(hello, Hello)
        ack = HelloAck(
            hello.nonce,
            (1, 0),
            self.features,
            self.page_size,
            window,
            window,
            self.main_device,
            "scripted agent",
        )
        await self.stream.send(self.session.accept(ack))
        return hello

    async def prove(self) -> None:
        """Answer ProveRam as a guest with this RAM does."""
        asked = await self.receive()
        assert isinstance(asked, ProveRam)
        assert self.ram is not None
        os.pwrite(self.ram.files[0].fileno(), asked.token, TOKEN_GPA)
        await self.send(RamProof(LocateStatus.OK, 0, TOKEN_GPA))

    async def send(self, *frames: Frame) -> None:
        await self.stream.send(b"".join(map(self.session.encode, frames)))

    async def receive(self) -> Frame:
        """Wait for the next frame."""
        while True:
            frame = self.session.next_frame()
            if isinstance(frame, Ping) and self.answers_pings:
                with suppress(trio.BrokenResourceError):  # it may have left since
                    await self.send(Pong(frame.timestamp, self.clock()))
            elif frame is not None:
                return frame
            else:
                await self._feed()

    async def _feed(self) -> None:
        data, _ = await self.stream.receive()
        if not data:
            raise trio.EndOfChannel
        self.session.feed(data)

    async def receive_until(self, kind: type[Frame]) -> list[Frame]:
        """Collect frames up to the first of a kind."""
        frames = [await self.receive()]
        while not isinstance(frames[-1], kind):
            frames.append(await self.receive())
        return frames


def link_pair() -> tuple[Link, FdStream]:
    """A link, and the stream that its agent is to have."""
    ours, theirs = socket.socketpair()
    return Link(FdStream(ours), Metrics()), FdStream(theirs)
