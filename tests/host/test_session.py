"""One session, with a scripted core, a scripted agent and a plain socket as compositor."""

import errno
import os
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.bench import Bench, running
from tests.host.scripted import (
    see_hang_up,
)
from wlproxy.host.client.client import (
    CANNOT,
    COMPOSITOR_CLOSED,
    COMPOSITOR_UNREACHABLE,
    LET_GO_SECONDS,
)
from wlproxy.host.client.locates import MAX_TURNS
from wlproxy.host.conductor import MAX_UNREAD
from wlproxy.host.link import ChannelGoneError, Goodbyed
from wlproxy.host.session import (
    FRAMES_PER_STEP,
    MAX_EARLY,
    PING_INTERVAL,
)
from wlproxy.memory.guest_memory import ExtentError, RamItem
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseReason,
    Credit,
    Data,
    Extent,
    FileData,
    Frame,
    Goodbye,
    Locate,
    Located,
    LocateStatus,
    Ping,
    Pong,
    RamProof,
    Release,
    Released,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import CLIENT_WINDOW, STREAM_WINDOW
from wlproxy.protocol.errors import ChannelError
from wlproxy.relay.commands import (
    AdoptStream,
    CloseClient,
    CloseHandle,
    Command,
    CopyRows,
    CreateCopyBuffer,
    CreateStream,
    CreateUdmabuf,
    Direction,
    GrantCredit,
    SendContents,
    SendFile,
    SendFrame,
    SendToCompositor,
    StartTimer,
    Trace,
    TraceLevel,
)
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, ReceivedFd, TimerEnded
from wlproxy.relay.wire.clock import SETTLED
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

DAY = 86400 * 10**9


def memfd(contents: bytes) -> OwnedFd:
    fd = OwnedFd(os.memfd_create("test", os.MFD_CLOEXEC))
    os.write(fd.fileno(), contents)
    return fd


async def test_requests_and_events_and_credit() -> None:
    async with running() as bench:
        compositor = await bench.open()
        await bench.agent.send(Data(1, b"request"))
        assert (await compositor.receive())[0] == b"request"
        await compositor.send(b"event")
        assert await bench.agent.receive() == Data(1, b"event")


async def test_an_agent_that_asks_and_never_reads_does_not_fill_our_memory() -> None:
    async with running() as bench:
        pings = [Ping(number) for number in range(1024)]
        with trio.fail_after(30), trio.CancelScope() as scope:
            bench.when_over = scope.cancel
            while True:
                await bench.agent.send(*pings)
        assert isinstance(bench.session.cause, ChannelError)
        assert "does not read" in str(bench.session.cause)


async def test_a_file_to_be_written_is_no_file_to_be_read(tmp_path: Path) -> None:
    async with running() as bench:
        compositor = await bench.open()
        pasted = OwnedFd(os.open(tmp_path / "pasted", os.O_WRONLY | os.O_CREAT))
        with pasted:
            await compositor.send(b"paste", [pasted])
        await trio.testing.wait_all_tasks_blocked()
        [(_, _, _, fds)] = [each for each in bench.relay.inputs if each[0] == "event"]
        assert isinstance(fds, tuple)
        received: ReceivedFd = fds[0]
        assert received.kind is FdKind.STREAM
        assert received.direction is Direction.TO_COMPOSITOR
        await bench.data(b"x", AdoptStream(1, 3, received.handle, received.direction))
        writes = AttachmentFlags.HOLDER_WRITES
        event = Data(1, b"event", (Attachment(AttachmentKind.STREAM, writes, 3, 0),))
        await bench.data(b"y", SendFrame(event))
        assert (await bench.agent.receive_until(Data))[-1] == Data(1, b"paste")
        assert await bench.agent.receive() == event
        await bench.agent.send(
            StreamData(1, 3, b"text"), StreamClosed(1, 3, CloseReason.NORMAL)
        )
        with trio.fail_after(10):
            while (tmp_path / "pasted").read_bytes() != b"text":  # noqa: ASYNC110
                await trio.sleep(0.001)  # a thread writes it


def pipes(*stream_ids: int) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, number, 0)
        for number in stream_ids
    )


async def test_a_pipe_outlives_its_client() -> None:
    async with running() as bench:
        compositor = await bench.open()
        end = await bench.pipe(2, Direction.TO_GUEST)
        await bench.agent.send(ClientClosed(1, CloseReason.NORMAL, ""))
        await see_hang_up(compositor)
        assert await bench.agent.receive() == ClientReleased(1)
        with end:
            os.write(end.fileno(), b"text")
            assert await bench.agent.receive() == StreamData(1, 2, b"text")
        assert await bench.agent.receive() == StreamClosed(1, 2, CloseReason.NORMAL)


async def test_pipes_end_with_the_session() -> None:
    async with running() as bench:
        compositor = await bench.open()
        end = await bench.pipe(2, Direction.TO_GUEST)
        bench.session.lost(None)
        await see_hang_up(compositor)
        await bench.agent.receive_until(Goodbye)
        with end, pytest.raises(BrokenPipeError):
            os.write(end.fileno(), b"text")


async def test_pipes_of_messages_that_never_came_are_refused() -> None:
    async with running() as bench:
        compositor = await bench.open()
        bench.commands[b"half a message"] = []
        await bench.agent.send(Data(1, b"half a message", pipes(2, 4)))
        await bench.data(b"end it", CloseClient(1, CloseReason.PROTOCOL_ERROR, ""))
        await bench.agent.send(Data(1, b"was under way", pipes(6)))
        await see_hang_up(compositor)
        frames = await bench.agent.receive_until(ClientReleased)
        assert sorted(
            frame.stream_id for frame in frames if isinstance(frame, StreamClosed)
        ) == [2, 4, 6]
        await bench.agent.send(Data(1, b"still", pipes(8)), Ping(1))
        refused = StreamClosed(1, 8, CloseReason.NORMAL)
        assert await bench.agent.receive() == refused
        assert bench.session.cause is None


async def test_a_pipe_that_goes_the_wrong_way_is_of_no_use() -> None:
    async with running() as bench:
        compositor = await bench.open()
        await bench.data(
            b"receive",
            CreateStream(1, 2, Handle(2), Direction.TO_GUEST, usable=False),
            SendToCompositor(1, b"receive", (Handle(2),)),
            CloseHandle(1, Handle(2)),
            attachments=pipes(2),
        )
        _, (end,) = await compositor.receive()
        with end, pytest.raises(BrokenPipeError):
            os.write(end.fileno(), b"text")
        assert await bench.agent.receive() == StreamClosed(1, 2, CloseReason.FAILED)


async def test_credit_returns_when_the_compositor_has_taken_the_data() -> None:
    async with running() as bench:
        compositor = await bench.open()
        half = CLIENT_WINDOW // 2
        big = bytes(1 << 20)
        await bench.agent.send(*(Data(1, bytes(32768)) for _ in range(half // 32768)))
        await bench.data(
            b"x", SendToCompositor(1, big), GrantCredit(1, half), GrantCredit(1, 1)
        )
        await bench.agent.send(Ping(3))
        assert await bench.agent.receive() == Pong(3)  # and no credit yet
        received = 0
        while received < half + len(big):
            received += len((await compositor.receive())[0])
        assert await bench.agent.receive() == Credit(1, 0, half)


async def test_a_stalled_compositor_stalls_its_client_alone() -> None:
    async with running() as bench:
        stalled, other = await bench.open(1), await bench.open(2)
        await bench.data(b"big", SendToCompositor(1, bytes(4 << 20)))
        for _ in range(3):
            await stalled.send(b"event of the stalled one")
            await bench.agent.send(Data(2, b"request"))
            assert (await other.receive())[0] == b"request"
        await trio.testing.wait_all_tasks_blocked()
        # Its events wait as well, so that nothing grows.
        assert sum(1 for what in bench.relay.inputs if what[0] == "event") <= 1


async def test_a_stalled_app_stalls_its_client_alone() -> None:
    async with running(window=16384) as bench, trio.open_nursery() as nursery:
        stalled, other = await bench.open(1), await bench.open(2)
        nursery.start_soon(stalled.send, bytes(512 * 1024))
        for _ in range(8):
            await other.send(b"event")
            await trio.testing.wait_all_tasks_blocked()
        events = [what for what in bench.relay.inputs if what[0] == "event"]
        assert sum(1 for what in events if what[1] == 1) == 1
        assert sum(1 for what in events if what[1] == 2) == 8
        nursery.cancel_scope.cancel()


async def test_an_app_that_makes_us_answer_and_does_not_read_is_closed() -> None:
    async with running(window=16384) as bench:
        hungry, other = await bench.open(1), await bench.open(2)
        bench.commands[b"feedback"] = [
            SendContents(1, 1, bytes(1000)),
            SendFrame(Data(1, bytes(100_000))),
        ]
        for _ in range(MAX_UNREAD // 100_000 + 1):
            await bench.agent.send(Data(1, b"feedback"))
        await trio.testing.wait_all_tasks_blocked()

        message = "it does not read its events"
        limit = CloseReason.LIMIT_EXCEEDED
        assert ("client failed", 1, limit, message) in bench.relay.inputs
        await hungry.aclose()
        await bench.agent.send(Data(2, b"request"))
        assert (await other.receive())[0] == b"request"


async def test_a_file_of_the_cores_own_reaches_the_guest() -> None:
    async with running() as bench:
        await bench.open()
        table = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 1, 5)
        event = Data(1, b"format_table", (table,))
        bench.commands[b"feedback"] = [SendContents(1, 1, b"table"), SendFrame(event)]

        await bench.agent.send(Data(1, b"feedback"))

        assert await bench.agent.receive() == FileData(1, 1, b"table")
        assert await bench.agent.receive() == event


async def test_fds_leave_with_their_bytes_and_are_closed_after() -> None:
    async with running() as bench:
        compositor = await bench.open()
        handle = Handle(2)
        items = (RamItem(0, 4096, 4096),)
        os.pwrite(bench.ram.files[0].fileno(), b"pixels", 4096)
        bench.commands[b"again"] = [SendToCompositor(1, b"again")]
        await bench.data(b"make", CreateCopyBuffer(1, handle, 4096))
        assert ("created", 1, handle) in bench.relay.inputs
        await bench.data(
            b"show",
            CopyRows(1, handle, items, 0, 4096, 4096, 1),
            SendToCompositor(1, b"create_pool", (handle,)),
            CloseHandle(1, handle),
        )
        data, (fd,) = await compositor.receive()
        assert data == b"create_pool"
        with fd:
            assert os.pread(fd.fileno(), 6, 0) == b"pixels"
        assert bench.session.open_handles == 0
        assert bench.metrics.pixel_bytes_copied == 4096
        assert bench.metrics.client_pixel_bytes[1] == 4096


def copying(handle: int, size: int, *, client_id: int = 1) -> list[Command]:
    """Show a buffer all of which is copied."""
    items = (RamItem(0, 0, size),)
    return [
        CopyRows(client_id, Handle(handle), items, 0, size, size, 1),
        SendToCompositor(client_id, b"commit"),
        GrantCredit(client_id, 1),
    ]


LARGE = 128 << 20


async def test_one_that_has_much_copied_waits_alone() -> None:
    """Its bytes and its credit do; what else is to be done is done meanwhile."""
    async with running(ram_size=LARGE) as bench:
        hog, other = await bench.open(1), await bench.open(2)
        bench.commands[b"make"] = [CreateCopyBuffer(1, Handle(2), LARGE)]
        bench.commands[b"commit"] = copying(2, LARGE) * 10
        await bench.agent.send(Data(1, b"make"), Data(1, b"commit"))
        await bench.copied(1)
        for _ in range(3):
            await bench.agent.send(Data(2, b"frame"))
            assert (await other.receive())[0] == b"frame"
            assert bench.metrics.pixel_bytes_copied < LARGE
        assert (await hog.receive())[0].startswith(b"commit")
        # What came before it began is copied together, and once.
        assert bench.metrics.pixel_bytes_copied == LARGE
        assert sum(w[3] for w in bench.relay.inputs if w[0] == "copied") == LARGE  # type: ignore[misc]


async def test_what_a_closed_client_wanted_copied_is_dropped() -> None:
    async with running(ram_size=LARGE) as bench:
        await bench.open(1)
        bench.commands[b"make"] = [CreateCopyBuffer(1, Handle(2), LARGE)]
        bench.commands[b"commit"] = copying(2, LARGE)
        await bench.agent.send(Data(1, b"make"), Data(1, b"commit"))
        await bench.copied(1)
        await bench.agent.send(ClientClosed(1, CloseReason.NORMAL, ""))
        await bench.compositors[0].wait_closed(5)
        await bench.compositors[0].aclose()
        assert await bench.agent.receive() == ClientReleased(1)
        # Its pages may be another's now: nothing reads them any more.
        before = bench.metrics.pixel_bytes_copied
        assert before < LARGE
        await bench.agent.send(Ping(1))
        assert await bench.agent.receive() == Pong(1)
        assert bench.metrics.pixel_bytes_copied == before
        assert bench.session.open_handles == 0


async def test_copies_do_not_hold_up_the_end_of_a_session() -> None:
    async with running(ram_size=LARGE) as bench:
        await bench.open(1)
        bench.commands[b"make"] = [CreateCopyBuffer(1, Handle(2), LARGE)]
        bench.commands[b"commit"] = copying(2, LARGE)
        await bench.agent.send(Data(1, b"make"), Data(1, b"commit"))
        await bench.copied(1)
        bench.session.lost(None)
        await bench.compositors[0].wait_closed(5)
        await bench.compositors[0].aclose()
        await bench.session.wait_let_go()
        assert bench.metrics.pixel_bytes_copied < LARGE


async def test_no_memory_for_what_is_copied_ends_its_client_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwritev", full)
    async with running(ram_size=LARGE) as bench:
        await bench.open(1)
        bench.commands[b"make"] = [CreateCopyBuffer(1, Handle(2), LARGE)]
        bench.commands[b"commit"] = copying(2, LARGE)
        await bench.agent.send(Data(1, b"make"), Data(1, b"commit"))
        closed = await bench.agent.receive()
        assert isinstance(closed, ClientClosed)
        assert closed.reason is CloseReason.FAILED
        assert closed.message == CANNOT
        await bench.compositors[0].aclose()
        other = await bench.open(2)
        await bench.agent.send(Data(2, b"request"))
        assert (await other.receive())[0] == b"request"


async def test_a_buffer_that_cannot_be_made_is_answered() -> None:
    async with running() as bench:
        await bench.open()
        few = (RamItem(0, 0, 4096),)
        await bench.data(b"few", CreateUdmabuf(1, Handle(2), few))
        await bench.data(b"many", CreateUdmabuf(1, Handle(4), few * 300))
        await bench.data(b"huge", CreateCopyBuffer(1, Handle(6), 1 << 62))
        await bench.slow.wait()
        failed = [what for what in bench.relay.inputs if what[0] == "failed"]
        assert {what[2] for what in failed} == {2, 4, 6}
        assert failed[0][:4] == ("failed", 1, 2, errno.ENODEV)
        assert bench.metrics.udmabufs_failed == 2


async def test_answers_of_the_core_are_carried_out_too() -> None:
    async with running() as bench:
        compositor = await bench.open()
        respond = bench.respond

        def after(what: tuple[object, ...]) -> list[Command]:
            if what[0] == "created":
                return [SendToCompositor(1, b"second")]
            return respond(what)

        bench.relay._respond = after
        await bench.data(
            b"make",
            CreateCopyBuffer(1, Handle(2), 4096),
            SendToCompositor(1, b"first "),
        )
        assert (await compositor.receive())[0] == b"first second"


async def test_fds_of_the_compositor_are_named_for_what_they_are() -> None:
    async with running() as bench:
        compositor = await bench.open()
        bench.commands[b"event"] = []
        read, write = map(OwnedFd, os.pipe())
        null = OwnedFd(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
        ours, theirs = socket.socketpair()
        plain = OwnedFd(ours.detach())
        keymap = memfd(b"keymap")
        theirs.close()
        await compositor.send(b"event", [keymap, read, write, null, plain])
        await trio.testing.wait_all_tasks_blocked()
        for fd in (keymap, read, write, null, plain):
            fd.close()
        (event,) = (what for what in bench.relay.inputs if what[0] == "event")
        assert event[3] == (
            ReceivedFd(Handle(1), FdKind.FILE, 6),
            ReceivedFd(Handle(3), FdKind.STREAM, 0, Direction.TO_GUEST),
            ReceivedFd(Handle(5), FdKind.STREAM, 0, Direction.TO_COMPOSITOR),
            ReceivedFd(Handle(7), FdKind.OTHER),
            ReceivedFd(Handle(9), FdKind.STREAM),
        )
        assert bench.session.open_handles == 5


async def test_files_and_streams_of_the_compositor_reach_the_guest() -> None:
    async with running() as bench:
        compositor = await bench.open()
        file = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 1, 6)
        stream = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, 3, 0)
        event = Data(1, b"event", (file, stream))
        bench.commands[b"event"] = [
            SendFile(1, 1, Handle(1), 6),
            AdoptStream(1, 3, Handle(3), Direction.TO_COMPOSITOR),
            SendFrame(event),
        ]
        read, write = map(OwnedFd, os.pipe())
        with memfd(b"keymap") as keymap, write:
            await compositor.send(b"event", [keymap, write])
            assert await bench.agent.receive() == FileData(1, 1, b"keymap")
            assert await bench.agent.receive() == event
        await bench.agent.send(
            StreamData(1, 3, b"text"), StreamClosed(1, 3, CloseReason.NORMAL)
        )
        await trio.testing.wait_all_tasks_blocked()
        with read:
            assert os.read(read.fileno(), 99) == b"text"
            assert os.read(read.fileno(), 99) == b""
        assert bench.session.open_handles == 0


async def test_a_pipe_of_the_guest_reaches_the_compositor() -> None:
    async with running() as bench:
        await bench.open()
        end = await bench.pipe(2, Direction.TO_GUEST)
        with end:
            os.write(end.fileno(), b"text")
        assert await bench.agent.receive() == StreamData(1, 2, b"text")
        assert await bench.agent.receive() == StreamClosed(1, 2, CloseReason.NORMAL)


async def test_a_client_that_cannot_have_its_pipe_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as bench:
        await bench.open()
        twice = CreateStream(1, 2, Handle(2), Direction.TO_GUEST)
        await bench.data(b"twice", twice, twice, attachments=pipes(2))
        frames = await bench.agent.receive_until(ClientClosed)
        # What it was is for the host's log.
        assert frames[-1] == ClientClosed(1, CloseReason.FAILED, CANNOT)
        assert "stream 2 is open already" in caplog.text


async def test_pages_are_released_when_the_compositor_lets_go() -> None:
    async with running() as bench:
        compositor = await bench.open()
        await bench.data(
            b"bye", CloseClient(1, CloseReason.PROTOCOL_ERROR, "you know why")
        )
        assert await bench.agent.receive() == ClientClosed(
            1, CloseReason.PROTOCOL_ERROR, "you know why"
        )
        _, (left_there,) = await compositor.receive()
        assert (await compositor.receive())[0] == b""
        await bench.agent.send(Ping(1), Data(1, b"was under way"))
        assert await bench.agent.receive() == Pong(1)  # and not ClientReleased
        left_there.close()
        assert await bench.agent.receive() == ClientReleased(1)
        assert not bench.session.clients


async def test_a_compositor_that_does_not_let_go_is_not_waited_for_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as bench:
        await bench.open()
        began = trio.current_time()
        await bench.agent.send(ClientClosed(1, CloseReason.NORMAL, ""))
        frames = await bench.agent.receive_until(ClientReleased)
        assert not any(isinstance(frame, ClientClosed) for frame in frames)
        assert trio.current_time() - began == pytest.approx(LET_GO_SECONDS)


async def test_an_app_that_does_not_read_is_closed_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(window=16384) as bench:
        compositor = await bench.open()
        await compositor.send(bytes(32768))
        await trio.testing.wait_all_tasks_blocked()
        await bench.data(b"bye", CloseClient(1, CloseReason.FAILED, ""))
        await compositor.aclose()
        frames = await bench.agent.receive_until(ClientReleased)
        assert isinstance(frames[-2], ClientClosed)


async def test_a_compositor_that_hangs_up_ends_the_client() -> None:
    async with running() as bench:
        compositor = await bench.open()
        await compositor.send(b"wl_display.error")
        await compositor.aclose()
        frames = await bench.agent.receive_until(ClientReleased)
        closed = ClientClosed(1, CloseReason.COMPOSITOR_GONE, COMPOSITOR_CLOSED)
        assert frames == [Data(1, b"wl_display.error"), closed, ClientReleased(1)]


async def test_what_a_compositor_cannot_be_sent_ends_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No memory, or too many fds under way: the compositor has not hung up, and says nothing."""
    send = FdStream._sendmsg

    def refused(self: FdStream) -> None:
        if bytes(self._unsent[0].data).startswith(b"much"):
            raise OSError(errno.ETOOMANYREFS, "too many references")
        send(self)

    async with running() as bench:
        await bench.open()
        await bench.open(2)
        monkeypatch.setattr(FdStream, "_sendmsg", refused)
        await bench.agent.send(Data(1, b"much"))
        frames = await bench.agent.receive_until(ClientReleased)
        assert frames[-2:] == [
            ClientClosed(1, CloseReason.FAILED, CANNOT),
            ClientReleased(1),
        ]
        assert [each.client_id for each in bench.session.clients] == [2]


async def test_a_client_without_a_compositor_is_closed() -> None:
    async with running() as bench:
        bench.refuse = True
        await bench.agent.send(ClientOpened(1, 7, 0, 0, "app"))
        frames = await bench.agent.receive_until(ClientReleased)
        gone = CloseReason.COMPOSITOR_GONE
        closed = ClientClosed(1, gone, COMPOSITOR_UNREACHABLE)
        assert frames == [closed, ClientReleased(1)]
        bench.refuse = False
        await bench.open(2)


async def test_a_refused_client_is_never_connected() -> None:
    async with running() as bench:
        bench.relay._respond = lambda what: (
            [CloseClient(1, CloseReason.LIMIT_EXCEEDED, "no\0more" * 500)]
            if what[0] == "frame"
            else []
        )
        await bench.agent.send(ClientOpened(1, 7, 0, 0, "app"))
        frames = await bench.agent.receive_until(ClientReleased)
        assert isinstance(frames[0], ClientClosed)
        assert not bench.compositors


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ((Data(1, bytes(32768)),) * 9, ChannelError),
        (
            (
                Located(
                    1, 1, LocateStatus.OK, 0, more=False, extents=(Extent(0, 4096),)
                ),
            ),
            ExtentError,
        ),
        ((Pong(1),), ChannelError),
        ((RamProof(LocateStatus.OK, 0, 0),), ChannelError),
        ((Credit(1, 0, 1),), ChannelError),
        ((Goodbye(CloseReason.NORMAL, "shutting down"),), Goodbyed),
    ],
)
async def test_what_the_agent_may_not_do_ends_the_session(
    frames: tuple[Frame, ...], error: type[Exception]
) -> None:
    async with running() as bench:
        await bench.open()
        bench.commands[bytes(32768)] = []
        await bench.agent.send(*frames)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(bench.session.cause, error)
        assert ("end", CloseReason.NORMAL, "over") in bench.relay.inputs


async def test_garbage_ends_the_session() -> None:
    async with running() as bench:
        await bench.open()
        await bench.agent.stream.send(os.urandom(100))
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(bench.session.cause, ChannelError)


async def test_the_end_of_the_channel_ends_the_session() -> None:
    async with running() as bench:
        await bench.open()
        await bench.agent.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(bench.session.cause, ChannelGoneError)


async def test_an_ended_session_closes_its_clients_then_says_goodbye() -> None:
    async with running() as bench:
        compositor = await bench.open()
        bench.session.lost(None)
        await see_hang_up(compositor)
        assert await bench.agent.receive_until(Goodbye) == [
            ClientClosed(1, CloseReason.NORMAL, "over"),
            ClientReleased(1),
            Goodbye(CloseReason.NORMAL, "over"),
        ]


async def test_a_silent_agent_is_reported_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async with running() as bench:
        with caplog.at_level("INFO", "wlproxy"):
            bench.agent.answers_pings = False
            await trio.sleep(10 * PING_INTERVAL)
            ping = await bench.agent.receive()
            assert isinstance(ping, Ping)
            await bench.agent.send(Pong(ping.timestamp))
            await trio.testing.wait_all_tasks_blocked()
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [
            "[test] the guest agent does not answer",
            "[test] the guest agent answers again",
        ]


async def test_a_clock_that_jumps_is_asked_for_in_a_row(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as bench:
        bench.agent.answers_pings = False
        offsets = [DAY] * (2 * SETTLED) + [2 * DAY] * (2 * SETTLED)
        rows = []
        while offsets:
            asked = trio.current_time()
            ping = await bench.agent.receive()
            assert isinstance(ping, Ping)
            if trio.current_time() - asked > PING_INTERVAL / 2:
                rows.append(0)
            rows[-1] += 1
            clock = time.monotonic_ns() + offsets.pop(0)
            await bench.agent.send(Pong(ping.timestamp, clock))
        assert rows == [SETTLED, *[1] * SETTLED, SETTLED, *[1] * SETTLED]
        await trio.testing.wait_all_tasks_blocked()
        clock_of_guest = bench.session.clock()
        assert clock_of_guest is not None
        wrong = clock_of_guest["offset_ns"] - 2 * DAY
        assert abs(wrong) <= clock_of_guest["error_ns"]


async def test_an_agent_whose_clock_jumps_with_every_answer_is_asked_a_row_at_most(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as bench:
        bench.agent.answers_pings = False
        with trio.move_on_after(10.5 * PING_INTERVAL):
            for number in range(1000):
                ping = await bench.agent.receive()
                assert isinstance(ping, Ping)
                await bench.agent.send(Pong(ping.timestamp, (number + 1) * DAY))
        assert number == 10 * SETTLED


async def test_an_agent_that_does_not_tell_its_clock(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as bench:
        assert bench.session.clock() is None
        bench.agent.answers_pings = False
        for number in range(1, 4):
            ping = await bench.agent.receive()
            assert isinstance(ping, Ping)
            await bench.agent.send(Pong(ping.timestamp))
            await trio.testing.wait_all_tasks_blocked()
            assert trio.current_time() >= number * PING_INTERVAL
        assert bench.session.clock() is None


async def test_traces_are_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as bench:
        await bench.open()
        with caplog.at_level("INFO", "wlproxy"):
            await bench.data(
                b"x",
                Trace(1, TraceLevel.WARNING, "surface 14 800x600: copied"),
                Trace(1, TraceLevel.INFO, "app(1) connected"),
                Trace(0, TraceLevel.INFO, "all is well"),
            )
        assert [record.getMessage() for record in caplog.records] == [
            "[test] app(1): surface 14 800x600: copied",
            "[test] app(1) connected",
            "[test] all is well",
        ]


@pytest.mark.parametrize("moment", range(12))
async def test_ended_at_any_moment_it_leaves_nothing_open(
    moment: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with running() as bench:
        await bench.agent.send(ClientOpened(1, 7, 0, 0, "app"), Data(1, b"x"))
        for _ in range(moment):
            await trio.lowlevel.checkpoint()
        bench.session.lost(None)


@pytest.mark.parametrize("moment", range(12))
async def test_cancelled_at_any_moment_it_leaves_nothing_open(moment: int) -> None:
    with trio.CancelScope() as scope:
        async with running() as bench:
            await bench.agent.send(ClientOpened(1, 7, 0, 0, "app"), Data(1, b"x"))
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            scope.cancel()


async def test_cancelled_it_says_nothing_more() -> None:
    """A guest that heard of a release, and of no end, would think that all is well."""
    with trio.CancelScope() as scope:
        async with running() as bench:
            compositor = await bench.open()
            with await bench.pipe(2, Direction.TO_GUEST):
                scope.cancel()
                with trio.CancelScope(shield=True):
                    assert (await compositor.receive())[0] == b""
                    await trio.testing.wait_all_tasks_blocked()
                    with pytest.raises(BlockingIOError):
                        bench.agent.stream.socket.recv(1, socket.MSG_DONTWAIT)


async def test_a_client_goes_on_whose_buffer_is_never_located(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The agent lives, but this question hangs; the answer may still come, too late."""
    async with running() as bench:
        await bench.open()
        bench.agent.answers_pings = False
        await bench.data(b"x", SendFrame(Locate(1, 7, 1, 0, 4096, 0)))
        assert isinstance(await bench.agent.receive(), Locate)
        for _ in range(MAX_TURNS + 2):
            ping = await bench.agent.receive()
            assert isinstance(ping, Ping)
            await bench.agent.send(Pong(ping.timestamp))

        given_up = [what for what in bench.relay.inputs if "Located" in repr(what)]
        assert len(given_up) == 1
        assert "FAILED" in repr(given_up)
        late = Located(1, 7, LocateStatus.OK, 0, more=False, extents=(Extent(0, 4096),))
        await bench.agent.send(late)
        assert await bench.agent.receive() == Release(1, 7)


async def test_a_guest_that_is_paused_is_not_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as bench:
        await bench.open()
        await bench.data(b"x", SendFrame(Locate(1, 7, 1, 0, 4096, 0)))
        await trio.sleep(100 * MAX_TURNS * PING_INTERVAL)
        assert not any("Located" in repr(what) for what in bench.relay.inputs)


# ---------------------------------------------------------------- turns


def flooding(bench: Bench, turns: int) -> None:
    """Have `flood` take client 1 many turns, and whatever another one sends take one."""
    respond = bench.respond

    def note(what: tuple[object, ...]) -> list[Command]:
        match what:
            case ("frame", Data(client_id=1, data=b"flood")):
                bench.relay.turns[1] = turns
                return []
            case ("frame", Data(client_id=client_id)):
                bench.relay.turns[client_id] += 1
                return []
            case ("turn", int(client_id)) if client_id != 1:
                return [SendToCompositor(client_id, b"request")]
            case _:
                return respond(what)

    bench.relay._respond = note


def between(inputs: list[tuple[object, ...]], first: object, last: object) -> int:
    """Count the turns of client 1 between two inputs."""
    start = inputs.index(first)  # type: ignore[arg-type]
    end = inputs.index(last, start)  # type: ignore[arg-type]
    return inputs[start:end].count(("turn", 1))


async def test_an_honest_client_waits_for_one_turn_of_a_flood_at_most() -> None:
    async with running() as bench:
        await bench.open(1)
        honest = await bench.open(2)
        flooding(bench, 10_000)
        request = Data(2, b"request")

        await bench.agent.send(Data(1, b"flood"), Data(1, b"more"), request)
        assert (await honest.receive())[0] == b"request"
        assert bench.relay.turns[1] > 5_000
        assert between(bench.relay.inputs, ("frame", request), ("turn", 2)) <= 1

        # Long after it began, too; and what the compositor says gets through as well.
        for number in range(10):
            late = Data(2, b"late %d" % number)
            await bench.agent.send(late)
            assert (await honest.receive())[0] == b"request"
            last = len(bench.relay.inputs) - bench.relay.inputs[::-1].index(("turn", 2))
            recent = bench.relay.inputs[
                bench.relay.inputs.index(("frame", late)) : last
            ]
            assert recent.count(("turn", 1)) <= 1
            await honest.send(b"event")
            assert (await bench.agent.receive_until(Data))[-1] == Data(2, b"event")
        assert bench.relay.turns[1] > 0


class Passes(trio.abc.Instrument):
    """Counts the passes of the loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_what_comes_is_passed_on_by_the_task_that_woke_up() -> None:
    """One pass wakes it, and the next one wakes who is to get what it has sent."""
    async with running() as bench:
        await bench.open(1)
        compositor = await bench.open(2)
        flooding(bench, 0)
        agent = bench.agent.stream.socket
        request = bench.agent.session.encode(Data(2, b"anything"))
        for _ in range(3):
            passes = Passes()
            trio.lowlevel.add_instrument(passes)
            agent.send(request)
            await trio.lowlevel.wait_readable(compositor.socket)
            assert passes.count <= 2
            assert (await compositor.receive())[0] == b"request"

            passes.count = 0
            compositor.socket.send(b"event")
            await trio.lowlevel.wait_readable(agent)
            assert passes.count <= 2
            assert await bench.agent.receive() == Data(2, b"event")
            trio.lowlevel.remove_instrument(passes)


async def test_events_wait_for_those_before_them_and_nobody_else_does() -> None:
    async with running() as bench:
        flooder, honest = await bench.open(1), await bench.open(2)
        bench.commands[b"flood"] = []
        bench.relay.event_turns[1] = 10_000

        await flooder.send(b"flood")
        while ("event turn", 1) not in bench.relay.inputs:
            await trio.lowlevel.checkpoint()
        await flooder.send(b"last")
        await honest.send(b"event")
        assert await bench.agent.receive() == Data(2, b"event")
        assert bench.relay.event_turns[1] > 5_000

        assert await bench.agent.receive() == Data(1, b"last")
        assert bench.relay.event_turns[1] == 0


async def test_a_client_that_ends_has_no_turn_of_its_flood_any_more() -> None:
    async with running() as bench:
        await bench.open(1)
        flooding(bench, 1_000_000)
        await bench.agent.send(Data(1, b"flood"))
        while ("turn", 1) not in bench.relay.inputs:
            await trio.lowlevel.checkpoint()

        bench.relay.turns[1] = 0  # as the core does
        await bench.agent.send(ClientClosed(1, CloseReason.NORMAL, ""))
        await bench.compositors[0].aclose()
        await bench.agent.receive_until(ClientReleased)
        done = len(bench.relay.inputs)
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.relay.inputs) == done


async def test_a_flood_of_clients_leaves_room_for_those_who_are_there() -> None:
    async with running() as bench:
        await bench.open(1)
        honest = await bench.open(2)
        flooding(bench, 10_000)
        connect = bench.connect

        async def count_and_connect() -> FdStream:
            bench.relay.inputs.append(("connect",))
            return await connect()

        bench.connect = count_and_connect
        await bench.agent.send(Data(1, b"flood"))
        await bench.agent.send(
            *(ClientOpened(3 + number, 7, 0, 0, "app") for number in range(100))
        )
        await bench.agent.send(Data(2, b"request"))
        assert (await honest.receive())[0] == b"request"

        # Between two turns, no more than a few frames are taken, and a client connected.
        most: Counter[str] = Counter()
        run: Counter[str] = Counter()
        for what in bench.relay.inputs:
            if what[0] == "turn":
                most |= run
                run.clear()
            run[str(what[0])] += 1
        # The tasks of one pass and the next, in any order, and one for whoever wakes up.
        assert most["frame"] <= 3 * FRAMES_PER_STEP
        assert most["connect"] <= 2
        for number in range(100):
            await bench.agent.send(ClientClosed(3 + number, CloseReason.NORMAL, ""))
        bench.relay.turns[1] = 0


async def test_a_pipe_is_closed_before_its_request_had_its_turn() -> None:
    async with running() as bench:
        compositor = await bench.open()
        flooding(bench, 1)
        receive = CreateStream(1, 2, Handle(2), Direction.TO_GUEST)
        asked = SendToCompositor(1, b"receive", (Handle(2),))
        respond = bench.relay._respond

        def late(what: tuple[object, ...]) -> list[Command]:
            if what != ("turn", 1):
                return respond(what)
            return [receive, asked, CloseHandle(1, Handle(2))]

        bench.relay._respond = late
        await bench.agent.send(
            Data(1, b"flood", pipes(2)), StreamClosed(1, 2, CloseReason.NORMAL)
        )

        _, (end,) = await compositor.receive()
        await trio.testing.wait_all_tasks_blocked()
        with end, pytest.raises(BrokenPipeError):
            os.write(end.fileno(), b"for nobody")
        assert not bench.session.clients[0].early_bytes


async def test_what_comes_too_early_for_a_pipe_is_not_kept_without_end() -> None:
    async with running() as bench:
        await bench.open()
        await bench.open(2)
        bench.commands[b"half a message"] = []
        reads = AttachmentFlags.HOLDER_READS
        ends = tuple(
            Attachment(AttachmentKind.STREAM, reads, number, 0)
            for number in range(2, 20, 2)
        )
        await bench.agent.send(Data(1, b"half a message", ends))

        sent = 0
        for end in ends:
            for _ in range(STREAM_WINDOW // 32768):
                if sent < MAX_EARLY:
                    sent += 32768
                    await bench.agent.send(StreamData(1, end.object_id, bytes(32768)))

        *refused, closed = await bench.agent.receive_until(ClientClosed)
        assert isinstance(closed, ClientClosed)
        assert closed.reason is CloseReason.LIMIT_EXCEEDED
        assert refused == [
            StreamClosed(1, end.object_id, CloseReason.FAILED) for end in ends
        ]
        assert not bench.session.clients[0].early_bytes
        assert bench.session.cause is None


@pytest.mark.parametrize(
    "frame",
    [
        Credit(7, 0, 1),
        Released(7, 1),
        StreamData(7, 2, b"text"),
        StreamClosed(7, 2, CloseReason.NORMAL),
        ClientClosed(7, CloseReason.NORMAL, ""),
        ClientOpened(1, 7, 0, 0, "twice"),
    ],
    ids=lambda frame: type(frame).__name__,
)
async def test_a_frame_of_a_client_that_never_was_ends_the_session(
    frame: Frame,
) -> None:
    async with running() as bench:
        await bench.open()
        await bench.agent.send(frame)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(bench.session.cause, ChannelError)
        assert bench.metrics.bugs == 0


async def test_a_client_id_that_is_used_again_before_its_end_was_told() -> None:
    async with running(window=16384) as bench:
        compositor = await bench.open()
        await compositor.send(bytes(16384))
        await compositor.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await bench.agent.send(
            ClientClosed(1, CloseReason.NORMAL, ""), ClientOpened(1, 7, 0, 0, "app")
        )
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(bench.session.cause, ChannelError)
        assert bench.metrics.bugs == 0


async def test_the_core_hears_when_its_last_timer_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as bench:
        await bench.open()
        began = autojump_clock.current_time()
        await bench.data(b"x", StartTimer(1, 1, 1.0))
        await trio.sleep(0.5)
        await bench.data(b"y", StartTimer(1, 2, 1.0))
        await trio.sleep(1.1)
        ended = [
            what for what in bench.relay.inputs if isinstance(what[-1], TimerEnded)
        ]
        assert ended == [("frame", TimerEnded(1, 2))]
        assert autojump_clock.current_time() < began + 3
