from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from wlproxy.host.client.asking import Ask, Asking, ask_nobody
from wlproxy.relay.commands import AskUser, Direction
from wlproxy.relay.inputs import Input, UserAnswered

FIRST, SECOND = (
    AskUser(7, number, Direction.TO_GUEST, "clipboard", "app", "text/plain")
    for number in (1, 2)
)


async def ask_forever(_question: AskUser) -> bool:
    await trio.sleep_forever()


async def ask_somebody(_question: AskUser) -> bool:
    await trio.lowlevel.checkpoint()
    return True


def asking(ask: Ask, nursery: trio.Nursery, answers: list[Input]) -> Asking:
    def start(client_id: int, run: Callable[[], Awaitable[None]]) -> None:
        assert client_id == 7
        nursery.start_soon(run)

    return Asking(ask, start, answers.append)


@pytest.mark.parametrize(("ask", "says"), [(ask_nobody, False), (ask_somebody, True)])
async def test_the_answer_is_an_input(ask: Ask, *, says: bool) -> None:
    answers: list[Input] = []
    async with trio.open_nursery() as nursery:
        asking(ask, nursery, answers).ask(FIRST)
    assert answers == [UserAnswered(7, 1, says)]


async def test_what_is_asked_no_more_is_not_answered() -> None:
    answers: list[Input] = []
    async with trio.open_nursery() as nursery:
        user = asking(ask_forever, nursery, answers)
        user.ask(FIRST)
        await trio.testing.wait_all_tasks_blocked()
        user.ask(SECOND)  # which ends the first
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        user.stop()
    assert not answers
