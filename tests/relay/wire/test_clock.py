"""The guest's clock: whatever the latencies, what is said about it is true."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from wlproxy.relay.inputs import ClockSample
from wlproxy.relay.wire.clock import (
    DRIFT_PPM,
    GOOD_ERROR,
    SETTLED,
    SLOW,
    GuestClock,
)

MS = 1_000_000
SECOND = 1000 * MS
DAY = 86400 * SECOND
ROUNDING = 4
"""Nanoseconds: of the simulated clock, which goes by fractions."""

latencies = st.integers(0, 300 * MS) | st.integers(0, MS)
pauses = st.integers(0, 60 * SECOND)
trips = st.lists(st.tuples(pauses, latencies, latencies), min_size=1, max_size=30)
starts = st.integers(1, 1000 * DAY)


@dataclass
class Guest:
    """A guest's clock, as its hardware makes it go."""

    offset: int
    drift_ppm: float = 0.0

    def at(self, now: int) -> int:
        return now + self.offset_at(now)

    def offset_at(self, now: int) -> int:
        return self.offset + round(now * self.drift_ppm / 1e6)

    def ping(self, sent: int, there: int, back: int) -> ClockSample:
        asked = sent + there
        return ClockSample(sent, self.at(asked), asked + back)


def is_true(clock: GuestClock, guest: Guest, now: int) -> bool:
    wrong = abs(clock.offset - guest.offset_at(now))
    return wrong <= clock.error(now) + ROUNDING


@given(starts, starts, st.floats(-DRIFT_PPM, DRIFT_PPM), trips, pauses)
def test_the_error_is_never_more_than_is_said(
    now: int,
    ahead: int,
    drift: float,
    pings: list[tuple[int, int, int]],
    rest: int,
) -> None:
    guest, clock = Guest(ahead - 500 * DAY, drift), GuestClock()

    for pause, there, back in pings:
        now += pause
        assert not clock.known or is_true(clock, guest, now)
        sample = guest.ping(now, there, back)
        clock.measure(sample)
        now = sample.received
        assert clock.known
        assert is_true(clock, guest, now)
    assert is_true(clock, guest, now + rest)


@given(starts, trips)
def test_the_shortest_round_trip_says_how_well_it_is_known(
    now: int, pings: list[tuple[int, int, int]]
) -> None:
    guest, clock = Guest(DAY), GuestClock()

    for _, there, back in pings[:SETTLED]:
        sample = guest.ping(now, there, back)
        clock.measure(sample)
        now = sample.received

    best = min(there + back for _, there, back in pings[:SETTLED])
    aged = sum(there + back for _, there, back in pings[:SETTLED])
    assert clock.error(now) <= best // 2 + 3 * aged * DRIFT_PPM // 1_000_000 + ROUNDING


@given(
    trips,
    st.integers(2 * SECOND, 40 * DAY) | st.integers(-40 * DAY, -2 * SECOND),
    st.tuples(latencies, latencies),
)
def test_a_jump_is_followed_by_the_next_answer(
    pings: list[tuple[int, int, int]], jump: int, trip: tuple[int, int]
) -> None:
    guest, clock, now = Guest(100 * DAY), GuestClock(), DAY
    for pause, there, back in pings:
        sample = guest.ping(now + pause, there, back)
        clock.measure(sample)
        now = sample.received

    guest.offset += jump
    sample = guest.ping(now + SECOND, *trip)
    clock.measure(sample)

    assert is_true(clock, guest, sample.received)
    assert not clock.settled  # more is asked at once


def test_a_guest_that_was_paused_with_a_ping_on_its_way() -> None:
    guest, clock = Guest(DAY), GuestClock()
    for index in range(SETTLED):
        clock.measure(guest.ping(index * SECOND, MS, MS))
    settled = clock.settled

    # It stood still for an hour with the question in hand: the answer fits both before
    # and after, so that another is needed, at once.
    guest.offset -= 3600 * SECOND
    clock.measure(
        ClockSample(10 * SECOND, guest.at(3610 * SECOND), 3610 * SECOND + SLOW)
    )
    assert (settled, clock.settled) == (True, False)
    clock.measure(guest.ping(3611 * SECOND, MS, MS))

    assert is_true(clock, guest, 3612 * SECOND)
    assert clock.error(3612 * SECOND) < 2 * MS


def test_drift_is_followed() -> None:
    guest, clock, worst = Guest(DAY, drift_ppm=150.0), GuestClock(), 0
    for now in range(0, 3600 * SECOND, 5 * SECOND):
        clock.measure(guest.ping(now, MS // 2, MS // 2))
        worst = max(worst, abs(clock.offset - guest.offset_at(now + 5 * SECOND)))

    assert guest.offset_at(3600 * SECOND) - DAY == 540 * MS
    assert worst <= 2 * MS


def test_clocks_that_drift_more_than_any_should_are_followed_too() -> None:
    guest, clock = Guest(DAY, drift_ppm=80_000.0), GuestClock()  # chronyd's fastest

    for now in range(0, 600 * SECOND, 5 * SECOND):
        clock.measure(guest.ping(now, MS // 2, MS // 2))
        assert abs(clock.offset - guest.offset_at(now)) < MS


def test_what_was_told_is_not_taken_back_without_need() -> None:
    guest, clock = Guest(DAY), GuestClock()
    for index in range(SETTLED):
        clock.measure(guest.ping(index * SECOND, MS, MS))
    before = clock.offset

    for index in range(100):
        clock.measure(guest.ping((20 + 5 * index) * SECOND, index * MS // 50, MS))
        assert clock.offset == before


def test_one_clock_on_both_sides_is_taken_for_one() -> None:
    guest, clock = Guest(0), GuestClock()

    for index in range(30):
        clock.measure(guest.ping(index * SECOND, index * MS, MS))
        assert clock.offset == 0


@given(st.lists(st.integers(1, (1 << 64) - 1), max_size=20))
def test_any_clock_can_be_told(clocks: list[int]) -> None:
    clock = GuestClock()

    for now, told in enumerate(clocks):
        clock.measure(ClockSample(now * SECOND, told, now * SECOND + MS))
        assert clock.error(now * SECOND + MS) <= 5 * SECOND
        assert clock.milliseconds * MS <= clock.offset < clock.milliseconds * MS + MS


def test_it_is_trusted_once_it_is_known_well_for_good() -> None:
    guest, clock = Guest(DAY), GuestClock()
    assert (clock.known, clock.trusted, clock.offset) == (False, False, 0)

    clock.measure(guest.ping(SECOND, GOOD_ERROR, 2 * GOOD_ERROR))
    assert (clock.known, clock.trusted) == (True, False)
    clock.measure(guest.ping(2 * SECOND, MS, GOOD_ERROR))
    assert clock.trusted
    guest.offset += DAY
    clock.measure(guest.ping(3 * SECOND, GOOD_ERROR, 2 * GOOD_ERROR))
    assert clock.trusted


def test_a_sample_that_ends_before_it_began_says_nothing() -> None:
    clock = GuestClock()

    clock.measure(ClockSample(2, DAY, 1))

    assert not clock.known
