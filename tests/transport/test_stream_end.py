"""Ends of all kinds: what is read and written, what is noticed, what is left alone."""

import errno
import os
import pty
import socket
import termios
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.transport import stream_end
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.stream_end import StreamEnd, adopt_end, make_pipe


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Peer:
    """What is passed to us, and the other side of it."""

    def __init__(self, passed: int, read: Callable[[], bytes]) -> None:
        self.passed = passed
        self.read = read


def some_file(closing: ExitStack, path: Path, flags: int) -> Peer:
    fd = os.open(path, flags | os.O_CREAT, 0o600)
    closing.callback(os.close, fd)
    return Peer(fd, path.read_bytes)


def some_socket(closing: ExitStack) -> Peer:
    passed, ours = socket.socketpair()
    closing.enter_context(passed)
    closing.enter_context(ours)
    return Peer(passed.fileno(), lambda: _now(ours.fileno()))


def some_terminal(closing: ExitStack) -> Peer:
    ours, passed = pty.openpty()
    closing.callback(os.close, passed)
    closing.callback(os.close, ours)
    modes = termios.tcgetattr(passed)
    modes[1] &= ~termios.OPOST
    termios.tcsetattr(passed, termios.TCSANOW, modes)
    return Peer(passed, lambda: _now(ours))


def some_pipe(closing: ExitStack) -> Peer:
    ours, passed = os.pipe()
    closing.callback(os.close, passed)
    closing.callback(os.close, ours)
    return Peer(passed, lambda: _now(ours))


def some_fifo(closing: ExitStack, path: Path) -> Peer:
    os.mkfifo(path)
    passed, ours = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY)
    closing.callback(os.close, passed)
    closing.callback(os.close, ours)
    return Peer(passed, lambda: _now(ours))


def _now(fd: int) -> bytes:
    """Read what is there."""
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""
    finally:
        os.set_blocking(fd, True)


KINDS: dict[str, Callable[[ExitStack, Path], Peer]] = {
    "file": lambda closing, path: some_file(closing, path, os.O_WRONLY),
    "file open both ways": lambda closing, path: some_file(closing, path, os.O_RDWR),
    "socket": lambda closing, _: some_socket(closing),
    "terminal": lambda closing, _: some_terminal(closing),
    "pipe": lambda closing, _: some_pipe(closing),
    "fifo": some_fifo,
}


@pytest.fixture(params=["of our own", "of another user", "on an old kernel"])
def whose(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another user's cannot be opened anew; old kernels do not have RWF_NOWAIT."""

    def denied(*_args: object, **_ways: object) -> StreamEnd:
        raise PermissionError(errno.EACCES, "not yours")

    whose: str = request.param
    if whose != "of our own":
        monkeypatch.setattr(stream_end, "_reopen", denied)
    if whose == "on an old kernel":
        monkeypatch.setattr(stream_end, "_pipes_do", lambda: False)
    return whose


def chunks(*data: bytes) -> Callable[[], Awaitable[bytes | None]]:
    waiting = list(data)

    async def take() -> bytes | None:
        await trio.lowlevel.checkpoint()
        return waiting.pop(0) if waiting else None

    return take


def nothing(_amount: int) -> None:
    pass


@pytest.mark.parametrize("kind", KINDS)
async def test_written_to_and_left_as_it_was(
    closing: ExitStack, tmp_path: Path, kind: str, whose: str
) -> None:
    peer = KINDS[kind](closing, tmp_path / "x")
    seen = []
    end = adopt_end(OwnedFd(os.dup(peer.passed)), we_write=True)
    written: list[int] = []

    def note(amount: int) -> None:
        written.append(amount)
        seen.append(os.get_blocking(peer.passed))

    assert await end.write_chunks(chunks(b"he", b"llo"), note)

    got = b""
    with trio.fail_after(10):
        while got != b"hello":
            got += peer.read()
            await trio.lowlevel.checkpoint()
    assert written == [2, 3]
    end.close()
    end.close()
    assert os.get_blocking(peer.passed)
    assert seen == [True, True]


@pytest.mark.parametrize("kind", ["socket", "terminal", "pipe", "fifo"])
async def test_full_it_holds_up_nobody(
    closing: ExitStack, tmp_path: Path, kind: str, whose: str
) -> None:
    peer = KINDS[kind](closing, tmp_path / "x")
    end = adopt_end(OwnedFd(os.dup(peer.passed)), we_write=True)
    data = os.urandom(1 << 19)
    read = bytearray()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                assert await end.write_chunks(chunks(data), nothing)

            nursery.start_soon(write)
            while len(read) < len(data):
                read += peer.read()
                await trio.lowlevel.checkpoint()
    assert bytes(read) == data
    end.close()


async def test_a_terminal_that_is_stopped_can_be_left(closing: ExitStack) -> None:
    """Another user's, whose thread cannot be: but nobody waits for that."""
    peer = some_terminal(closing)
    fd = OwnedFd(os.dup(peer.passed))
    end = stream_end._Shared(fd)  # noqa: SLF001 - needs another user
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end.write_chunks, chunks(bytes(1 << 20)), nothing)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    end.close()
    with trio.fail_after(10):
        while peer.read():  # noqa: ASYNC110 - and so the thread ends
            await trio.sleep(0.01)


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
async def test_an_idle_end_notices_that_nobody_reads(kind: str, whose: str) -> None:
    with ExitStack() as closing:
        peer = KINDS[kind](closing, Path())
        end = adopt_end(OwnedFd(os.dup(peer.passed)), we_write=True)
        results: list[bool] = []

        async def write() -> None:
            results.append(await end.write_chunks(never_a_chunk, nothing))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            assert not results
            closing.close()
        assert results == [False]
        end.close()


async def never_a_chunk() -> bytes | None:
    await trio.sleep_forever()


async def test_what_a_socket_has_to_read_does_not_look_like_its_end() -> None:
    passed, ours = socket.socketpair()
    with ours:
        end = adopt_end(OwnedFd(passed.detach()), we_write=True)
        ours.send(b"not asked for")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end.write_chunks, never_a_chunk, nothing)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert await end.write_chunks(chunks(b"x"), nothing)
        end.close()


async def test_without_an_fd_to_watch_with_the_next_byte_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed, ours = socket.socketpair()
    end = adopt_end(OwnedFd(passed.detach()), we_write=True)

    def none_left() -> None:
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setattr("select.epoll", none_left)
    with ours:
        assert await end.write_chunks(chunks(b"x"), nothing)
        assert ours.recv(10) == b"x"
    assert not await end.write_chunks(chunks(b"x"), nothing)
    end.close()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_read_to_the_end(kind: str, whose: str) -> None:
    if kind == "pipe":
        passed, ours = os.pipe()
    else:
        passed, ours = (each.detach() for each in socket.socketpair())
    end = adopt_end(OwnedFd(passed), we_write=False)
    pieces = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            while piece := await end.read(3):
                pieces.append(piece)

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        os.write(ours, b"text")
        with trio.fail_after(10):
            while pieces != [b"tex", b"t"]:
                await trio.lowlevel.checkpoint()
        os.close(ours)
    end.close()


async def test_a_file_is_read_to_its_end() -> None:
    fd = os.memfd_create("file")
    os.pwrite(fd, b"contents", 0)
    end = adopt_end(OwnedFd(fd), we_write=False)
    assert [await end.read(5), await end.read(5), await end.read(5)] == [
        b"conte",
        b"nts",
        b"",
    ]
    end.close()


def ways() -> Iterator[tuple[str, int, bool]]:
    """Things that are no ends, or not that way."""
    reader, writer = os.pipe()
    yield "read end", reader, True
    yield "write end", writer, False
    yield "directory", os.open("/", os.O_RDONLY), False
    yield "path", os.open("/dev/null", os.O_PATH), True
    yield "kernel's file", os.open("/proc/self/comm", os.O_WRONLY), True
    yield "other side of a terminal", os.open("/dev/ptmx", os.O_RDWR), True
    yield "device", os.open("/dev/urandom", os.O_RDONLY), False


def test_what_is_no_end_is_refused_and_closed() -> None:
    for name, fd, we_write in ways():
        with pytest.raises(OSError, match=r"Bad file|not supported"):
            adopt_end(OwnedFd(fd), we_write=we_write)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
        assert name


async def test_the_null_device_takes_anything() -> None:
    end = adopt_end(OwnedFd(os.open("/dev/null", os.O_RDWR)), we_write=True)
    assert await end.write_chunks(chunks(bytes(1 << 16)), nothing)
    end.close()


async def test_a_full_disk_is_told_like_a_reader_who_left() -> None:
    end = adopt_end(OwnedFd(os.open("/dev/full", os.O_WRONLY)), we_write=True)
    assert not await end.write_chunks(chunks(b"x"), nothing)
    end.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_each_use_is_a_checkpoint(
    closing: ExitStack, tmp_path: Path, kind: str, whose: str
) -> None:
    peer = KINDS[kind](closing, tmp_path / "x")
    end = adopt_end(OwnedFd(os.dup(peer.passed)), we_write=True)
    with trio.testing.assert_checkpoints():
        await end.write_chunks(chunks(b"x"), nothing)
    end.close()


@pytest.mark.parametrize("kind", ["file", "pipe"])
async def test_reading_what_is_there_is_a_checkpoint(kind: str, whose: str) -> None:
    if kind == "file":
        passed, ours = os.memfd_create("file"), -1
        os.pwrite(passed, b"text", 0)
    else:
        passed, ours = os.pipe()
        os.write(ours, b"text")
    end = adopt_end(OwnedFd(passed), we_write=False)
    with trio.testing.assert_checkpoints():
        assert await end.read(2) == b"te"
    with trio.CancelScope() as scope:
        scope.cancel()
        await end.read(2)
    assert scope.cancelled_caught
    assert await end.read(2) == b"xt"
    end.close()
    if ours >= 0:
        os.close(ours)


async def test_without_a_thread_nothing_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    end = adopt_end(OwnedFd(os.memfd_create("file")), we_write=True)
    monkeypatch.setattr("trio._threads.start_thread_soon", no_thread)
    assert not await end.write_chunks(chunks(b"x"), nothing)
    end.close()  # and no_fd_leaks sees to the other


async def test_threads_that_hang_are_no_more_than_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What hangs in a file whose server does not answer stays, whoever gives it up."""
    others = stream_end._UNLIMITED.borrowed_tokens  # noqa: SLF001 - of tests before
    monkeypatch.setattr(stream_end, "MAX_HANGING", others + 3)
    answer, hanging = threading.Event(), 0

    def hang(_number: int, _data: object) -> int:
        nonlocal hanging
        hanging += 1
        answer.wait()
        return 0

    end = adopt_end(OwnedFd(os.memfd_create("file")), we_write=True)
    monkeypatch.setattr("wlproxy.transport.stream_end.os.write", hang)
    refused = 0
    try:
        for _ in range(5):
            async with trio.open_nursery() as nursery:

                async def write() -> None:
                    nonlocal refused
                    refused += not await end.write_chunks(chunks(b"x"), nothing)

                nursery.start_soon(write)
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()
    finally:
        answer.set()
        end.close()
    assert (hanging, refused) == (3, 2)


@given(st.lists(st.binary(min_size=1, max_size=100_000), max_size=5), st.integers(1, 9))
def test_what_goes_in_comes_out(data: list[bytes], size: int) -> None:
    async def main() -> None:
        writing, theirs = make_pipe(we_write=True)
        reading = adopt_end(theirs, we_write=False)
        received = bytearray()
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                assert await writing.write_chunks(chunks(*data), nothing)
                writing.close()

            nursery.start_soon(write)
            while piece := await reading.read(size * 10_000):
                received += piece
        reading.close()
        assert received == b"".join(data)

    trio.run(main)
