"""Pipes both ways: end of file, credit, limits, nothing left open."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from tests.transport.frames import taken
from wlproxy.host.client.streams import MAX_LEFT_STREAMS, Streams
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseReason,
    Credit,
    Data,
    Frame,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import (
    MAX_STREAMS,
    STREAM_LIMITS,
    STREAM_WINDOW,
    StreamLimits,
)
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Lane, Windows
from wlproxy.protocol.errors import ChannelError, LocalProtocolError
from wlproxy.relay.commands import Direction
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.pumps import Pumps

WINDOW = 64 * 1024
ENDED = StreamClosed(1, 2, CloseReason.NORMAL)


class Bench:
    """The streams of a session, and what they have for the guest."""

    def __init__(
        self, nursery: trio.Nursery, limits: StreamLimits = STREAM_LIMITS
    ) -> None:
        theirs = Windows(WINDOW, WINDOW)
        self.lanes = LaneTasks(
            Lanes(Side.HOST, Windows(), theirs, limits), lambda: None
        )
        self.clients = 0
        self.streams = Streams(
            self.lanes, lambda _client, run: nursery.start_soon(run), VmLog("test")
        )

    def attach(
        self, stream_id: int, direction: Direction, *, client_id: int = 1
    ) -> None:
        """As a request of the guest's does."""
        while self.clients < client_id:
            self.clients += 1
            self.lanes.receive(ClientOpened(self.clients, 1, 2, 3, "app"))
        reads = direction is Direction.TO_COMPOSITOR
        flags = AttachmentFlags.HOLDER_READS if reads else AttachmentFlags.HOLDER_WRITES
        one = Attachment(AttachmentKind.STREAM, flags, stream_id, 0)
        self.lanes.receive(Data(client_id, b"x", (one,)))

    def create(
        self, stream_id: int, direction: Direction, *, client_id: int = 1
    ) -> OwnedFd:
        self.attach(stream_id, direction, client_id=client_id)
        return self.streams.create(Lane(client_id, stream_id), direction)

    def adopt(self, stream_id: int, fd: int, direction: Direction) -> Data:
        """As an event of the compositor's does; returns what announces it."""
        if not self.clients:
            self.clients += 1
            self.lanes.receive(ClientOpened(1, 1, 2, 3, "app"))
        self.streams.adopt(Lane(1, stream_id), OwnedFd(fd), direction)
        reads = direction is Direction.TO_GUEST
        flags = AttachmentFlags.HOLDER_READS if reads else AttachmentFlags.HOLDER_WRITES
        one = Attachment(AttachmentKind.STREAM, flags, stream_id, 0)
        return Data(1, b"event", (one,))

    async def frames(self) -> list[Frame]:
        await trio.testing.wait_all_tasks_blocked()
        return taken(self.lanes)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        yield bench
        bench.streams.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not len(bench.streams)


async def test_who_leaves_has_the_pipes_looked_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many have left before: a session may end with hundreds."""
    ends = [
        bench.create(2, Direction.TO_GUEST, client_id=client_id)
        for client_id in range(1, 21)
    ]
    looked, look = 0, Pumps.__iter__

    def counting(pumps: Pumps) -> Iterator[Lane]:
        nonlocal looked
        looked += 1
        return look(pumps)

    monkeypatch.setattr(Pumps, "__iter__", counting)
    for client_id in range(1, 21):
        bench.streams.client_left(client_id)
    for end in ends:
        end.close()

    assert looked == 20


async def test_compositor_to_guest_until_end_of_file(bench: Bench) -> None:
    end = bench.create(2, Direction.TO_GUEST)
    os.write(end.fileno(), b"text")
    assert await bench.frames() == [StreamData(1, 2, b"text")]
    os.write(end.fileno(), b"more")
    end.close()
    assert await bench.frames() == [StreamData(1, 2, b"more")]
    assert await bench.frames() == [ENDED]
    assert not len(bench.streams)
    bench.lanes.receive(ENDED)  # it crossed ours: nothing happens


async def test_guest_to_compositor_until_end_of_file(bench: Bench) -> None:
    with bench.create(2, Direction.TO_COMPOSITOR) as end:
        bench.lanes.receive(StreamData(1, 2, b"te"))
        bench.lanes.receive(StreamData(1, 2, b"xt"))
        bench.lanes.receive(ENDED)
        assert await bench.frames() == []
        assert os.read(end.fileno(), 99) == b"text"
        assert os.read(end.fileno(), 99) == b""
    assert not len(bench.streams)
    assert not bench.lanes.is_open(Lane(1, 2))
    assert not bench.lanes.streams_of(1)


async def test_a_reader_that_leaves_ends_the_stream(bench: Bench) -> None:
    bench.create(2, Direction.TO_COMPOSITOR).close()
    assert await bench.frames() == [ENDED]
    bench.lanes.receive(StreamData(1, 2, b"was under way"))
    assert await bench.frames() == []


async def test_a_guest_that_reads_no_more_breaks_the_pipe(bench: Bench) -> None:
    with bench.create(2, Direction.TO_GUEST) as end:
        bench.lanes.receive(ENDED)
        assert await bench.frames() == []
        with pytest.raises(BrokenPipeError):
            os.write(end.fileno(), b"text")


async def test_credit_comes_back_as_the_pipe_takes_it(bench: Bench) -> None:
    with bench.create(2, Direction.TO_COMPOSITOR) as end:
        chunk = bytes(32 * 1024)
        for _ in range(STREAM_WINDOW // len(chunk)):
            bench.lanes.receive(StreamData(1, 2, chunk))
        assert await bench.frames() == [Credit(1, 2, 64 * 1024)]
        with pytest.raises(ChannelError):
            bench.lanes.receive(StreamData(1, 2, bytes(64 * 1024 + 1)))
        read = 0
        while read < STREAM_WINDOW:
            read += len(os.read(end.fileno(), 65536))
            await trio.testing.wait_all_tasks_blocked()
        assert await bench.frames() == [Credit(1, 2, 64 * 1024)]


async def test_no_more_is_read_than_the_guest_takes(bench: Bench) -> None:
    with bench.create(2, Direction.TO_GUEST) as end:
        os.set_blocking(end.fileno(), False)
        written = 0
        for _ in range(20):
            await bench.frames()
            try:
                written += os.write(end.fileno(), bytes(65536))
            except BlockingIOError:
                continue
        # The window, the chunk that waits, and what the pipe itself holds.
        assert written <= WINDOW + 32 * 1024 + 64 * 1024


async def test_an_adopted_pipe_waits_for_its_announcement(bench: Bench) -> None:
    read, write = os.pipe()
    os.write(write, b"text")
    os.close(write)
    announcing = bench.adopt(3, read, Direction.TO_GUEST)
    assert await bench.frames() == []
    bench.lanes.put(announcing)
    assert await bench.frames() == [announcing, StreamData(1, 3, b"text")]
    assert await bench.frames() == [StreamClosed(1, 3, CloseReason.NORMAL)]


async def test_an_adopted_write_end_is_written_to(bench: Bench) -> None:
    read, write = os.pipe()
    announcing = bench.adopt(3, write, Direction.TO_COMPOSITOR)
    bench.lanes.put(announcing)
    assert await bench.frames() == [announcing]
    bench.lanes.receive(StreamData(1, 3, b"text"))
    bench.lanes.receive(StreamClosed(1, 3, CloseReason.NORMAL))
    await bench.frames()
    assert os.read(read, 99) == b"text"
    assert os.read(read, 99) == b""
    os.close(read)


async def test_one_too_many_of_a_client_has_ended(bench: Bench) -> None:
    ends = [
        bench.create(2 * number, Direction.TO_GUEST)
        for number in range(1, MAX_STREAMS + 1)
    ]
    limit = CloseReason.LIMIT_EXCEEDED
    over = 2 * MAX_STREAMS + 2
    with bench.create(over, Direction.TO_GUEST) as writing:
        with pytest.raises(BrokenPipeError):
            os.write(writing.fileno(), b"x")
        assert await bench.frames() == [StreamClosed(1, over, limit)]
    with bench.create(over + 2, Direction.TO_COMPOSITOR) as reading:
        assert os.read(reading.fileno(), 99) == b""
    bench.lanes.receive(StreamData(1, over + 2, b"was under way"))
    assert await bench.frames() == [StreamClosed(1, over + 2, limit)]
    with bench.create(2, Direction.TO_GUEST, client_id=2):
        ends.pop().close()  # there is room again
        await bench.frames()
        with bench.create(over + 4, Direction.TO_GUEST) as writing:
            os.write(writing.fileno(), b"x")
        assert StreamData(1, over + 4, b"x") in await bench.frames()
    for end in ends:
        end.close()


async def test_one_too_many_of_the_compositors_has_ended_once_it_is_known(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(nursery, StreamLimits(0, 9))
    read, write = os.pipe()
    announcing = bench.adopt(3, write, Direction.TO_COMPOSITOR)
    assert "client 1: a paste has ended" in caplog.text
    assert os.read(read, 99) == b""
    os.close(read)
    assert await bench.frames() == []
    bench.lanes.put(announcing)
    ended = StreamClosed(1, 3, CloseReason.LIMIT_EXCEEDED)
    assert await bench.frames() == [announcing, ended]


async def test_all_clients_together_have_a_limit(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, StreamLimits(9, 2))
    with (
        bench.create(2, Direction.TO_GUEST),
        bench.create(2, Direction.TO_GUEST, client_id=2),
        bench.create(4, Direction.TO_GUEST) as over,
    ):
        assert await bench.frames() == [StreamClosed(1, 4, CloseReason.LIMIT_EXCEEDED)]
        with pytest.raises(BrokenPipeError):
            os.write(over.fileno(), b"x")
        bench.streams.close()


async def test_streams_of_clients_that_left_first_end_first(bench: Bench) -> None:
    clients = range(1, MAX_LEFT_STREAMS + 3)
    ends = {
        client_id: bench.create(2, Direction.TO_GUEST, client_id=client_id)
        for client_id in clients
    }
    for client_id in clients[:-1]:
        bench.streams.client_left(client_id)
    limit = CloseReason.LIMIT_EXCEEDED
    assert await bench.frames() == [StreamClosed(1, 2, limit)]
    bench.streams.client_left(clients[-1])
    assert await bench.frames() == [StreamClosed(2, 2, limit)]
    for client_id, end in ends.items():
        with end:
            if client_id > 2:
                os.write(end.fileno(), b"x")
    left = 0
    while frames := await bench.frames():
        left += sum(isinstance(frame, StreamClosed) for frame in frames)
    assert left == MAX_LEFT_STREAMS


async def test_an_fd_that_is_of_no_use_has_ended(bench: Bench) -> None:
    read, write = os.pipe()
    os.close(write)
    announcing = bench.adopt(3, read, Direction.TO_COMPOSITOR)
    bench.lanes.put(announcing)
    assert await bench.frames() == [
        announcing,
        StreamClosed(1, 3, CloseReason.FAILED),
    ]


async def test_a_stream_whose_event_is_dropped_closes(bench: Bench) -> None:
    read, write = os.pipe()
    bench.lanes.put(bench.adopt(3, write, Direction.TO_COMPOSITOR))
    bench.lanes.drop_data(1)
    assert await bench.frames() == []
    assert os.read(read, 99) == b""
    os.close(read)
    assert not len(bench.streams)


async def test_what_is_under_way_is_read_to_its_end_before_an_idle_end_is_noticed(
    bench: Bench,
) -> None:
    end = bench.create(2, Direction.TO_GUEST)
    os.write(end.fileno(), b"last")
    end.close()
    assert await bench.frames() == [StreamData(1, 2, b"last")]
    assert await bench.frames() == [ENDED]


async def test_an_id_is_not_used_twice(bench: Bench) -> None:
    with (
        bench.create(2, Direction.TO_GUEST),
        pytest.raises(HostError, match="open already"),
    ):
        bench.streams.create(Lane(1, 2), Direction.TO_GUEST)
    first, unused = os.pipe()
    os.close(unused)
    bench.adopt(3, first, Direction.TO_GUEST)
    read, write = os.pipe()
    with pytest.raises(LocalProtocolError, match="is open"):
        bench.adopt(3, write, Direction.TO_COMPOSITOR)
    assert os.read(read, 99) == b""
    os.close(read)


async def test_a_pipe_of_a_client_that_has_gone_is_closed(bench: Bench) -> None:
    bench.attach(2, Direction.TO_GUEST)
    bench.lanes.receive(ClientClosed(1, CloseReason.NORMAL, ""))
    read, write = os.pipe()
    bench.adopt(3, write, Direction.TO_COMPOSITOR)
    assert os.read(read, 99) == b""
    os.close(read)
    assert not len(bench.streams)


async def test_closing_leaves_no_pump(bench: Bench) -> None:
    with (
        bench.create(2, Direction.TO_GUEST),
        bench.create(4, Direction.TO_COMPOSITOR),
    ):
        await bench.frames()
        bench.streams.close()
        assert await bench.frames() == []
        assert not len(bench.streams)
