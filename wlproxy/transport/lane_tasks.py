"""Lets tasks wait at lanes, and sends what may leave at once.

`protocol.channel.lanes` decides what may leave when.  The task that puts something into a lane
also sends it: handing it to a second task would cost a pass of the event loop for every frame.
Another task sends only what the wire does not take at once.
"""

from collections import defaultdict
from collections.abc import Callable

import trio

from wlproxy.protocol.channel.frames import Frame
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Dropped, FilePiece, Lane


class LaneTasks:
    """The lanes of a session, at which its tasks wait."""

    __slots__ = ("_flush", "_lanes", "_parked")

    def __init__(self, lanes: Lanes, flush: Callable[[], None]) -> None:
        """Use `lanes`; `flush` takes what may leave, and sends what the wire takes."""
        self._lanes = lanes
        self._flush = flush
        self._parked: defaultdict[Lane, trio.lowlevel.ParkingLot] = defaultdict(
            trio.lowlevel.ParkingLot
        )

    def put(self, frame: Frame) -> None:
        """Queue a frame, and send what may leave."""
        self._lanes.put(frame)
        self._flush()
        self._wake()

    def take(self) -> Frame | FilePiece | None:
        """Hand out the next frame that may leave now."""
        frame = self._lanes.take()
        self._wake()
        return frame

    def receive(self, frame: Frame) -> bool:
        """Count a frame from the peer; False if it is for somebody who is gone.

        What it lets leave is not sent: there may be more to receive first.

        Raises:
            ChannelError: the peer broke the protocol.
        """
        known = self._lanes.receive(frame)
        self._wake()
        return known

    def dropped(self) -> Dropped:
        """Hand over, once, what will never be sent."""
        return self._lanes.dropped()

    def consumed(self, lane: Lane, amount: int) -> None:
        """Count received bytes as no longer held."""
        self._lanes.consumed(lane, amount)
        self._flush()

    def is_open(self, lane: Lane) -> bool:
        """Tell whether a lane can still send or receive anything."""
        return self._lanes.is_open(lane)

    def close(self) -> None:
        """Forget everything, now and later, and keep nobody waiting."""
        self._lanes.close()
        self._wake()

    async def room(self, lane: Lane, least: int = 1) -> int:
        """Wait until `least` bytes would leave at once; return how many would.

        Not a checkpoint if they would already.
        """
        while (room := self._lanes.room(lane)) < least:
            await self._parked[lane].park()
        return room

    async def idle(self, lane: Lane) -> None:
        """Wait until nothing waits in a lane.  Not a checkpoint if nothing does."""
        while not self._lanes.is_idle(lane):
            await self._parked[lane].park()

    async def pull(self, lane: Lane) -> bytes | None:
        """Wait for a stream's next bytes, or None at its end.  Not always a checkpoint."""
        while (chunk := self._lanes.pull(lane)) == b"":
            await self._parked[lane].park()
        return chunk

    def _wake(self) -> None:
        for lane in self._lanes.woken():
            if lane in self._parked:
                self._parked.pop(lane).unpark_all()
