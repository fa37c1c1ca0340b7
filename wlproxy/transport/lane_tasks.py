"""Lets tasks wait at lanes, and sends what may leave at once.

`protocol.channel.lanes` decides what may leave when.  The task that puts something into a lane
also sends it: handing it to a second task would cost a pass of the event loop for every frame.
Another task sends only what the wire does not take at once.
"""

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from wlproxy.protocol.channel.frames import FileData, Frame
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import FilePiece, Lane, Usage
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.frame_writer import BATCH

if TYPE_CHECKING:
    from wlproxy.protocol.notation import Plain


class LaneTasks:
    """The lanes of a session, at which its tasks wait.

    Attributes:
        stream_ended: told each stream that has ended, by whomever: who runs it is to stop.
    """

    __slots__ = ("_flush", "_lanes", "_parked", "stream_ended")

    def __init__(self, lanes: Lanes, flush: Callable[[], None]) -> None:
        """Use `lanes`; `flush` takes what may leave, and sends what the wire takes."""
        self.stream_ended: Callable[[Lane], None] = _ignore
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

    def name_stream(self, lane: Lane, *, sends: bool) -> None:
        """Begin a stream before what attaches it is put; see `Lanes.name_stream`."""
        self._lanes.name_stream(lane, sends=sends)

    def put_file(
        self, client_id: int, file_id: int, source: OwnedFd | bytes, size: int
    ) -> None:
        """Queue the contents of a file, whose fd this takes over."""
        self._lanes.put_file(client_id, file_id, source, size)
        self._discard()
        self._flush()

    def next_batch(self, encode: Callable[[Frame], bytes]) -> list[bytes]:
        """Hand out, encoded, frames that may leave now: all, or some BATCH bytes of them."""
        batch: list[bytes] = []
        size = 0
        while size < BATCH and (frame := self._lanes.take()) is not None:
            if isinstance(frame, FilePiece):
                frame = _read(frame)
            batch.append(encode(frame))
            size += len(batch[-1])
        if batch:
            self._wake()
        return batch

    def receive(self, frame: Frame) -> bool:
        """Count a frame from the peer; False if it is for somebody who is gone.

        What it lets leave is not sent: there may be more to receive first.

        Raises:
            ChannelError: the peer broke the protocol.
        """
        known = self._lanes.receive(frame)
        self._discard()
        self._wake()
        return known

    def drop_data(self, client_id: int) -> None:
        """Forget a client's data, but keep the frames that say that it is gone."""
        self._lanes.drop_data(client_id)
        self._discard()
        self._flush()
        self._wake()

    def consumed(self, lane: Lane, amount: int) -> None:
        """Count received bytes as no longer held."""
        self._lanes.consumed(lane, amount)
        self._flush()

    def dump(self) -> dict[str, "Plain"]:
        """Say all that waits, for people: of bytes, only how many there are."""
        # Here, since it is asked for rarely, and takes a while.
        from wlproxy.protocol.channel.lanes.snapshot import (  # noqa: PLC0415
            write_down,
        )

        return write_down(self._lanes, _size, lengths=True)

    def is_open(self, lane: Lane) -> bool:
        """Tell whether a lane can still send or receive anything."""
        return self._lanes.is_open(lane)

    def usage(self, client_id: int) -> Usage:
        """Say how much of a client's own lane is taken up."""
        return self._lanes.usage(client_id)

    def streams_of(self, client_id: int) -> int:
        """Return how many streams a client has, or has left behind."""
        return self._lanes.streams_of(client_id)

    def close(self) -> None:
        """Forget everything, now and later, and keep nobody waiting."""
        self._lanes.close()
        self._discard()
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
            if lane.stream_id and not self._lanes.is_open(lane):
                self.stream_ended(lane)

    def _discard(self) -> None:
        for source in self._lanes.dropped().sources:
            _close(source)


def _read(piece: FilePiece) -> FileData:
    """Read a part of a file, as late as can be.

    A file that has become shorter meanwhile is filled up with zeros: the peer was promised
    this size.
    """
    source, contents = piece.source, b""
    if isinstance(source, bytes):
        contents = source[piece.start : piece.start + piece.length]
    elif isinstance(source, OwnedFd):
        with suppress(OSError):  # not open for reading, for one: as good as empty
            contents = os.pread(source.fileno(), piece.length, piece.start)
    if piece.last:
        _close(source)
    padded = contents.ljust(piece.length, b"\0")
    return FileData(piece.client_id, piece.file_id, padded)


def _close(source: object) -> None:
    if isinstance(source, OwnedFd):
        source.close()


def _ignore(_: Lane) -> None:
    """Do nothing: nobody runs any stream."""


def _size(source: object) -> int:
    """Stand for a file in a dump, where its number would tell nobody anything."""
    return len(source) if isinstance(source, bytes) else 0
