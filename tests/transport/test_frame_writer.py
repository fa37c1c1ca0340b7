"""Frames leave at once as far as they are taken; one task sends the rest, in order."""

from collections import deque

import pytest
import trio
import trio.testing

from wlproxy.transport.frame_writer import BATCH, FrameWriter


class Broken(Exception):  # noqa: N818 - what a sink says whose peer is gone
    pass


class Room:
    """A sink that has room for so many bytes."""

    def __init__(self) -> None:
        self.room = 1 << 30
        self.taken = bytearray()
        self.broken = False
        self._rest = b""
        self._more = trio.lowlevel.ParkingLot()

    @property
    def backlog(self) -> bool:
        return bool(self._rest)

    def send_at_once(self, data: bytes) -> bool:
        self._rest += data
        now, self._rest = self._rest[: self.room], self._rest[self.room :]
        self.taken += now
        self.room -= len(now)
        return not self._rest

    async def flush(self) -> None:
        while self._rest:
            if self.broken:
                raise Broken
            if not self.room:
                await self._more.park()
            self.send_at_once(b"")

    def more(self, room: int) -> None:
        self.room += room
        self._more.unpark_all()


class Due:
    """What is due: batches, and how often somebody asked for one."""

    def __init__(self, *batches: bytes) -> None:
        self.batches = deque(batches)
        self.asked = 0

    def next_batch(self) -> bytes:
        self.asked += 1
        return self.batches.popleft() if self.batches else b""


async def test_what_is_taken_at_once_needs_no_task() -> None:
    sink, due = Room(), Due(b"one")
    FrameWriter(sink, due.next_batch).flush()
    assert sink.taken == b"one"
    assert due.asked == 1  # that was no full batch: there is no more


async def test_after_a_full_batch_there_may_be_more() -> None:
    sink, due = Room(), Due(bytes(BATCH), b"rest")
    FrameWriter(sink, due.next_batch).flush()
    assert sink.taken == bytes(BATCH) + b"rest"


async def test_nothing_is_asked_for_while_something_is_left() -> None:
    sink, due = Room(), Due(b"first", b"second")
    writer = FrameWriter(sink, due.next_batch)
    sink.room = 2
    writer.flush()
    writer.flush()
    assert sink.taken == b"fi"
    assert list(due.batches) == [b"second"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write_rest)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(writer.sent)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2
        sink.more(100)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1  # all is sent
        nursery.cancel_scope.cancel()
    assert sink.taken == b"firstsecond"


async def test_the_task_is_woken_for_what_is_left() -> None:
    sink, due = Room(), Due()
    writer = FrameWriter(sink, due.next_batch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write_rest)
        await trio.testing.wait_all_tasks_blocked()
        sink.room = 1
        due.batches.append(b"late")
        writer.flush()
        assert sink.taken == b"l"
        await trio.testing.wait_all_tasks_blocked()
        sink.more(100)
        await trio.testing.wait_all_tasks_blocked()
        assert sink.taken == b"late"
        nursery.cancel_scope.cancel()


async def test_nobody_waits_for_a_peer_that_is_gone() -> None:
    sink, due = Room(), Due(b"lost")
    writer = FrameWriter(sink, due.next_batch)
    sink.room = 0
    sink.broken = True
    writer.flush()

    with pytest.raises(Broken):
        await writer.write_rest()

    with trio.fail_after(30):
        await writer.sent()
    assert sink.backlog
