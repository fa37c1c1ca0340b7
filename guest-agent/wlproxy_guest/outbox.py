"""What waits to be written to the channel: bounded, and fair between clients.

Frames of one client keep their order in the client's lane; lanes take turns, so that one
busy client does not delay the rest.  Small answers whose place among the other frames
does not matter (credit, acknowledgements) go first.  Frames are encoded by the writer,
when their turn comes.
"""

from collections import deque
from typing import Final

import trio

from wlproxy.protocol.channel.frames import Frame

LANE_DEPTH: Final = 4
"""Frames of one client that wait before its producers do: little, for low latency."""
MAX_URGENT: Final = 1024
"""Answers that wait before no further question is read."""


class _Lane:
    __slots__ = ("frames", "room")

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.room = trio.lowlevel.ParkingLot()


class Outbox:
    """A queue of frames with lanes: the tasks of one session put, the link takes."""

    __slots__ = ("_answered", "_closed", "_lanes", "_ready", "_turns", "_urgent")

    def __init__(self, ready: trio.lowlevel.ParkingLot) -> None:
        """Make an empty one; whoever takes parks in `ready` until there is a frame."""
        self._urgent: deque[Frame] = deque()
        self._lanes: dict[int, _Lane] = {}
        self._turns: deque[int] = deque()
        """Clients whose lanes are not empty, in the order of their turns."""
        self._ready = ready
        self._answered = trio.lowlevel.ParkingLot()
        self._closed = False

    def put_urgent(self, frame: Frame) -> None:
        """Queue a small answer ahead of everything else."""
        if not self._closed:
            self._urgent.append(frame)
            self._ready.unpark_all()

    def put(self, client_id: int, frame: Frame) -> None:
        """Queue a frame in a client's lane.  What is bulky waits for `room` first."""
        if self._closed:
            return
        lane = self._lanes.get(client_id)
        if lane is None:
            lane = self._lanes[client_id] = _Lane()
            self._turns.append(client_id)
        lane.frames.append(frame)
        self._ready.unpark_all()

    async def room(self, client_id: int) -> None:
        """Wait until a client's lane is short.  Not a checkpoint if it is."""
        while (lane := self._lanes.get(client_id)) and len(lane.frames) >= LANE_DEPTH:
            await lane.room.park()

    async def answered(self) -> None:
        """Wait until few answers are queued.  Not a checkpoint if that is so."""
        while len(self._urgent) > MAX_URGENT:
            await self._answered.park()

    def take(self) -> Frame | None:
        """Take the next frame, if there is one."""
        if self._urgent:
            frame = self._urgent.popleft()
            self._answered.unpark_all()
            return frame
        if not self._turns:
            return None
        client_id = self._turns.popleft()
        lane = self._lanes[client_id]
        frame = lane.frames.popleft()
        lane.room.unpark_all()
        if lane.frames:
            self._turns.append(client_id)
        else:
            del self._lanes[client_id]
        return frame

    def close(self) -> None:
        """Drop everything, now and later: the session is over."""
        self._closed = True
        self._urgent.clear()
        self._answered.unpark_all()
        self._turns.clear()
        lanes = list(self._lanes.values())
        self._lanes.clear()
        for lane in lanes:
            lane.room.unpark_all()
