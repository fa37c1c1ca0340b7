"""Pipes both ways: end of file, credit, limits, nothing left open."""

import os
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from wlproxy.host.errors import HostError
from wlproxy.host.outgoing import Outgoing
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.streams import (
    MAX_LEFT_STREAMS,
    Streams,
)
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    CloseReason,
    Credit,
    Data,
    Frame,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import MAX_STREAMS, STREAM_WINDOW
from wlproxy.protocol.errors import ChannelError
from wlproxy.relay.commands import Direction
from wlproxy.transport.fds import OwnedFd

WINDOW = 64 * 1024
ENDED = StreamClosed(1, 2, CloseReason.NORMAL)


class Bench:
    """The streams of a session, and what they have for the guest."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.outgoing = Outgoing(WINDOW, WINDOW)
        self.outgoing.open_client(1)
        self.streams = Streams(
            self.outgoing, lambda _client, run: nursery.start_soon(run), VmLog("test")
        )

    def create(
        self, stream_id: int, direction: Direction, *, client_id: int = 1
    ) -> OwnedFd:
        return self.streams.create(client_id, stream_id, direction)

    def adopt(self, stream_id: int, fd: int, direction: Direction) -> Attachment:
        """As an event of the compositor's does; returns what it attaches."""
        self.streams.adopt(1, stream_id, OwnedFd(fd), direction)
        flags = AttachmentFlags.HOLDER_READS
        return Attachment(AttachmentKind.STREAM, flags, stream_id, 0)

    async def frames(self) -> list[Frame]:
        await trio.testing.wait_all_tasks_blocked()
        return self.outgoing.take(999)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        bench = Bench(nursery)
        yield bench
        bench.streams.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not len(bench.streams)


async def test_compositor_to_guest_until_end_of_file(bench: Bench) -> None:
    end = bench.create(2, Direction.TO_GUEST)
    os.write(end.fileno(), b"text")
    assert await bench.frames() == [StreamData(1, 2, b"text")]
    os.write(end.fileno(), b"more")
    end.close()
    assert await bench.frames() == [StreamData(1, 2, b"more")]
    assert await bench.frames() == [ENDED]
    assert not len(bench.streams)
    bench.streams.receive_closed(ENDED)  # it crossed ours: nothing happens


async def test_guest_to_compositor_until_end_of_file(bench: Bench) -> None:
    with bench.create(2, Direction.TO_COMPOSITOR) as end:
        bench.streams.receive_data(StreamData(1, 2, b"te"))
        bench.streams.receive_data(StreamData(1, 2, b"xt"))
        bench.streams.receive_closed(ENDED)
        assert await bench.frames() == []
        assert os.read(end.fileno(), 99) == b"text"
        assert os.read(end.fileno(), 99) == b""
    assert not len(bench.streams)
    assert not bench.outgoing.has_stream(1, 2)


async def test_a_reader_that_leaves_ends_the_stream(bench: Bench) -> None:
    bench.create(2, Direction.TO_COMPOSITOR).close()
    assert await bench.frames() == [ENDED]
    bench.streams.receive_data(StreamData(1, 2, b"was under way"))
    assert await bench.frames() == []


async def test_a_guest_that_reads_no_more_breaks_the_pipe(bench: Bench) -> None:
    with bench.create(2, Direction.TO_GUEST) as end:
        bench.streams.receive_closed(ENDED)
        assert await bench.frames() == []
        with pytest.raises(BrokenPipeError):
            os.write(end.fileno(), b"text")


async def test_credit_comes_back_as_the_pipe_takes_it(bench: Bench) -> None:
    with bench.create(2, Direction.TO_COMPOSITOR) as end:
        chunk = bytes(32 * 1024)
        for _ in range(STREAM_WINDOW // len(chunk)):
            bench.streams.receive_data(StreamData(1, 2, chunk))
        assert await bench.frames() == [Credit(1, 2, 64 * 1024)]
        with pytest.raises(ChannelError):
            bench.streams.receive_data(StreamData(1, 2, bytes(64 * 1024 + 1)))
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
    bench.adopt(3, read, Direction.TO_GUEST)
    assert await bench.frames() == []
    attachment = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 3, 0)
    announcing = Data(1, b"event", (attachment,))
    bench.outgoing.put(announcing)
    assert await bench.frames() == [announcing, StreamData(1, 3, b"text")]
    assert await bench.frames() == [StreamClosed(1, 3, CloseReason.NORMAL)]


async def test_an_adopted_write_end_is_written_to(bench: Bench) -> None:
    read, write = os.pipe()
    bench.adopt(3, write, Direction.TO_COMPOSITOR)
    bench.streams.receive_data(StreamData(1, 3, b"text"))
    bench.streams.receive_closed(StreamClosed(1, 3, CloseReason.NORMAL))
    await bench.frames()
    assert os.read(read, 99) == b"text"
    assert os.read(read, 99) == b""
    os.close(read)


async def test_one_too_many_of_a_client_has_ended(bench: Bench) -> None:
    ends = [
        bench.create(2 * number, Direction.TO_GUEST)
        for number in range(1, MAX_STREAMS + 1)
    ]
    over = 2 * MAX_STREAMS + 2
    with bench.create(over, Direction.TO_GUEST) as writing:
        with pytest.raises(BrokenPipeError):
            os.write(writing.fileno(), b"x")
        assert await bench.frames() == [
            StreamClosed(1, over, CloseReason.LIMIT_EXCEEDED)
        ]
    with bench.create(over, Direction.TO_COMPOSITOR) as reading:
        assert os.read(reading.fileno(), 99) == b""
    bench.streams.receive_data(StreamData(1, over, b"was under way"))
    await bench.frames()
    with bench.create(2, Direction.TO_GUEST, client_id=2):
        ends.pop().close()  # there is room again
        await bench.frames()
        with bench.create(over, Direction.TO_GUEST) as writing:
            os.write(writing.fileno(), b"x")
        assert StreamData(1, over, b"x") in await bench.frames()
    for end in ends:
        end.close()


async def test_one_too_many_of_the_compositors_has_ended_once_it_is_known(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.streams.MAX_STREAMS", 0)
    read, write = os.pipe()
    attachment = bench.adopt(3, write, Direction.TO_COMPOSITOR)
    assert os.read(read, 99) == b""
    os.close(read)
    assert await bench.frames() == []
    announcing = Data(1, b"event", (attachment,))
    bench.outgoing.put(announcing)
    ended = StreamClosed(1, 3, CloseReason.LIMIT_EXCEEDED)
    assert await bench.frames() == [announcing, ended]


async def test_all_clients_together_have_a_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.streams.MAX_ALL_STREAMS", 2)
    with (
        bench.create(2, Direction.TO_GUEST),
        bench.create(2, Direction.TO_GUEST, client_id=2),
        bench.create(4, Direction.TO_GUEST) as over,
    ):
        assert await bench.frames() == [StreamClosed(1, 4, CloseReason.LIMIT_EXCEEDED)]
        with pytest.raises(BrokenPipeError):
            os.write(over.fileno(), b"x")


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
    attachment = bench.adopt(3, read, Direction.TO_COMPOSITOR)
    announcing = Data(1, b"event", (attachment,))
    bench.outgoing.put(announcing)
    assert await bench.frames() == [
        announcing,
        StreamClosed(1, 3, CloseReason.FAILED),
    ]


async def test_a_stream_whose_event_is_dropped_closes(bench: Bench) -> None:
    read, write = os.pipe()
    attachment = bench.adopt(3, write, Direction.TO_COMPOSITOR)
    bench.outgoing.put(Data(1, b"event", (attachment,)))
    bench.outgoing.clients[1].drop_data()
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
        bench.create(2, Direction.TO_GUEST)
    read, write = os.pipe()
    with (
        bench.create(4, Direction.TO_GUEST),
        pytest.raises(HostError, match="open already"),
    ):
        bench.adopt(4, write, Direction.TO_COMPOSITOR)
    assert os.read(read, 99) == b""
    os.close(read)


async def test_closing_leaves_no_pump(bench: Bench) -> None:
    with (
        bench.create(2, Direction.TO_GUEST),
        bench.create(4, Direction.TO_COMPOSITOR),
    ):
        await bench.frames()
        bench.streams.close()
        assert await bench.frames() == []
        assert not len(bench.streams)
