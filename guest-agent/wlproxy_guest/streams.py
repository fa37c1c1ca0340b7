"""Pipes of apps, carried as streams: one class for each way the bytes go.

Each owns its end, runs as a task of its session, since it may outlive its client, and is
bounded by the stream's window, so that a clipboard nobody reads delays nothing else.
"""

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
from wlproxy.transport.stream_end import StreamEnd
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

    def forget(self) -> None:
        """The host has never heard of it: close our end, and say nothing."""


class StreamToHost:
    """Reads a pipe whose other end an app writes."""

    __slots__ = ("_client_id", "_credit", "_end", "_outbox", "_scope", "_stream_id")

    def __init__(
        self,
        client_id: int,
        stream_id: int,
        end: StreamEnd,
        outbox: Outbox,
        window: int,
    ) -> None:
        """Take over `end`."""
        self._client_id = client_id
        self._stream_id = stream_id
        self._end = end
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
            self._end.close()
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

    def forget(self) -> None:
        """See `Stream`."""
        self._scope.cancel()

    async def _pump(self) -> None:
        while True:
            allowed = await self._credit.at_least(1)
            await self._outbox.room(self._client_id)
            data = await self._end.read(min(CHUNK, allowed))
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
        "_end",
        "_ended",
        "_outbox",
        "_received",
        "_scope",
        "_stream_id",
        "_window",
    )

    def __init__(
        self,
        client_id: int,
        stream_id: int,
        end: StreamEnd,
        outbox: Outbox,
        window: int,
    ) -> None:
        """Take over `end`."""
        self._client_id = client_id
        self._stream_id = stream_id
        self._end = end
        self._outbox = outbox
        self._window = ReceiveWindow(window)
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._received = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """See `Stream`."""
        all_written = True
        try:
            with self._scope:
                all_written = await self._end.write_chunks(self._next, self._consumed)
        finally:
            self._end.close()
        if not all_written:  # nobody reads any more
            self._outbox.put(
                self._client_id,
                StreamClosed(self._client_id, self._stream_id, CloseReason.NORMAL),
            )

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

    def forget(self) -> None:
        """See `Stream`."""
        self._scope.cancel()

    async def _next(self) -> bytes | None:
        while not self._chunks and not self._ended:
            await self._received.park()
        return self._chunks.popleft() if self._chunks else None

    def _consumed(self, amount: int) -> None:
        if grant := self._window.consumed(amount):
            self._outbox.put_urgent(Credit(self._client_id, self._stream_id, grant))


class EndedStream:
    """One too many, or of an fd that is of no use: the host is told, and that is all."""

    __slots__ = ("_closed", "_outbox")

    def __init__(self, closed: StreamClosed, outbox: Outbox) -> None:
        """Have `closed` said when it runs: after the frame that attaches it."""
        self._closed: StreamClosed | None = closed
        self._outbox = outbox

    async def run(self) -> None:
        """See `Stream`."""
        await trio.lowlevel.checkpoint()
        if self._closed is not None:
            self._outbox.put(self._closed.client_id, self._closed)

    def receive(self, data: bytes) -> None:
        """See `Stream`: sent before it was known."""

    def receive_credit(self, amount: int) -> None:
        """See `Stream`."""
        raise ChannelError("credit for a stream that has sent nothing")

    def receive_end(self) -> None:
        """See `Stream`."""

    def forget(self) -> None:
        """See `Stream`."""
        self._closed = None
