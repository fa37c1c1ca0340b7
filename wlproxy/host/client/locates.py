"""Notices when the agent leaves a client's questions unanswered.

An agent that goes on but never answers a `Locate` would stall a client for ever.  Time
is counted in turns in which the agent did answer something else, so that a guest which
was paused for an hour is not taken for one that hangs.
"""

import errno
from typing import Final

from wlproxy.protocol.channel.frames import (
    Frame,
    Locate,
    Located,
    LocateStatus,
    Release,
)

MAX_TURNS: Final = 12
"""At a ping each 5 seconds twice the time in which an agent has to answer."""


class Locates:
    """The locations of a client, by their id."""

    __slots__ = ("_given_up", "_turns")

    def __init__(self) -> None:
        self._turns: dict[int, int] = {}
        self._given_up: set[int] = set()

    def sent(self, frame: Frame) -> None:
        """Take note of what the core says to the agent: questions, and second thoughts."""
        match frame:
            case Locate():
                self._turns[frame.location_id] = 0
            case Release():
                self._turns.pop(frame.location_id, None)
            case _:
                pass

    def answered(self, frame: Located) -> bool:
        """Take note of an answer; False if it comes too late for anybody to want it."""
        if not frame.more:
            self._turns.pop(frame.location_id, None)
        return frame.location_id not in self._given_up

    def let_go(self, frame: Located) -> Release | None:
        """Say how to undo an answer that came too late; None if nothing is pinned yet."""
        if frame.more:
            return None
        self._given_up.discard(frame.location_id)
        if frame.status is not LocateStatus.OK:
            return None
        return Release(frame.client_id, frame.location_id)

    def turn(self, client_id: int) -> list[Located]:
        """Count a turn; answer, in the agent's place, what it has not for too many."""
        self._turns = {each: turns + 1 for each, turns in self._turns.items()}
        overdue = [each for each, turns in self._turns.items() if turns > MAX_TURNS]
        for location_id in overdue:
            del self._turns[location_id]
        self._given_up.update(overdue)
        status = LocateStatus.FAILED
        return [
            Located(client_id, each, status, errno.ETIMEDOUT, more=False, extents=())
            for each in overdue
        ]
