"""The round of clients that have something to do."""

import trio
import trio.testing

from wlproxy.host.client.turns import Turns


def test_everybody_has_one_turn_after_the_other() -> None:
    turns = Turns()
    for client_id in (1, 2, 1, 3, 1):
        turns.add(client_id)

    taken = []
    for _ in range(5):
        taken.append(turns.take())
        turns.add(1)

    assert taken == [1, 2, 3, 1, 1]


def test_there_may_be_nobody() -> None:
    turns = Turns()
    turns.call()
    assert turns.take() is None


async def test_a_turn_is_waited_for_and_always_a_checkpoint() -> None:
    turns = Turns()
    async with trio.open_nursery() as nursery:
        taken: list[int | None] = []

        async def take() -> None:
            await turns.wait()
            taken.append(turns.take())

        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        turns.add(7)
        await trio.testing.wait_all_tasks_blocked()
        assert not taken  # whoever added it may take it, too
        turns.call()
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [7]
    turns.add(8)
    with trio.testing.assert_checkpoints():
        await turns.wait()
