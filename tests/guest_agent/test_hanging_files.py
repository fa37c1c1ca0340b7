"""Files whose server does not answer: told from others, and closed, without waiting."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.guest_agent.conftest import Agent
from tests.guest_agent.fakes import PAGE, FakeHost, opened
from tests.guest_agent.hung_fuse import SIZE, HungFile
from wlproxy.protocol.channel.frames import (
    AttachmentFlags,
    CloseReason,
    Data,
    Locate,
    Located,
    LocateStatus,
    OpenStream,
    Ping,
    Pong,
    StreamClosed,
)
from wlproxy_guest import hanging_files as foreign
from wlproxy_guest import streams, workers
from wlproxy_guest.attachments import describe_fd
from wlproxy_guest.hanging_files import (
    LARGE,
    MAX_CLOSING,
    known_status,
    may_hang,
    own,
)
from wlproxy_guest.locating import locations


@pytest.fixture
def hung() -> Iterator[int]:
    """An fd of a file whose file system answers nothing."""
    with tempfile.TemporaryDirectory() as directory, HungFile(Path(directory)) as file:
        yield file.fd


def test_status_is_what_fstat_says(tmp_path: Path, closing: ExitStack) -> None:
    fds = [os.memfd_create("x"), os.open(tmp_path, os.O_RDONLY), *os.pipe()]
    os.ftruncate(fds[0], 12345)
    for fd in fds:
        closing.callback(os.close, fd)
        known, status = known_status(fd), os.fstat(fd)
        assert (known.mode, known.device) == (status.st_mode, status.st_dev)
        assert known.size == status.st_size


def test_status_of_no_fd() -> None:
    with pytest.raises(OSError, match="Bad file"):
        known_status(-1)


def test_memory_and_pipes_do_not_hang(closing: ExitStack) -> None:
    shm = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)
    for fd in (os.memfd_create("x"), shm, *os.pipe()):
        closing.callback(os.close, fd)
        assert not may_hang(fd)


def test_a_file_elsewhere_may(closing: ExitStack) -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    closing.callback(os.close, fd)
    assert may_hang(fd)


async def closed(fd: int) -> None:
    with trio.fail_after(10):
        while True:
            try:
                os.fstat(fd)
            except OSError:
                return
            await trio.sleep(0.001)


async def test_what_may_hang_is_closed_elsewhere() -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    own(fd).close()
    await closed(fd)


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def large_memory() -> int:
    fd = os.memfd_create("pool")
    os.ftruncate(fd, LARGE)
    return fd


async def test_much_memory_is_given_back_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """95 MiB take 23 ms, which other apps would wait for."""
    started: list[Callable[[], None]] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            trio.lowlevel, "start_thread_soon", lambda run, _: started.append(run)
        )
        fd = large_memory()
        own(fd).close()
    os.fstat(fd)  # it is open
    assert len(started) == 1
    started[0]()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


async def test_files_that_hang_do_not_keep_memory(hung: int) -> None:
    for _ in range(MAX_CLOSING + 1):
        own(os.dup(hung)).close()
    fd = large_memory()
    own(fd).close()
    await closed(fd)


async def test_memory_is_given_back_without_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fd = large_memory()
    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        own(fd).close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


async def test_without_a_thread_it_is_closed_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (os.open("/proc/self/status", os.O_RDONLY) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        own(first).close()
    own(second).close()
    await closed(first)
    await closed(second)


def test_hung_file_is_described_and_closed_at_once(hung: int) -> None:
    started = time.monotonic()
    description = describe_fd(hung)
    assert description.size == SIZE
    assert may_hang(hung)
    with own(os.dup(hung)) as fd:
        fd.duplicate().close()
    assert time.monotonic() - started < 5


async def test_hung_file_costs_its_own_location_only(
    agent: Agent, host: FakeHost, hung: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: reading the file's pages hangs in the kernel."""
    monkeypatch.setattr(locations, "LOCATE_SECONDS", 0.1)
    monkeypatch.setattr(workers, "LAST_MOMENT", 0)
    locate = agent.locator.locate

    def read_first(fd: int, *args: int) -> object:
        os.pread(fd, 1, 0)
        return locate(fd, *args)

    monkeypatch.setattr(agent.locator, "locate", read_first)
    pool = os.memfd_create("pool")
    os.ftruncate(pool, PAGE)
    with await agent.connect() as app:
        client = await opened(host)
        await app.send(b"x", hung, pool)
        foreign_memory, memory = (await host.expect(Data)).attachments
        statuses = []
        for number in range(1, 5):
            await host.send(
                Locate(client, number, foreign_memory.object_id, 0, PAGE, 0)
            )
            located = await host.expect(Located)
            statuses.append((located.status, os.strerror(located.errno)))
        await host.send(Locate(client, 5, memory.object_id, 0, PAGE, 0))
        assert (await host.expect(Located)).status is LocateStatus.OK
    os.close(pool)

    # The last two without a thread: the client has two already that hang.
    assert statuses == [(LocateStatus.FAILED, "Connection timed out")] * 4


async def test_hung_file_costs_its_own_stream_only(
    agent: Agent, host: FakeHost, hung: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a file is, is asked before it is read or written."""
    monkeypatch.setattr(workers, "LAST_MOMENT", 0)
    with await agent.connect() as app:
        client = await opened(host)
        await app.send(b"x", hung, hung)
        memories = [one.object_id for one in (await host.expect(Data)).attachments]
        flags = (AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES)
        with monkeypatch.context() as patch:
            patch.setattr(streams, "ADOPT_SECONDS", 0.1)
            for stream, memory, way in zip((1, 3), memories, flags, strict=True):
                await host.send(OpenStream(client, memory, stream, way))
                await host.send(Ping(stream))
                assert (await host.expect(Pong)).timestamp == stream
                closed = await host.expect(StreamClosed)
                assert closed == StreamClosed(client, stream, CloseReason.FAILED)


def test_device_of_memfds_is_not_a_tmpfs_mount(closing: ExitStack) -> None:
    fd = os.memfd_create("x")
    closing.callback(os.close, fd)
    device = known_status(fd).device
    assert not foreign._is_tmpfs(device)  # noqa: SLF001 - hidden by what asks it
