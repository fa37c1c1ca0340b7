"""Questions to the agent that have no answer yet, and those that were given up.

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
    """The locations of all clients, by (client id, location id)."""

    __slots__ = ("_given_up", "_turns")

    def __init__(self) -> None:
        self._turns: dict[tuple[int, int], int] = {}
        self._given_up: set[tuple[int, int]] = set()

    def sent(self, frame: Frame) -> None:
        """Take note of what the core says to the agent: questions, and second thoughts."""
        match frame:
            case Locate():
                self._turns[frame.client_id, frame.location_id] = 0
            case Release():
                self._turns.pop((frame.client_id, frame.location_id), None)
            case _:
                pass

    def answered(self, frame: Located) -> bool:
        """Take note of an answer; False if it comes too late for anybody to want it."""
        key = frame.client_id, frame.location_id
        if not frame.more:
            self._turns.pop(key, None)
        return key not in self._given_up

    def let_go(self, frame: Located) -> Release | None:
        """Say how to undo an answer that came too late; None if nothing is pinned yet."""
        if frame.more:
            return None
        self._given_up.discard((frame.client_id, frame.location_id))
        if frame.status is not LocateStatus.OK:
            return None
        return Release(frame.client_id, frame.location_id)

    def turn(self) -> list[Located]:
        """Count a turn; answer, in the agent's place, what it has not for too many."""
        overdue = []
        for key in self._turns:
            self._turns[key] += 1
            if self._turns[key] > MAX_TURNS:
                overdue.append(key)
        for key in overdue:
            del self._turns[key]
            self._given_up.add(key)
        return [
            Located(
                client_id,
                location_id,
                LocateStatus.FAILED,
                errno.ETIMEDOUT,
                more=False,
                extents=(),
            )
            for client_id, location_id in overdue
        ]

    def forget_client(self, client_id: int) -> None:
        """A client has gone: nobody waits for its answers."""
        for key in [key for key in self._turns if key[0] == client_id]:
            del self._turns[key]
        self._given_up = {key for key in self._given_up if key[0] != client_id}
