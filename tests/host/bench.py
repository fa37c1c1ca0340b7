"""A running session between scripted peers, for tests."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from tests.host.scripted import (
    RAM_SIZE,
    Agent,
    ScriptedRelay,
    guest_ram,
    link_pair,
    ram_pages,
)
from wlproxy.host.errors import NoCompositorError
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.session import (
    Session,
)
from wlproxy.memory.guest_memory import ExtentError
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseReason,
    Data,
    Located,
    LocateStatus,
)
from wlproxy.relay.commands import (
    CloseClient,
    CloseHandle,
    Command,
    CreateStream,
    Direction,
    OpenCompositor,
    SendFrame,
    SendToCompositor,
)
from wlproxy.relay.handles import Handle
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd


class Bench:
    """A running session and both of its peers."""

    def __init__(self, ram_size: int = RAM_SIZE) -> None:
        self.commands: dict[bytes, list[Command]] = {}
        self.relay = ScriptedRelay(self.respond)
        self.link, theirs = link_pair()
        self.agent = Agent(theirs)
        self.metrics = Metrics()
        self.ram = guest_ram(ram_size)
        self.compositors: list[FdStream] = []
        self.refuse = False
        self.slow = trio.Event()
        self.when_over: Callable[[], None] = lambda: None
        self.connect: Callable[[], Awaitable[FdStream]] = self._connect
        """How the session reaches the compositor."""
        self.session: Session

    def respond(self, what: tuple[object, ...]) -> list[Command]:
        """A client that opens is connected; data says which commands it wants."""
        match what:
            case ("frame", ClientOpened(client_id=client_id)):
                self.relay.clients.add(client_id)
                return [OpenCompositor(client_id, f"app({client_id})")]
            case ("frame", ClientClosed(client_id=client_id)):
                self.relay.clients.discard(client_id)
                return [CloseClient(client_id, CloseReason.NORMAL, "", silent=True)]
            case ("frame", Data(client_id=client_id, data=data)):
                wanted = self.commands.get(data)
                return [SendToCompositor(client_id, data)] if wanted is None else wanted
            case ("frame", Located(status=LocateStatus.OK)):
                raise ExtentError("outside RAM")
            case ("event", int(client_id), bytes(data), _):
                wanted = self.commands.get(data)
                return [SendFrame(Data(client_id, data))] if wanted is None else wanted
            case ("failed", _, 4, _, _):
                self.slow.set()
            case ("closed", int(client_id), _):
                self.relay.clients.discard(client_id)
            case _:
                pass
        return []

    def start(self, nursery: trio.Nursery) -> None:
        self.session = Session(
            link=self.link,
            relay=self.relay,
            pages=ram_pages(self.ram),
            metrics=self.metrics,
            log=VmLog("test"),
            connect=lambda: self.connect(),  # noqa: PLW0108 - a test may change it
            nursery=nursery,
        )
        nursery.start_soon(self.run)

    async def run(self) -> None:
        """As the server does."""
        try:
            await self.session.run([])
            self.when_over()
            self.session.end(CloseReason.NORMAL, "over")
            await self.session.wait_let_go()
            await self.session.say_goodbye(CloseReason.NORMAL, "over")
        finally:
            self.session.close()

    async def _connect(self) -> FdStream:
        await trio.lowlevel.checkpoint()
        if self.refuse:
            raise NoCompositorError("no compositor there")
        ours, theirs = socket.socketpair()
        self.compositors.append(FdStream(theirs))
        return FdStream(ours)

    async def open(self, client_id: int = 1) -> FdStream:
        """Open a client; return the compositor's end of its connection."""
        before = len(self.compositors)
        await self.agent.send(ClientOpened(client_id, 7, 0, 0, "app"))
        await trio.testing.wait_all_tasks_blocked()
        return self.compositors[before]

    async def copied(self, amount: int) -> None:
        """Wait until so many bytes were copied."""
        with trio.fail_after(10):
            while self.metrics.pixel_bytes_copied < amount:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)

    async def data(
        self,
        data: bytes,
        *commands: Command,
        client_id: int = 1,
        attachments: tuple[Attachment, ...] = (),
    ) -> None:
        """Have the client send something that makes the core say these commands."""
        self.commands[data] = list(commands)
        await self.agent.send(Data(client_id, data, attachments))
        await trio.testing.wait_all_tasks_blocked()

    async def pipe(self, stream_id: int, direction: Direction) -> OwnedFd:
        """Have the client pass an end of a pipe; return what the compositor gets."""
        reads = direction is Direction.TO_COMPOSITOR
        flags = AttachmentFlags.HOLDER_READS if reads else AttachmentFlags.HOLDER_WRITES
        handle = Handle(2 * stream_id)
        await self.data(
            b"receive",
            CreateStream(1, stream_id, handle, direction),
            SendToCompositor(1, b"receive", (handle,)),
            CloseHandle(1, handle),
            attachments=(Attachment(AttachmentKind.STREAM, flags, stream_id, 0),),
        )
        _, (end,) = await self.compositors[0].receive()
        return end


@asynccontextmanager
async def running(
    window: int = 64 * 1024, ram_size: int = RAM_SIZE
) -> AsyncIterator[Bench]:
    bench = Bench(ram_size)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.agent.greet, window)
            await bench.link.establish(9)
        async with trio.open_nursery() as nursery:
            bench.start(nursery)
            yield bench
            bench.session.lost(None)
            for stream in bench.compositors:
                await stream.aclose()
    finally:
        with trio.CancelScope(shield=True):
            for stream in bench.compositors:
                await stream.aclose()
            await bench.link.aclose()
            await bench.agent.stream.aclose()
            bench.ram.close()
