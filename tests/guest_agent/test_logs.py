"""How many lines of a kind are written."""

import io
import logging
import time
from collections.abc import Iterator

import pytest

from wlproxy_guest.logs import FIRST, WINDOW, LimitedHandler


class Log:
    """A log whose clock is the test's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stream = io.StringIO()
        self.handler = LimitedHandler(self.stream)
        self.logger = logging.Logger("test", logging.DEBUG)  # noqa: LOG001 - not shared
        self.logger.addHandler(self.handler)

    def lines(self) -> list[str]:
        """What was written since this was last asked."""
        lines = self.stream.getvalue().splitlines()
        self.stream.seek(0)
        self.stream.truncate()
        return lines


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    log = Log()
    monkeypatch.setattr(time, "monotonic", lambda: log.now)
    yield log
    log.handler.close()


def test_the_first_of_a_kind_are_written_and_the_others_counted(log: Log) -> None:
    for number in range(1, FIRST + 6):
        log.logger.warning("app %d is odd", number)
    assert log.lines() == [f"app {number} is odd" for number in range(1, FIRST + 1)]

    log.logger.warning("of another kind")
    assert log.lines() == ["of another kind"]

    log.now += WINDOW
    log.logger.info("later")
    assert log.lines() == [f"app {FIRST + 5} is odd (and 4 more like it)", "later"]
    log.logger.warning("app %d is odd", 99)
    assert log.lines() == ["app 99 is odd"]


def test_levels_are_kinds(log: Log) -> None:
    for _ in range(FIRST + 1):
        log.logger.warning("odd")
    log.logger.error("odd")
    assert log.lines() == ["odd"] * (FIRST + 1)


def test_what_is_held_back_is_said_in_the_end(log: Log) -> None:
    for _ in range(FIRST + 1):
        log.logger.warning("odd")
    assert log.lines() == ["odd"] * FIRST
    log.handler.close()
    assert log.lines() == ["odd"]


def test_debugging_has_no_limit(log: Log) -> None:
    for _ in range(5 * FIRST):
        log.logger.debug("detail")
    assert len(log.lines()) == 5 * FIRST
