"""Pipes both ways: end of file, credit, limits, nothing left open."""

import os
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from wlproxy.host.errors import HostError, TooManyStreamsError
from wlproxy.host.fds import FdState, OwnedFd
from wlproxy.host.outgoing import Outgoing
from wlproxy.host.streams import MAX_STREAMS, STREAM_WINDOW, Streams
from wlproxy.protocol.channel.flow import SendWindow
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
from wlproxy.protocol.errors import ChannelError
from wlproxy.relay.commands import Direction

WINDOW = 64 * 1024
ENDED = StreamClosed(1, 2, CloseReason.NORMAL)


class Bench:
    """The streams of client 1, and what they have for the guest."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.outgoing = Outgoing(WINDOW, WINDOW)
        self.outgoing.open_client(1)
        self.streams = Streams(1, self.outgoing, nursery.start_soon)

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
    end = bench.streams.create(2, Direction.TO_GUEST)
    os.write(end.fileno(), b"text")
    assert await bench.frames() == [StreamData(1, 2, b"text")]
    os.write(end.fileno(), b"more")
    end.close()
    assert await bench.frames() == [StreamData(1, 2, b"more")]
    assert await bench.frames() == [ENDED]
    assert not len(bench.streams)
    bench.streams.receive_closed(ENDED)  # it crossed ours: nothing happens


async def test_guest_to_compositor_until_end_of_file(bench: Bench) -> None:
    with bench.streams.create(2, Direction.TO_COMPOSITOR) as end:
        bench.streams.receive_data(StreamData(1, 2, b"te"))
        bench.streams.receive_data(StreamData(1, 2, b"xt"))
        bench.streams.receive_closed(ENDED)
        assert await bench.frames() == []
        assert os.read(end.fileno(), 99) == b"text"
        assert os.read(end.fileno(), 99) == b""
    assert not len(bench.streams)
    assert not bench.outgoing.has_stream(1, 2)


async def test_a_reader_that_leaves_ends_the_stream(bench: Bench) -> None:
    bench.streams.create(2, Direction.TO_COMPOSITOR).close()
    bench.streams.receive_data(StreamData(1, 2, b"text"))
    assert await bench.frames() == [ENDED]
    bench.streams.receive_data(StreamData(1, 2, b"was under way"))
    assert await bench.frames() == []


async def test_a_guest_that_reads_no_more_breaks_the_pipe(bench: Bench) -> None:
    with bench.streams.create(2, Direction.TO_GUEST) as end:
        bench.streams.receive_closed(ENDED)
        assert await bench.frames() == []
        with pytest.raises(BrokenPipeError):
            os.write(end.fileno(), b"text")


async def test_credit_comes_back_as_the_pipe_takes_it(bench: Bench) -> None:
    with bench.streams.create(2, Direction.TO_COMPOSITOR) as end:
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
    with bench.streams.create(2, Direction.TO_GUEST) as end:
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
    bench.streams.adopt(3, OwnedFd(read), Direction.TO_GUEST)
    assert await bench.frames() == []
    attachment = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 3, 0)
    announcing = Data(1, b"event", (attachment,))
    bench.outgoing.put(announcing)
    assert await bench.frames() == [announcing, StreamData(1, 3, b"text")]
    assert await bench.frames() == [StreamClosed(1, 3, CloseReason.NORMAL)]


async def test_an_adopted_write_end_is_written_to(bench: Bench) -> None:
    read, write = os.pipe()
    bench.streams.adopt(3, OwnedFd(write), Direction.TO_COMPOSITOR)
    bench.streams.receive_data(StreamData(1, 3, b"text"))
    bench.streams.receive_closed(StreamClosed(1, 3, CloseReason.NORMAL))
    await bench.frames()
    assert os.read(read, 99) == b"text"
    assert os.read(read, 99) == b""
    os.close(read)


async def test_all_clients_together_have_a_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.streams.MAX_VM_STREAMS", 2)
    bench.outgoing.open_client(2).open_stream(
        2, SendWindow(STREAM_WINDOW), announced=True
    )
    with (
        bench.streams.create(2, Direction.TO_GUEST),
        pytest.raises(TooManyStreamsError, match="all apps"),
    ):
        bench.streams.create(4, Direction.TO_GUEST)


async def test_there_is_a_limit(bench: Bench) -> None:
    ends = [
        bench.streams.create(2 * number, Direction.TO_GUEST)
        for number in range(1, MAX_STREAMS + 1)
    ]
    with pytest.raises(HostError, match="pipes"):
        bench.streams.create(2 * MAX_STREAMS + 2, Direction.TO_GUEST)
    read, write = os.pipe()
    adopted = OwnedFd(write)
    with pytest.raises(HostError, match="pipes"):
        bench.streams.adopt(3, adopted, Direction.TO_COMPOSITOR)
    assert adopted.state is FdState.CLOSED
    os.close(read)
    for end in ends:
        end.close()


async def test_an_id_is_not_used_twice(bench: Bench) -> None:
    with (
        bench.streams.create(2, Direction.TO_GUEST),
        pytest.raises(HostError, match="open already"),
    ):
        bench.streams.create(2, Direction.TO_GUEST)


async def test_closing_leaves_no_pump(bench: Bench) -> None:
    with (
        bench.streams.create(2, Direction.TO_GUEST),
        bench.streams.create(4, Direction.TO_COMPOSITOR),
    ):
        await bench.frames()
        bench.streams.close()
        assert await bench.frames() == []
        assert not len(bench.streams)
