"""Pings: one at a time, in rows, and never an answer without a question."""

import time

import pytest

from wlproxy.host.pings import ROW, Pings
from wlproxy.protocol.channel.frames import Pong
from wlproxy.protocol.errors import ChannelError


async def test_an_answer_is_a_sample_of_both_clocks() -> None:
    pings = Pings()
    before = time.monotonic_ns()
    ping = pings.ask()
    assert pings.unanswered

    pings.take(Pong(ping.timestamp, 4711))

    [sample] = pings.samples
    assert sample.clock == 4711
    assert before <= sample.sent <= sample.received <= time.monotonic_ns()
    assert not pings.unanswered


async def test_a_guest_that_does_not_tell_its_clock() -> None:
    pings = Pings()

    pings.take(Pong(pings.ask().timestamp))

    assert pings.samples == []


async def test_our_own_clock_is_not_told() -> None:
    assert abs(Pings().ask().timestamp - time.monotonic_ns()) > 10**9


@pytest.mark.parametrize("asked", [False, True])
async def test_what_answers_nothing_is_an_error(asked: bool) -> None:
    pings = Pings()
    timestamp = pings.ask().timestamp if asked else 0

    with pytest.raises(ChannelError, match="without a Ping"):
        pings.take(Pong(timestamp + 1, 1))


async def test_the_same_answer_twice_is_an_error() -> None:
    pings = Pings()
    pong = Pong(pings.ask().timestamp, 1)
    pings.take(pong)

    with pytest.raises(ChannelError, match="without a Ping"):
        pings.take(pong)


async def test_a_row_ends() -> None:
    pings = Pings()
    asked = 0
    while not pings.settled:
        pings.take(Pong(pings.ask().timestamp, 1))
        asked += 1

    assert asked == ROW
    pings.begin_row()
    assert not pings.settled
