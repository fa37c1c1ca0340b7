"""Sends what is due at once, and has one task wait to send what was not taken.

Whoever has put something sends it, as far as it is taken without waiting: handing it to a
second task would cost a pass of the event loop for every frame.  While something is left
of that nobody else sends, since frames must not interleave, and nothing more is asked for.
"""

from collections.abc import Callable
from typing import Final, Protocol

import trio

BATCH: Final = 64 * 1024
"""Bytes after which a batch of frames is sent.  A shorter one was all that was due."""


class Sink(Protocol):
    """Takes bytes: an `FdStream`, or the agent's wire."""

    @property
    def backlog(self) -> bool:
        """Whether something that was to be sent has not been."""

    def send_at_once(self, data: bytes) -> bool:
        """Send what is taken without waiting; keep the rest, and tell if there is none."""

    async def flush(self) -> None:
        """Send the rest."""


class FrameWriter:
    """Brings batches of frames into a sink, in order."""

    __slots__ = ("_changed", "_ended", "_next_batch", "_sink")

    def __init__(self, sink: Sink, next_batch: Callable[[], bytes]) -> None:
        """Nothing is sent yet.

        Args:
            sink: nobody else sends through it while `write_rest` runs.
            next_batch: hands out what is due: nothing, or some BATCH bytes of it.
        """
        self._sink = sink
        self._next_batch = next_batch
        self._changed = trio.lowlevel.ParkingLot()
        """Who waits for a backlog, or for its end, parks here."""
        self._ended = False

    def flush(self) -> None:
        """Send what is due, as much of it as is taken at once."""
        all_sent = not self._sink.backlog
        full = True
        while all_sent and full and (batch := self._next_batch()):
            all_sent = self._sink.send_at_once(batch)
            full = len(batch) >= BATCH
        if not all_sent:
            self._changed.unpark_all()

    async def write_rest(self) -> None:
        """Send what `flush` could not, for ever.  Raises what the sink raises."""
        try:
            while True:
                if self._sink.backlog:
                    await self._sink.flush()
                    self.flush()
                    self._changed.unpark_all()
                else:
                    await self._changed.park()
        finally:
            self._ended = True
            self._changed.unpark_all()

    async def sent(self) -> None:
        """Wait until nothing waits any more, or `write_rest` has ended."""
        await trio.lowlevel.checkpoint()
        while self._sink.backlog and not self._ended:
            await self._changed.park()
