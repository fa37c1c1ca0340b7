"""Questions about locations that get no answer, and answers that come too late."""

import errno

from wlproxy.host.locates import MAX_TURNS, Locates
from wlproxy.protocol.channel.frames import (
    Extent,
    Locate,
    Located,
    LocateStatus,
    Ping,
    Release,
)


def question(client_id: int = 1, location_id: int = 1) -> Locate:
    return Locate(client_id, location_id, 1, 0, 4096, 0)


def answer(*, client_id: int = 1, more: bool = False) -> Located:
    extents = (Extent(0, 4096),)
    return Located(client_id, 1, LocateStatus.OK, 0, more=more, extents=extents)


def failure(client_id: int = 1) -> Located:
    status = LocateStatus.FAILED
    return Located(client_id, 1, status, errno.ETIMEDOUT, more=False, extents=())


def overdue() -> Locates:
    locates = Locates()
    locates.sent(question())
    for _ in range(MAX_TURNS):
        assert locates.turn() == []
    assert locates.turn() == [failure()]
    assert locates.turn() == []
    return locates


def test_what_is_answered_is_not_overdue() -> None:
    locates = Locates()
    locates.sent(question())
    assert locates.answered(answer())
    for _ in range(2 * MAX_TURNS):
        assert locates.turn() == []


def test_half_an_answer_is_none() -> None:
    locates = Locates()
    locates.sent(question())
    assert locates.answered(answer(more=True))
    assert [locates.turn() for _ in range(MAX_TURNS + 1)][-1] == [failure()]


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
    assert not any(locates.turn() for _ in range(2 * MAX_TURNS))


def test_a_client_that_has_gone_is_forgotten() -> None:
    locates = overdue()
    locates.sent(question(2))
    locates.sent(question(1, 2))
    locates.forget_client(1)
    assert locates.answered(answer())  # whose it is, the core says
    assert [locates.turn() for _ in range(MAX_TURNS + 1)][-1] == [failure(2)]
