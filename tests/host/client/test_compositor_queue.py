"""The queue to the compositor: order, fds, copies, credit only for what has left."""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from tests.host.scripted import Bytes
from wlproxy.host.client.compositor_queue import CompositorQueue
from wlproxy.host.client.pixels import Copy, CopyBuffer, Pages
from wlproxy.memory.guest_memory import RamItem
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import CopyRows
from wlproxy.relay.handles import Handle
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import FdState, OwnedFd

ITEMS = (RamItem(0, 0, 8192),)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FdStream, FdStream]]:
    ours, theirs = socket.socketpair()
    async with FdStream(ours) as left, FdStream(theirs) as right:
        yield left, right


async def receive_all(stream: FdStream, amount: int) -> tuple[bytes, list[OwnedFd]]:
    received, fds = b"", []
    while len(received) < amount:
        data, more = await stream.receive()
        received += data
        fds += more
    return received, fds


async def no_copies(copy: Copy) -> None:
    raise AssertionError(copy)


def never(_: Copy) -> bool:
    return False


def ignore(_: int) -> None:
    """Nobody counts credit."""


def make_queue(
    copy: Callable[[Copy], Awaitable[None]] = no_copies,
    grant: Callable[[int], None] = ignore,
    copy_at_once: Callable[[Copy], bool] = never,
) -> CompositorQueue:
    return CompositorQueue(copy_at_once=copy_at_once, copy=copy, grant=grant)


def rows(start: int, length: int = 100) -> CopyRows:
    return CopyRows(1, Handle(2), ITEMS, start, length, length, 1)


@contextmanager
def buffers(number: int) -> Iterator[list[CopyBuffer]]:
    """Buffers of which nothing is left when they are closed."""
    made = [CopyBuffer(8192) for _ in range(number)]
    for buffer in made:
        buffer.pages = Pages(ITEMS, Bytes(bytes(range(256)) * 32))
    yield made
    for buffer in made:
        buffer.fd.close()
        assert buffer.fd.state is FdState.CLOSED


class Copying:
    """What carries copies out, when the test lets it."""

    def __init__(self) -> None:
        self.done: list[tuple[CopyBuffer, int]] = []
        self.begun: list[CopyBuffer] = []
        self.going = trio.Event()
        self.going.set()

    async def __call__(self, copy: Copy) -> None:
        self.begun.append(copy.target)
        await self.going.wait()
        self.done.append((copy.target, copy.copy_rows()))


async def test_bytes_wait_for_the_copies_before_them(
    pair: tuple[FdStream, FdStream],
) -> None:
    copying = Copying()
    granted: list[int] = []
    queue = make_queue(copying, granted.append)
    copying.going = trio.Event()
    with buffers(2) as (one, two):
        queue.put(b"before ")
        queue.put_copy(rows(0), one)
        queue.put(b"shows one ")
        queue.put_grant(1)
        queue.put_copy(rows(0), two)
        queue.put(b"shows two")
        async with trio.open_nursery() as nursery:
            queue.connect(pair[0])
            nursery.start_soon(queue.run)
            assert (await pair[1].receive())[0] == b"before "
            await trio.testing.wait_all_tasks_blocked()
            assert (copying.begun, granted) == ([one], [])
            copying.going.set()
            data, _ = await receive_all(pair[1], 19)
            assert data == b"shows one shows two"
            assert copying.done == [(one, 100), (two, 100)]
            assert granted == [1]
            nursery.cancel_scope.cancel()


async def test_whoever_waits_for_room_hears_of_it_whoever_makes_it(
    pair: tuple[FdStream, FdStream],
) -> None:
    free = False
    queue = make_queue(copy_at_once=lambda _copy: free)
    queue.connect(pair[0])
    with buffers(1) as (one,):
        queue.put_copy(rows(0), one)
        queue.put(b"x" * 200)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.wait_below, 100)
            queue.flush()
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            free = True
            queue.flush()
            await trio.testing.wait_all_tasks_blocked()
            assert not nursery.child_tasks


async def test_a_buffer_waits_to_be_copied_once(
    pair: tuple[FdStream, FdStream],
) -> None:
    copying = Copying()
    queue = make_queue(copying)
    with buffers(2) as (one, two):
        for start in (0, 200, 200):
            queue.put_copy(rows(start), one)
            queue.put_copy(rows(start), two)
            queue.put(b"shows them")
        async with trio.open_nursery() as nursery:
            queue.connect(pair[0])
            nursery.start_soon(queue.run)
            await receive_all(pair[1], 30)
            assert copying.done == [(one, 200), (two, 200)]
            nursery.cancel_scope.cancel()


async def test_what_comes_when_a_copy_has_begun_is_copied_after_it(
    pair: tuple[FdStream, FdStream],
) -> None:
    """The app may have drawn again where it has been read already."""
    copying = Copying()
    queue = make_queue(copying)
    copying.going = trio.Event()
    with buffers(1) as (one,):
        queue.put_copy(rows(0), one)
        queue.put(b"first")
        async with trio.open_nursery() as nursery:
            queue.connect(pair[0])
            nursery.start_soon(queue.run)
            await trio.testing.wait_all_tasks_blocked()
            assert copying.begun == [one]
            queue.put_copy(rows(0), one)
            queue.put(b"second")
            queue.flush()  # which is for `run`, as it copies
            copying.going.set()
            await receive_all(pair[1], 11)
            assert copying.done == [(one, 100), (one, 100)]
            nursery.cancel_scope.cancel()


async def test_a_buffer_closed_while_it_waits_is_copied_all_the_same(
    pair: tuple[FdStream, FdStream],
) -> None:
    """As `CloseHandle` says: it takes place when all before it has."""
    copying = Copying()
    queue = make_queue(copying)
    with buffers(1) as (one,):
        queue.put_copy(rows(0), one)
        queue.put(b"shows", [one.fd])
        one.fd.close()
        async with trio.open_nursery() as nursery:
            queue.connect(pair[0])
            nursery.start_soon(queue.run)
            _, (fd,) = await receive_all(pair[1], 5)
            with fd:
                assert os.pread(fd.fileno(), 100, 0) == bytes(range(100))
            nursery.cancel_scope.cancel()


async def test_copies_that_wait_are_dropped(pair: tuple[FdStream, FdStream]) -> None:
    copying = Copying()
    queue = make_queue(copying)
    copying.going = trio.Event()
    with buffers(2) as (one, two):
        queue.put_copy(rows(0), one)
        queue.put_copy(rows(0), two)
        async with trio.open_nursery() as nursery:
            queue.connect(pair[0])
            nursery.start_soon(queue.run)
            await trio.testing.wait_all_tasks_blocked()
            assert copying.begun == [one]
            queue.drop()
            queue.put_copy(rows(0), two)
            two.fd.close()
            assert two.fd.state is FdState.CLOSED
            one.fd.close()
            assert one.fd.state is FdState.CLOSING
            with trio.move_on_after(0):  # it is still being copied
                await queue.wait_copied()
                raise AssertionError
            copying.going.set()
            await queue.wait_copied()
            assert copying.done == [(one, 100)]
            nursery.cancel_scope.cancel()


async def test_rows_outside_are_our_own_mistake() -> None:
    queue = make_queue()
    with buffers(1) as (one,):
        with pytest.raises(LocalProtocolError):
            queue.put_copy(rows(8000, 193), one)
        queue.drop()


async def test_bytes_and_fds_arrive_in_order(pair: tuple[FdStream, FdStream]) -> None:
    granted: list[int] = []
    queue = make_queue(grant=granted.append)
    mine = []
    for number in range(5):
        fd = OwnedFd(os.memfd_create("test"))
        os.write(fd.fileno(), bytes([number]))
        queue.put(b"with fd ", [fd])
        queue.put(b"without ")
        queue.put_grant(number)
        fd.close()  # as CloseHandle does, while it still waits
        mine.append(fd)
    assert {fd.state for fd in mine} == {FdState.CLOSING}
    async with trio.open_nursery() as nursery:
        queue.connect(pair[0])
        nursery.start_soon(queue.run)
        data, fds = await receive_all(pair[1], 5 * 16)
        assert data == b"with fd without " * 5
        for number, fd in enumerate(fds):
            assert os.pread(fd.fileno(), 9, 0) == bytes([number])
            fd.close()
        await trio.testing.wait_all_tasks_blocked()
        assert granted == list(range(5))
        assert {fd.state for fd in mine} == {FdState.CLOSED}
        nursery.cancel_scope.cancel()


async def test_credit_waits_for_a_stalled_compositor(
    pair: tuple[FdStream, FdStream],
) -> None:
    granted: list[int] = []
    queue = make_queue(grant=granted.append)
    big = bytes(4 << 20)
    queue.put(big)
    queue.put_grant(len(big))
    below = trio.Event()

    async def wait_below() -> None:
        await queue.wait_below(1)
        below.set()

    async with trio.open_nursery() as nursery:
        queue.connect(pair[0])
        nursery.start_soon(queue.run)
        nursery.start_soon(wait_below)
        await trio.testing.wait_all_tasks_blocked()
        assert granted == []
        assert queue.unsent_bytes == len(big) - pair[0].sent > 0
        assert not below.is_set()
        await receive_all(pair[1], len(big))
        await below.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert granted == [len(big)]
        nursery.cancel_scope.cancel()


async def test_dropped_it_holds_nothing(pair: tuple[FdStream, FdStream]) -> None:
    queue = make_queue()
    with OwnedFd(os.memfd_create("test")) as fd:
        queue.put(b"x", [fd])
        queue.put_grant(1)
        queue.drop()
        queue.put(b"x", [fd])
        queue.put_grant(1)
        assert queue.unsent_bytes == 0
    assert fd.state is FdState.CLOSED


async def test_cancelled_in_the_middle_it_holds_nothing(
    pair: tuple[FdStream, FdStream],
) -> None:
    queue = make_queue()
    with OwnedFd(os.memfd_create("test")) as fd:
        queue.put(bytes(4 << 20))
        queue.put(b"x", [fd])
        async with trio.open_nursery() as nursery:
            queue.connect(pair[0])
            nursery.start_soon(queue.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        queue.drop()
    pair[0].shutdown_write()
    assert fd.state is FdState.CLOSED


async def test_a_compositor_that_is_gone(pair: tuple[FdStream, FdStream]) -> None:
    queue = make_queue()
    await pair[1].aclose()
    queue.put(b"x")
    queue.connect(pair[0])
    with pytest.raises(trio.BrokenResourceError):
        await queue.run()
    queue.drop()


async def test_what_need_not_wait_is_sent_at_once(
    pair: tuple[FdStream, FdStream],
) -> None:
    granted: list[int] = []
    copied: list[CopyBuffer] = []

    def copy_at_once(copy: Copy) -> bool:
        copied.append(copy.target)
        return copy.copy_rows() > 0

    queue = make_queue(grant=granted.append, copy_at_once=copy_at_once)
    with buffers(1) as (one,):
        queue.put(b"before it is connected ")
        queue.connect(pair[0])
        queue.put_copy(rows(0), one)
        queue.put(b"shows")
        queue.put_grant(7)
        assert not copied
        queue.flush()
        assert (copied, granted) == ([one], [7])
        assert queue.unsent_bytes == 0
    assert (await pair[1].receive())[0] == b"before it is connected shows"


async def test_what_a_compositor_takes_later_is_in_order(
    pair: tuple[FdStream, FdStream],
) -> None:
    granted: list[int] = []
    queue = make_queue(grant=granted.append)
    queue.connect(pair[0])
    big = bytes(range(256)) * 4096
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        for number in range(4):
            queue.put(big)
            queue.put_grant(number)
            queue.flush()
        assert granted == []
        data, _ = await receive_all(pair[1], 4 * len(big))
        await trio.testing.wait_all_tasks_blocked()
        assert granted == [0, 1, 2, 3]
        queue.put(b"last")
        queue.flush()
        nursery.cancel_scope.cancel()
    assert data == 4 * big
    assert (await pair[1].receive())[0] == b"last"
