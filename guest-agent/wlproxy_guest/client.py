"""One app: its bytes both ways, and the fds, locations and streams that go with them.

Frames for it come in by `receive`, which only files them; tasks of its own do the work,
so that an app that does not read stops nobody but itself.  What an fd is, where a page
is or when a frame's turn comes is decided elsewhere.
"""

import logging
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import trio

from wlproxy.protocol.channel.flow import ReceiveWindow, cost
from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    MAX_ATTACHMENTS,
    Attachment,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseMemory,
    CloseReason,
    Credit,
    Data,
    FileData,
    Frame,
    Locate,
    Release,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy_guest.attachments import FdDescription, describe_fd
from wlproxy_guest.credit import SendCredit
from wlproxy_guest.files import PendingFiles
from wlproxy_guest.locations import Locating, Locations
from wlproxy_guest.outbox import Outbox
from wlproxy_guest.quotas import Limits, QuotaError
from wlproxy_guest.refusal import limit_event
from wlproxy_guest.stream_table import StreamTable
from wlproxy_guest.unix_socket import MAX_FDS_PER_SEND, AppSocket, FdsLostError

CHUNK: Final = 32 * 1024
"""Bytes of an app that go into one frame: whole batches of a toolkit, yet no delay."""
MOST_ATTACHMENTS: Final = MAX_ATTACHMENTS * ATTACHMENT_SIZE
"""Credit to have before receiving: how many fds come is not known before they do."""
LAST_BYTES: Final = 1.0
"""Seconds that the pipes of an app that has gone are still read: pastes end like that."""
LAST_EVENTS: Final = 5.0
"""Seconds for an app to take its last events before its socket is closed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Windows:
    """Credit to begin with: what the host's `Hello` gives us, and what we give it."""

    send: int
    send_stream: int
    receive: int
    receive_stream: int


@dataclass(frozen=True, slots=True)
class ClientContext:
    """What the clients of a session share."""

    outbox: Outbox
    windows: Windows
    limits: Limits
    locating: Locating


@dataclass(frozen=True, slots=True)
class _Events:
    """Bytes for the app, the fds that go with them, and what both count."""

    data: bytes
    fds: tuple[int, ...]
    cost: int
    file_bytes: int


class Client:
    """One connected app."""

    def __init__(
        self, client_id: int, socket: AppSocket, context: ClientContext
    ) -> None:
        """Take over `socket`."""
        windows = context.windows
        self.client_id = client_id
        self._socket = socket
        self._outbox = context.outbox
        self._limits = context.limits
        self._credit = SendCredit(windows.send)
        self._window = ReceiveWindow(windows.receive)
        self._memories: dict[int, int] = {}
        self._next_memory = 1
        self._files = PendingFiles(context.limits.file_bytes)
        self._events: deque[_Events] = deque()
        self._events_changed = trio.lowlevel.ParkingLot()
        self._streams = StreamTable(
            client_id,
            context.outbox,
            limit=context.limits.streams,
            send_window=windows.send_stream,
            receive_window=windows.receive_stream,
        )
        self._locations = Locations(
            client_id, context.locating, context.limits, context.outbox
        )
        self._ended = trio.Event()
        self._ending = (CloseReason.NORMAL, "")
        self._host_closed = False
        self._opened = False
        self._reading = trio.CancelScope()
        self._writing = trio.CancelScope()

    def __str__(self) -> str:
        return f"client {self.client_id}: {self._socket.peer}"

    # ---------------------------------------------------------------- its life

    def open(self) -> None:
        """Announce it to the host; before `run`."""
        peer = self._socket.peer
        opened = ClientOpened(
            self.client_id, peer.pid, peer.uid, peer.gid, peer.executable
        )
        self._outbox.put(self.client_id, opened)
        self._opened = True
        log.info("%s connected", self)

    async def run(self) -> None:
        """Serve the app until it, the host or a quota ends it.

        Its pins stay: the host may still be reading the pages.
        """
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._streams.run)
                nursery.start_soon(self._locations.run, self._memories)
                nursery.start_soon(self._read_app)
                nursery.start_soon(self._write_app)
                await self._ended.wait()
                await self._wind_down()
                nursery.cancel_scope.cancel()
        finally:
            self._close()

    def release_pins(self) -> None:
        """Drop every pin: nothing reads the pages any more."""
        self._locations.release_all()

    def _end(self, reason: CloseReason, message: str = "") -> None:
        """Have it end; the first reason counts."""
        if not self._ended.is_set():
            self._ending = (reason, message)
            self._ended.set()

    async def _wind_down(self) -> None:
        reason, message = self._ending
        if reason is CloseReason.NORMAL and not self._host_closed:
            with trio.move_on_after(LAST_BYTES):
                await self._streams.sent()
        # In the middle of other events it would not be understood.
        elif reason is CloseReason.LIMIT_EXCEEDED and not self._events:
            self._socket.try_send(limit_event(f"wlproxy: {message}"))

    def _close(self) -> None:
        self._ended.set()
        self._socket.close()
        for fd in self._memories.values():
            os.close(fd)
        self._memories.clear()
        self._streams.close()
        self._files.close()
        while self._events:
            _close_all(self._events.popleft().fds)
        reason, message = self._ending
        if reason is CloseReason.NORMAL:
            log.info("%s is gone", self)
        else:
            log.warning("%s ended: %s", self, message)
        if self._opened and not self._host_closed:
            self._outbox.put(
                self.client_id, ClientClosed(self.client_id, reason, message)
            )

    # ---------------------------------------------------------------- from the app

    async def _read_app(self) -> None:
        with self._reading:
            try:
                while await self._forward():
                    pass
            except (QuotaError, FdsLostError) as exc:
                self._end(CloseReason.LIMIT_EXCEEDED, str(exc))
            except OSError as exc:
                log.debug("%s: %s", self, exc)
            self._end(CloseReason.NORMAL)

    async def _forward(self) -> bool:
        """Pass on what the app sends next; False if it has closed."""
        allowed = await self._credit.at_least(MOST_ATTACHMENTS + 1)
        await self._outbox.room(self.client_id)
        size = min(CHUNK, allowed - MOST_ATTACHMENTS)
        data, fds = await self._socket.receive(size)
        if not data:
            return False
        try:
            await self._locations.settle()
        except BaseException:
            _close_all(fds)
            raise
        # From here to `put` nothing waits: the fds have an owner throughout.
        frame = Data(self.client_id, data, self._attach_all(fds))
        self._credit.take(cost(frame))
        self._outbox.put(self.client_id, frame)
        return True

    def _attach_all(self, fds: list[int]) -> tuple[Attachment, ...]:
        attachments = []
        while fds:
            try:
                attachments.append(self._attach(fds.pop(0)))
            except QuotaError:
                _close_all(fds)
                raise
        return tuple(attachments)

    def _attach(self, fd: int) -> Attachment:
        """Take over an fd of the app's and describe it."""
        try:
            found = describe_fd(fd)
        except OSError:  # the kernel does not want to tell
            found = FdDescription(AttachmentKind.OTHER)
        object_id = 0
        if found.kind is AttachmentKind.MEMORY:
            object_id = self._keep_memory(fd)
        elif found.kind is AttachmentKind.STREAM:
            object_id = self._streams.adopt(fd, found.flags)
        else:
            os.close(fd)
        return Attachment(found.kind, found.flags, object_id, found.size)

    def _keep_memory(self, fd: int) -> int:
        if len(self._memories) >= self._limits.memories:
            os.close(fd)
            raise QuotaError(f"over {self._limits.memories} open memory fds")
        memory_id = self._next_memory
        self._next_memory += 1
        self._memories[memory_id] = fd
        return memory_id

    # ---------------------------------------------------------------- from the host

    def receive(self, frame: Frame) -> None:
        """Take a frame of the host's for this client; too late, it is ignored.

        Raises:
            ChannelError: the host broke the protocol.
        """
        if self._host_closed:
            return
        # What its pipes still send when the app has gone needs credit.
        if self._ended.is_set() and not isinstance(frame, Credit | StreamClosed):
            return
        if not self._opened:
            raise ChannelError(f"client {self.client_id} is not open yet")
        try:
            self._file_away(frame)
        except QuotaError as exc:
            self._end(CloseReason.LIMIT_EXCEEDED, str(exc))
        except OSError as exc:
            self._end(CloseReason.FAILED, str(exc))

    def _file_away(self, frame: Frame) -> None:
        match frame:
            case Data():
                self._receive_events(frame)
            case FileData():
                self._window.received(len(frame.data))
                self._files.append(frame.file_id, frame.data)
                self._grant(len(frame.data))
            case Credit() if not frame.stream_id:
                self._credit.grant(frame.amount)
            case StreamData() | StreamClosed() | Credit():
                self._streams.receive(frame)
            case Locate():
                self._locations.receive_locate(frame)
            case Release():
                self._locations.receive_release(frame)
            case CloseMemory():
                self._close_memory(frame.memory_id)
            case ClientClosed():
                self._receive_close(frame)
            case _:
                raise ChannelError(f"{type(frame).__name__} is not for a client")

    def _close_memory(self, memory_id: int) -> None:
        fd = self._memories.pop(memory_id, -1)
        if fd >= 0:
            os.close(fd)

    def _receive_close(self, frame: ClientClosed) -> None:
        self._host_closed = True
        self._reading.cancel()
        self._writing.deadline = trio.current_time() + LAST_EVENTS
        if frame.reason is not CloseReason.NORMAL:
            why = frame.message or frame.reason.name
            log.warning("%s: the host ended it: %s", self, why)
        self._events_changed.unpark_all()

    def _receive_events(self, frame: Data) -> None:
        self._window.received(cost(frame))
        if len(frame.attachments) > MAX_FDS_PER_SEND * len(frame.data):
            raise ChannelError("too few bytes for so many attachments")
        fds: list[int] = []
        file_bytes = 0
        try:
            for each in frame.attachments:
                if each.kind is AttachmentKind.STREAM:
                    fds.append(self._streams.create(each.object_id, each.flags))
                else:
                    fds.append(self._files.take(each.object_id, each.size))
                    file_bytes += each.size
        except BaseException:
            _close_all(fds)
            raise
        self._events.append(_Events(frame.data, tuple(fds), cost(frame), file_bytes))
        self._events_changed.unpark_all()

    async def _write_app(self) -> None:
        try:
            with self._writing:
                while await self._events_are_here():
                    await self._write_first()
        except OSError as exc:
            log.debug("%s: %s", self, exc)
        self._end(CloseReason.NORMAL)

    async def _events_are_here(self) -> bool:
        """Wait for events; False if there are no more."""
        while not self._events:
            if self._host_closed:
                return False
            await self._events_changed.park()
        return True

    async def _write_first(self) -> None:
        # Until the app has all of it, it stays in the queue, which owns the fds.
        events = self._events[0]
        await self._socket.send(events.data, events.fds)
        self._events.popleft()
        _close_all(events.fds)
        self._files.delivered(events.file_bytes)
        self._grant(events.cost)

    def _grant(self, amount: int) -> None:
        if grant := self._window.consumed(amount):
            self._outbox.put_urgent(Credit(self.client_id, 0, grant))


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
