"""Questions about locations that get no answer, and answers that come too late."""

import errno

from wlproxy.host.client.locates import MAX_TURNS, Locates
from wlproxy.protocol.channel.frames import (
    Extent,
    Locate,
    Located,
    LocateStatus,
    Ping,
    Release,
)


def question(location_id: int = 1) -> Locate:
    return Locate(1, location_id, 1, 0, 4096, 0)


def answer(*, more: bool = False) -> Located:
    extents = (Extent(0, 4096),)
    return Located(1, 1, LocateStatus.OK, 0, more=more, extents=extents)


def failure() -> Located:
    status = LocateStatus.FAILED
    return Located(1, 1, status, errno.ETIMEDOUT, more=False, extents=())


def overdue() -> Locates:
    locates = Locates()
    locates.sent(question())
    for _ in range(MAX_TURNS):
        assert locates.turn(1) == []
    assert locates.turn(1) == [failure()]
    assert locates.turn(1) == []
    return locates


def test_what_is_answered_is_not_overdue() -> None:
    locates = Locates()
    locates.sent(question())
    assert locates.answered(answer())
    for _ in range(2 * MAX_TURNS):
        assert locates.turn(1) == []


def test_half_an_answer_is_none() -> None:
    locates = Locates()
    locates.sent(question())
    assert locates.answered(answer(more=True))
    assert [locates.turn(1) for _ in range(MAX_TURNS + 1)][-1] == [failure()]


def test_what_comes_too_late_is_undone() -> None:
    locates = overdue()
    first, last = answer(more=True), answer()
    assert not locates.answered(first)
    assert locates.let_go(first) is None
    assert not locates.answered(last)
    assert locates.let_go(last) == Release(1, 1)


def test_nothing_is_undone_that_failed() -> None:
    locates = overdue()
    assert not locates.answered(failure())
    assert locates.let_go(failure()) is None


def test_what_the_core_has_released_is_not_waited_for() -> None:
    locates = Locates()
    locates.sent(question())
    locates.sent(Ping(1))
    locates.sent(Release(1, 1))
    assert not any(locates.turn(1) for _ in range(2 * MAX_TURNS))


def test_each_question_has_its_own_time() -> None:
    locates = Locates()
    locates.sent(question(2))
    assert locates.turn(1) == []
    locates.sent(question())
    turns = [[each.location_id for each in locates.turn(1)] for _ in range(MAX_TURNS)]
    assert turns == [*[[]] * (MAX_TURNS - 1), [2]]
    assert locates.turn(1) == [failure()]
