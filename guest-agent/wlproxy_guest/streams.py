"""Pipes of apps, carried as streams: one class for each way the bytes go.

Each owns its end of the pipe, runs as a task of its client, and is bounded by the
stream's window, so that a clipboard nobody reads delays nothing else.
"""

import os
from collections import deque
from typing import Final, Protocol

import trio

from wlproxy.protocol.channel.flow import ReceiveWindow
from wlproxy.protocol.channel.frames import (
    CloseReason,
    Credit,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy_guest.credit import SendCredit
from wlproxy_guest.outbox import Outbox

CHUNK: Final = 32 * 1024


class Stream(Protocol):
    """One direction of a pipe."""

    async def run(self) -> None:
        """Pump until either end closes; close ours."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the host.

        Raises:
            ChannelError: they go the wrong way, or are more than was allowed.
        """

    def receive_credit(self, amount: int) -> None:
        """Take credit from the host.

        Raises:
            ChannelError: there is nothing outstanding.
        """

    def receive_end(self) -> None:
        """The host's end was closed."""

    def close(self) -> None:
        """Close our end, whether it ran or not; again is harmless."""


class StreamToHost:
    """Reads a pipe whose other end an app writes."""

    __slots__ = ("_client_id", "_credit", "_fd", "_outbox", "_scope", "_stream_id")

    def __init__(
        self, client_id: int, stream_id: int, fd: int, outbox: Outbox, window: int
    ) -> None:
        """Take over `fd`."""
        os.set_blocking(fd, False)
        self._client_id = client_id
        self._stream_id = stream_id
        self._fd = fd
        self._outbox = outbox
        self._credit = SendCredit(window)
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """See `Stream`."""
        reason = CloseReason.NORMAL
        try:
            with self._scope:
                await self._pump()
        except OSError:
            reason = CloseReason.FAILED
        finally:
            self.close()
        if not self._scope.cancelled_caught:
            self._outbox.put(
                self._client_id,
                StreamClosed(self._client_id, self._stream_id, reason),
            )

    def receive(self, data: bytes) -> None:
        """See `Stream`."""
        raise ChannelError(
            f"bytes for stream {self._stream_id}, which goes the other way"
        )

    def receive_credit(self, amount: int) -> None:
        """See `Stream`."""
        self._credit.grant(amount)

    def receive_end(self) -> None:
        """See `Stream`: nobody reads any more, and the app shall know."""
        self._scope.cancel()

    def close(self) -> None:
        """See `Stream`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _pump(self) -> None:
        while True:
            allowed = await self._credit.at_least(1)
            await self._outbox.room(self._client_id)
            data = await _read(self._fd, min(CHUNK, allowed))
            if not data:
                return
            self._credit.take(len(data))
            self._outbox.put(
                self._client_id, StreamData(self._client_id, self._stream_id, data)
            )


class StreamToApp:
    """Writes a pipe whose other end an app reads."""

    __slots__ = (
        "_chunks",
        "_client_id",
        "_ended",
        "_fd",
        "_outbox",
        "_received",
        "_stream_id",
        "_window",
    )

    def __init__(
        self, client_id: int, stream_id: int, fd: int, outbox: Outbox, window: int
    ) -> None:
        """Take over `fd`."""
        os.set_blocking(fd, False)
        self._client_id = client_id
        self._stream_id = stream_id
        self._fd = fd
        self._outbox = outbox
        self._window = ReceiveWindow(window)
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._received = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        """See `Stream`."""
        try:
            await self._pump()
        except OSError:  # EPIPE: nobody reads any more
            self._outbox.put(
                self._client_id,
                StreamClosed(self._client_id, self._stream_id, CloseReason.NORMAL),
            )
        finally:
            self.close()

    def receive(self, data: bytes) -> None:
        """See `Stream`."""
        self._window.received(len(data))
        self._chunks.append(data)
        self._received.unpark_all()

    def receive_credit(self, amount: int) -> None:
        """See `Stream`."""
        raise ChannelError(f"credit for stream {self._stream_id}, which sends nothing")

    def receive_end(self) -> None:
        """See `Stream`."""
        self._ended = True
        self._received.unpark_all()

    def close(self) -> None:
        """See `Stream`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _pump(self) -> None:
        while True:
            while not self._chunks:
                if self._ended:
                    return
                await self._received.park()
            data = self._chunks.popleft()
            await _write(self._fd, data)
            if grant := self._window.consumed(len(data)):
                self._outbox.put_urgent(Credit(self._client_id, self._stream_id, grant))


async def _read(fd: int, size: int) -> bytes:
    """Read at least one byte, or none at the end.  A cancelled call has taken nothing."""
    await trio.lowlevel.checkpoint_if_cancelled()
    while True:
        try:
            return os.read(fd, size)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(fd)


async def _write(fd: int, data: bytes) -> None:
    await trio.lowlevel.checkpoint_if_cancelled()
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(fd)
