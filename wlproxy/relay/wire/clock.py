"""The guest's clock, as seen from here: how far it is ahead, and how well that is known.

Both sides read their CLOCK_MONOTONIC.  A ping that was sent at `sent` and answered by
`received` with the guest's `clock` says that the guest is ahead by no more than
`clock - sent` and no less than `clock - received`, whatever the ways took: a short round
trip says much, a long one little, and none is wrong.  What several say together is where
their ranges meet; a range grows with age, by as much as two clocks may drift apart.  Where
ranges do not meet, the guest's clock has jumped (it was suspended, paused, migrated), and
only what came last counts.

Times are integers, nanoseconds.  Nothing here reads a clock: see `host.pings`.
"""

from dataclasses import dataclass
from typing import Final

from wlproxy.relay.inputs import ClockSample

DRIFT_PPM: Final = 200
"""How much faster one clock may go than the other: two crystals, and NTP steering both.

A pair that is worse is followed all the same: it jumps a little, again and again."""

SETTLED: Final = 8
"""Samples after which more of them, right away, would not tell much more."""

SLOW: Final = 100_000_000
"""A round trip during which the guest may have slept."""

GOOD_ERROR: Final = 10_000_000
"""Known so well, a frame that an app has timed is off by less than a frame."""


@dataclass(slots=True)
class GuestClock:
    """The offset between the two clocks.

    Attributes:
        known: there is an offset.
        trusted: it was known to GOOD_ERROR once.
        offset: the guest's clock minus ours; 0 if unknown.
        milliseconds: the same, rounded down, so that no event seems to be yet to come.
        microseconds: likewise.
    """

    known: bool = False
    trusted: bool = False
    offset: int = 0
    milliseconds: int = 0
    microseconds: int = 0
    _low: int = 0
    _high: int = 0
    _measured: int = 0
    _samples: int = 0  # since the last jump

    @property
    def settled(self) -> bool:
        """Whether the next sample may as well wait."""
        return self._samples >= SETTLED

    def error(self, now: int) -> int:
        """Say by how much the offset may be wrong, by our clock's `now`."""
        age = max(now - self._measured, 0)
        return max(self._high - self.offset, self.offset - self._low) + _drift(age)

    def measure(self, sample: ClockSample) -> None:
        """Take a sample.  One that our own clock contradicts says nothing."""
        trip = sample.received - sample.sent
        if trip < 0:
            return
        aged = _drift(max(sample.received - self._measured, 0))
        low = sample.clock - sample.received - _drift(trip)
        high = sample.clock - sample.sent + _drift(trip)
        if not self.known or low > self._high + aged or high < self._low - aged:
            self.known, self._samples = True, 0
        else:
            low, high = max(low, self._low - aged), min(high, self._high + aged)
        if trip > SLOW:
            self._samples = 0
        self._low, self._high, self._measured = low, high, sample.received
        self._set(self._choose(low, high))
        self._samples += 1
        self.trusted |= self.error(sample.received) <= GOOD_ERROR

    def _choose(self, low: int, high: int) -> int:
        """Choose an offset within a range."""
        if low <= 0 <= high:
            return 0  # one clock, for all that can be told: its times stay exact
        if not self.settled:
            return (low + high) // 2
        # What has been told stays true for as long as it may: no time goes back for less.
        return min(max(self.offset, low), high)

    def _set(self, offset: int) -> None:
        self.offset = offset
        self.microseconds = offset // 1000
        self.milliseconds = offset // 1_000_000


def _drift(duration: int) -> int:
    return -(-duration * DRIFT_PPM // 1_000_000)  # rounded up
