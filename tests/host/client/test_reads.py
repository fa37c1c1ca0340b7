"""Files of the guest that become sealed memfds of the host's."""

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import chunked
from tests.transport.frames import taken
from wlproxy.host.client.handles import Handles
from wlproxy.host.client.reads import READ_SECONDS, SEALS, FileReads
from wlproxy.protocol.channel.frames import (
    ClientOpened,
    CloseReason,
    Credit,
    ReadMemory,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import STREAM_LIMITS, StreamLimits
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Windows
from wlproxy.relay.commands import ReadFile
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FileRead
from wlproxy.transport.lane_tasks import LaneTasks

PROFILE = b"a measured profile" * 5000
HANDLE = Handle(2)


class Bench:
    """A client whose app has said where a profile is."""

    def __init__(
        self, nursery: trio.Nursery, limits: StreamLimits = STREAM_LIMITS
    ) -> None:
        self.lanes = LaneTasks(
            Lanes(Side.HOST, Windows(), Windows(), limits), lambda: None
        )
        self.lanes.receive(ClientOpened(1, 1, 2, 3, "app"))
        self.handles = Handles()
        self.answers: list[FileRead] = []
        self.reads = FileReads(
            self.handles,
            self.lanes,
            lambda _client, run: nursery.start_soon(run),
            self.answers.append,
        )

    async def begin(self, size: int) -> None:
        """As the core's two commands do."""
        self.lanes.put(ReadMemory(1, 1, 1, 0, size))
        self.reads.read(ReadFile(1, 1, HANDLE, size))
        await trio.testing.wait_all_tasks_blocked()

    async def send(self, *pieces: bytes) -> None:
        for piece in filter(None, pieces):
            self.lanes.receive(StreamData(1, 1, piece))
        await trio.testing.wait_all_tasks_blocked()

    async def end(self, reason: CloseReason = CloseReason.NORMAL) -> None:
        self.lanes.receive(StreamClosed(1, 1, reason))
        await trio.testing.wait_all_tasks_blocked()

    def contents(self) -> bytes:
        fd = self.handles.get(HANDLE).fileno()
        return os.pread(fd, os.fstat(fd).st_size + 1, 0)


@pytest.fixture
async def bench(nursery: trio.Nursery) -> AsyncIterator[Bench]:
    bench = Bench(nursery)
    yield bench
    bench.handles.close_all()


async def test_a_file_arrives_whole_and_stays_as_it_is(bench: Bench) -> None:
    await bench.begin(len(PROFILE))
    for start in range(0, len(PROFILE), 30_000):
        assert not bench.answers
        await bench.send(PROFILE[start : start + 30_000])

    assert bench.answers == [FileRead(1, HANDLE, whole=True)]
    assert bench.contents() == PROFILE
    fd = bench.handles.get(HANDLE).fileno()
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == SEALS
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    frames = taken(bench.lanes)
    assert frames[0] == ReadMemory(1, 1, 1, 0, len(PROFILE))
    assert frames[-1] == StreamClosed(1, 1, CloseReason.NORMAL)
    assert any(isinstance(frame, Credit) for frame in frames)


@pytest.mark.parametrize("arrived", [0, 1, 999])
@pytest.mark.parametrize("reason", [CloseReason.NORMAL, CloseReason.FAILED])
async def test_a_file_that_ends_before(
    bench: Bench, arrived: int, reason: CloseReason
) -> None:
    await bench.begin(1000)
    await bench.send(PROFILE[:arrived])
    await bench.end(reason)

    assert bench.answers == [FileRead(1, HANDLE, whole=False)]
    assert HANDLE not in bench.handles


async def test_what_nobody_asked_for_is_dropped(bench: Bench) -> None:
    await bench.begin(1000)
    await bench.send(PROFILE[:600], PROFILE[600:1200])

    assert bench.answers == [FileRead(1, HANDLE, whole=True)]
    assert bench.contents() == PROFILE[:1000]
    await bench.send(b"more")
    await bench.end()
    assert len(bench.answers) == 1


async def test_a_stream_that_is_one_too_many(nursery: trio.Nursery) -> None:
    bench = Bench(nursery, StreamLimits(0, 0))

    await bench.begin(1000)

    assert bench.answers == [FileRead(1, HANDLE, whole=False)]


async def test_a_guest_that_sends_nothing_more(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    await bench.begin(1000)
    await bench.send(PROFILE[:500])
    await trio.sleep(READ_SECONDS - 1)
    assert not bench.answers

    await trio.sleep(2)

    assert bench.answers == [FileRead(1, HANDLE, whole=False)]
    assert taken(bench.lanes)[-1] == StreamClosed(1, 1, CloseReason.NORMAL)


async def test_a_client_that_is_closed_is_told_nothing(bench: Bench) -> None:
    await bench.begin(1000)
    await bench.send(PROFILE[:500])

    bench.reads.stop()
    await trio.testing.wait_all_tasks_blocked()

    assert not bench.answers
    assert not len(bench.handles)
    assert taken(bench.lanes)[-1] == StreamClosed(1, 1, CloseReason.NORMAL)


async def test_a_client_that_is_closed_just_then(bench: Bench) -> None:
    """The last bytes are here, and the task has not run yet."""
    await bench.begin(1000)
    bench.lanes.receive(StreamData(1, 1, PROFILE[:1000]))
    bench.reads.stop()
    await trio.testing.wait_all_tasks_blocked()

    assert not bench.answers
    assert not len(bench.handles)


@contextmanager
def no_fds() -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    taken_up = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many"):  # noqa: PT012 - until it does
            while True:
                taken_up.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken_up:
            os.close(fd)


async def test_no_fd_is_left(bench: Bench) -> None:
    with no_fds():
        await bench.begin(1000)

    assert bench.answers == [FileRead(1, HANDLE, whole=False)]


@given(st.data(), st.binary(max_size=200), st.integers(1, 200))
def test_whatever_comes_in_whatever_pieces(
    data: st.DataObject, contents: bytes, size: int
) -> None:
    """What is whole is what was sent; less is nothing."""
    pieces = data.draw(chunked(contents))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            bench = Bench(nursery)
            await bench.begin(size)
            await bench.send(*pieces)
            await bench.end()
            whole = len(contents) >= size
            assert bench.answers == [FileRead(1, HANDLE, whole)]
            if whole:
                assert bench.contents() == contents[:size]
            bench.handles.close_all()

    trio.run(main)
