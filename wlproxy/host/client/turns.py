"""Decides whose turn it is among the clients that have something to do.

`session` has the turns taken; what one is, and how long, is `relay.client`'s.
"""

from collections import deque

import trio


class Turns:
    """A round of clients, each of which is in it once."""

    def __init__(self) -> None:
        """Nobody is in it yet."""
        self._round: deque[int] = deque()
        self._called = trio.lowlevel.ParkingLot()

    @property
    def waiting(self) -> bool:
        """Whether anybody is in the round."""
        return bool(self._round)

    def add(self, client_id: int) -> None:
        """Give a client a turn after all others, unless it waits for one already."""
        if client_id not in self._round:
            self._round.append(client_id)

    def take(self) -> int | None:
        """Take out the client whose turn it is, if there is one."""
        return self._round.popleft() if self._round else None

    def call(self) -> None:
        """Have who waits go on, if anybody is in the round."""
        if self._round:
            self._called.unpark_all()

    async def wait(self) -> None:
        """Wait until there are turns to be taken.  Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while not self._round:
            await self._called.park()
