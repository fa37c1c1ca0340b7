"""The queue to the compositor: order, fds, credit only for what has left."""

import os
import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from wlproxy.host.compositor_queue import CompositorQueue
from wlproxy.host.fds import FdState, OwnedFd
from wlproxy.host.unix_socket import FdStream


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


async def test_bytes_and_fds_arrive_in_order(pair: tuple[FdStream, FdStream]) -> None:
    queue = CompositorQueue()
    granted: list[int] = []
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
        nursery.start_soon(queue.run, pair[0], granted.append)
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
    queue = CompositorQueue()
    granted: list[int] = []
    big = bytes(4 << 20)
    queue.put(big)
    queue.put_grant(len(big))
    below = trio.Event()

    async def wait_below() -> None:
        await queue.wait_below(1)
        below.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run, pair[0], granted.append)
        nursery.start_soon(wait_below)
        await trio.testing.wait_all_tasks_blocked()
        assert granted == []
        assert queue.unsent_bytes == len(big)
        assert not below.is_set()
        await receive_all(pair[1], len(big))
        await below.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert granted == [len(big)]
        nursery.cancel_scope.cancel()


async def test_dropped_it_holds_nothing(pair: tuple[FdStream, FdStream]) -> None:
    queue = CompositorQueue()
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
    queue = CompositorQueue()
    with OwnedFd(os.memfd_create("test")) as fd:
        queue.put(bytes(4 << 20))
        queue.put(b"x", [fd])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, pair[0], print)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        queue.drop()
    pair[0].shutdown_write()
    assert fd.state is FdState.CLOSED


async def test_a_compositor_that_is_gone(pair: tuple[FdStream, FdStream]) -> None:
    queue = CompositorQueue()
    await pair[1].aclose()
    queue.put(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await queue.run(pair[0], print)
    queue.drop()
