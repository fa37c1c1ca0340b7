"""Pings to the guest agent: is it there, and what does its clock say?

One at a time.  What the answers tell together is `relay.clock`'s.
"""

import time
from typing import Final

import trio

from wlproxy.protocol.channel.frames import Ping, Pong
from wlproxy.protocol.errors import ChannelError
from wlproxy.relay.inputs import ClockSample
from wlproxy.relay.wire.clock import SETTLED

ROW: Final = SETTLED
"""Pings that follow each other at most, without a pause."""


class Pings:
    """The pings of one session.

    Attributes:
        samples: what the answers told, until someone takes them.
    """

    def __init__(self) -> None:
        """None is sent yet."""
        self.samples: list[ClockSample] = []
        self._unanswered: tuple[int, int] | None = None
        self._left = ROW

    @property
    def unanswered(self) -> bool:
        """Whether one is on its way."""
        return self._unanswered is not None

    @property
    def settled(self) -> bool:
        """Whether the row is over."""
        return not self._left

    def begin_row(self) -> None:
        """Allow another row."""
        self._left = ROW

    def ask(self) -> Ping:
        """Make the next one, to be sent at once.  None may be on its way."""
        # trio's clock begins anywhere: how long the host has been up is its own affair.
        timestamp = int(trio.current_time() * 1e9)
        self._unanswered = timestamp, time.monotonic_ns()
        self._left = max(self._left - 1, 0)
        return Ping(timestamp)

    def take(self, pong: Pong) -> None:
        """Take an answer that has just come.

        Raises:
            ChannelError: it answers nothing.
        """
        now = time.monotonic_ns()
        if self._unanswered is None or self._unanswered[0] != pong.timestamp:
            raise ChannelError("Pong without a Ping")
        _, sent = self._unanswered
        self._unanswered = None
        if pong.clock:
            self.samples.append(ClockSample(sent, pong.clock, now))
