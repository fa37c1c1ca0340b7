"""The order in which frames leave, and who waits for that."""

import pytest
import trio
import trio.testing

from wlproxy.protocol.channel.frames import Data, Frame, Pong
from wlproxy_guest.outbox import LANE_DEPTH, MAX_URGENT, Outbox


@pytest.fixture
def ready() -> trio.lowlevel.ParkingLot:
    return trio.lowlevel.ParkingLot()


@pytest.fixture
def outbox(ready: trio.lowlevel.ParkingLot) -> Outbox:
    return Outbox(ready)


def drain(outbox: Outbox) -> list[Frame]:
    frames = []
    while (frame := outbox.take()) is not None:
        frames.append(frame)
    return frames


async def test_lanes_take_turns_and_keep_their_order(outbox: Outbox) -> None:
    for number in range(3):
        outbox.put(1, Data(1, b"%d" % number))
    outbox.put(2, Data(2, b"0"))

    assert drain(outbox) == [Data(1, b"0"), Data(2, b"0"), Data(1, b"1"), Data(1, b"2")]


async def test_answers_go_first(outbox: Outbox) -> None:
    outbox.put(1, Data(1, b"x"))
    outbox.put_urgent(Pong(1))
    outbox.put_urgent(Pong(2))

    assert drain(outbox) == [Pong(1), Pong(2), Data(1, b"x")]


async def test_full_lane_has_no_room_until_one_is_taken(outbox: Outbox) -> None:
    for _ in range(LANE_DEPTH):
        await outbox.room(1)
        outbox.put(1, Data(1, b"x"))
    await outbox.room(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.room, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        outbox.take()


async def test_questions_wait_while_many_answers_do(outbox: Outbox) -> None:
    await outbox.answered()
    for number in range(MAX_URGENT + 1):
        outbox.put_urgent(Pong(number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.answered)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        outbox.take()


@pytest.mark.parametrize("urgent", [True, False])
async def test_putting_wakes_whoever_takes(
    outbox: Outbox, ready: trio.lowlevel.ParkingLot, urgent: bool
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.park)
        await trio.testing.wait_all_tasks_blocked()
        if urgent:
            outbox.put_urgent(Pong(1))
        else:
            outbox.put(1, Data(1, b"x"))


async def test_closing_drops_everything_and_wakes_everybody(outbox: Outbox) -> None:
    for number in range(MAX_URGENT + 1):
        outbox.put(1, Data(1, b"x"))
        outbox.put_urgent(Pong(number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.room, 1)
        nursery.start_soon(outbox.answered)
        await trio.testing.wait_all_tasks_blocked()
        outbox.close()
    outbox.put(1, Data(1, b"x"))
    outbox.put_urgent(Pong(1))

    assert drain(outbox) == []
