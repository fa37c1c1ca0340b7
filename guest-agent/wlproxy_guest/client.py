"""One app: its bytes in both directions, and its fds, locations and streams.

`receive` only files the frames that come for the app; the app's own tasks do the work.  So
an app that does not read holds up nobody but itself.  What kind an fd is, where a page is,
and when a frame may leave are decided elsewhere.

*From the app.*  Bytes are read only when there is credit to pass them on, and wait until the
app's dma-bufs have been drawn (`locating.fences`).  After that nothing may wait until their
`Data` is queued: if the host closed the client in between, the fds would be described to
somebody who has forgotten it.  Each fd has one owner at every step: this client until it is
described, then `streams` for a pipe, `memories` for all else.

*The end* comes from the app, from the host, from a quota or a bug, or with the session, and
perhaps from several at once: the first reason counts.  Events that came before the end still
reach the app, for `LAST_EVENTS` seconds at most, and then the error that says why.  Pins
outlive all this, because the host may still be reading the pages: only `release` drops them.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import trio

from wlproxy.protocol.channel.flow import cost
from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    MAX_ATTACHMENTS,
    Attachment,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseMemory,
    CloseReason,
    Data,
    FileData,
    Frame,
    Locate,
    OpenStream,
    ReadMemory,
    Release,
)
from wlproxy.protocol.channel.lanes.bounds import CHUNK
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.protocol.errors import ChannelError
from wlproxy.protocol.fd_limits import MAX_FDS_OUT
from wlproxy.protocol.quota import Quota
from wlproxy.transport.fd_stream import FdsLostError
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy_guest.attachments import FdDescription, describe_fd
from wlproxy_guest.files import PendingFiles
from wlproxy_guest.locating.locations import Locating, Locations
from wlproxy_guest.memories import Memories
from wlproxy_guest.quotas import Limits, QuotaError
from wlproxy_guest.refusal import WORDS, limit_event, unavailable_event
from wlproxy_guest.streams import Streams
from wlproxy_guest.unix_socket import AppSocket

MOST_ATTACHMENTS: Final = MAX_ATTACHMENTS * ATTACHMENT_SIZE
"""Room to have before receiving: how many fds come is not known before they do."""
LAST_EVENTS: Final = 5.0
"""Seconds for an app to take its last events before its socket is closed."""
NO_MEMORY: Final = "the agent has no memory left"
FDS_LOST: Final = "fds were lost: the agent has too many open"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClientContext:
    """What the clients of a session share."""

    lanes: LaneTasks
    streams: Streams
    limits: Limits
    locating: Locating
    memories: Quota


@dataclass(frozen=True, slots=True)
class _Events:
    """Bytes for the app, the fds that go with them, and their cost in credit and quotas."""

    data: bytes
    fds: tuple[OwnedFd, ...]
    cost: int
    file_bytes: int


class Client:
    """One connected app."""

    def __init__(
        self,
        client_id: int,
        socket: AppSocket,
        context: ClientContext,
    ) -> None:
        """Take over `socket`."""
        self.client_id = client_id
        self._socket = socket
        self._lane = Lane(client_id)
        self._lanes = context.lanes
        self._limits = context.limits
        self._memories = Memories(str(self), context.limits.memories, context.memories)
        self._next_stream = 2
        self._files = PendingFiles(context.limits.file_bytes)
        self._events: list[_Events] = []
        self._events_changed = trio.lowlevel.ParkingLot()
        self._streams = context.streams
        self._locations = Locations(
            client_id, context.locating, context.limits, context.lanes
        )
        self._nursery: trio.Nursery | None = None
        self._ended = trio.Event()
        self._ending = (CloseReason.NORMAL, "")
        self._host_closed = False
        self._opened = False
        self._app_left = False
        self._let_go = False
        self._released = False
        self._last_words = ("", CloseReason.NORMAL)
        self._reading = trio.CancelScope()
        self._writing = trio.CancelScope()
        self._written = trio.Event()

    def __str__(self) -> str:
        return f"client {self.client_id}: {self._socket.peer}"

    # ---------------------------------------------------------------- its life

    def open(self) -> None:
        """Announce it to the host; before `run`."""
        peer = self._socket.peer
        opened = ClientOpened(
            self.client_id, peer.pid, peer.uid, peer.gid, peer.executable
        )
        self._lanes.put(opened)
        self._opened = True
        log.info("%s connected", self)

    async def run(self) -> None:
        """Serve the app until it, the host or a quota ends it; then say why.

        Its pins stay: the host may still be reading the pages.
        """
        try:
            try:
                await self._serve()
            except* Exception:
                # The last line of defence: it costs this app, and nobody else's.
                log.exception("%s: a bug, or no memory", self)
                self._end(CloseReason.FAILED, "the agent failed")
            self._close()
            await self._socket.bid_farewell(self._error())
        finally:
            self._close()
            self._socket.say(self._error())
            self._socket.close()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251
            nursery.start_soon(self._write_app)
            self._nursery = nursery
            self._attend()
            await self._read_app()
            await self._ended.wait()
            await self._wind_down()
            nursery.cancel_scope.cancel()

    def _attend(self) -> None:
        """Have the host's questions answered, by a task for as long as there are any."""
        # One that is there all the while takes 2 KiB of each app, and few of them ask.
        if self._nursery is not None and self._locations.attend():
            self._nursery.start_soon(self._locations.run, self._memories)

    def release(self) -> None:
        """Drop every pin and file: nothing reads the pages any more.

        An app that the host had not ended, as it ought to, ends.
        """
        self._end_by_host(CloseReason.NORMAL, WORDS[CloseReason.NORMAL])
        self._released = True
        self._locations.release_all()
        self._memories.close_all()

    def lose_host(self, why: str) -> None:
        """End the client because its host is gone, and have the app told so."""
        self._end_by_host(CloseReason.NORMAL, why)

    def _end(self, reason: CloseReason, message: str = "") -> None:
        """End the client; if this is called again, the first reason counts."""
        if not self._ended.is_set():
            self._ending = (reason, message)
            self._ended.set()
            self._reading.cancel()
            self._events_changed.unpark_all()

    def _end_by_host(self, reason: CloseReason, why: str) -> None:
        """End the client once the events that came earlier have reached the app."""
        if not self._host_closed:
            self._host_closed = True
            self._last_words = (why, reason)
            self._reading.cancel()
            self._writing.deadline = trio.current_time() + LAST_EVENTS
            self._events_changed.unpark_all()

    def _error(self) -> bytes:
        """Return what the app is told at its end, unless it has been told already."""
        if self._app_left:
            return b""
        message, reason = self._last_words
        if not self._host_closed:
            reason, message = self._ending
        encode = (
            limit_event if reason is CloseReason.LIMIT_EXCEEDED else unavailable_event
        )
        return encode(f"wlproxy: {message or 'the agent was stopped'}")

    async def _wind_down(self) -> None:
        reason, _ = self._ending
        if reason is not CloseReason.NORMAL or self._host_closed:
            # What came before the end is sent before the error that tells of it.
            latest = trio.current_time() + LAST_EVENTS
            self._writing.deadline = min(self._writing.deadline, latest)
            await self._written.wait()

    def _close(self) -> None:
        """Let go of everything but pins and the socket.  Again: nothing happens."""
        self._ended.set()
        if self._let_go:
            return
        self._let_go = True
        self._nursery = None
        self._files.close()
        events, self._events = self._events, []
        for each in events:
            _close_all(each.fds)
        reason, message = self._ending
        if reason is CloseReason.NORMAL:
            log.info("%s is gone", self)
        else:
            log.warning("%s ended: %s", self, message)
        if self._opened and not self._host_closed:
            self._lanes.put(ClientClosed(self.client_id, reason, message))

    # ---------------------------------------------------------------- from the app

    async def _read_app(self) -> None:
        with self._reading:
            try:
                while await self._forward():
                    pass
            except FdsLostError:
                self._end(CloseReason.LIMIT_EXCEEDED, FDS_LOST)
            except MemoryError:
                self._end(CloseReason.FAILED, NO_MEMORY)
            except (OSError, trio.BrokenResourceError) as exc:
                log.debug("%s: %s", self, exc)
            self._app_left = not (self._ended.is_set() or self._host_closed)
            self._end(CloseReason.NORMAL)

    async def _forward(self) -> bool:
        """Pass on what the app sends next; False if it has closed."""
        room = await self._lanes.room(self._lane, MOST_ATTACHMENTS + 1)
        size = min(CHUNK, room - MOST_ATTACHMENTS)
        data, received = await self._socket.receive(size)
        if not data:
            return False
        fds = deque(received)
        try:
            if not self._locations.are_drawn():
                await self._locations.wait_drawn()
            if self._host_closed or self._released:
                return False  # the host has closed it while these came
            # From here on nothing waits.
            self._pass_on(data, fds)
        finally:
            _close_all(fds)
        return True

    def _pass_on(self, data: bytes, fds: deque[OwnedFd]) -> None:
        """Send bytes from the app, with descriptions of the fds that came along.

        Each fd is out of `fds` once somebody else owns it.
        """
        attachments: list[Attachment] = []
        pipes: deque[tuple[OwnedFd, Attachment]] = deque()
        try:
            while fds:
                one = self._attach(fds[0])
                fd = fds.popleft()
                attachments.append(one)
                if one.kind is AttachmentKind.STREAM:
                    pipes.append((fd, one))
            self._lanes.put(Data(self.client_id, data, tuple(attachments)))
            while pipes:
                fd, one = pipes.popleft()
                lane = Lane(self.client_id, one.object_id)
                self._streams.adopt(lane, fd, one.flags)
        finally:
            _close_all(fd for fd, _ in pipes)

    def _attach(self, fd: OwnedFd) -> Attachment:
        """Describe an fd of the app's, and keep it unless it is a pipe's."""
        try:
            found = describe_fd(fd.fileno())
        except (OSError, MemoryError):  # the kernel does not want to tell
            found = FdDescription(AttachmentKind.OTHER)
        if found.kind is AttachmentKind.STREAM:
            object_id = self._next_stream
            self._next_stream += 2
        else:
            object_id = self._memories.keep(fd)
        return Attachment(found.kind, found.flags, object_id, found.size)

    # ---------------------------------------------------------------- from the host

    def receive(self, frame: Frame) -> None:
        """Take a frame from the host for this client.  A frame that comes too late is ignored.

        Raises:
            ChannelError: the host broke the protocol.
        """
        if self._host_closed:
            return
        if self._ended.is_set():
            self._receive_late(frame)
            return
        try:
            self._file_away(frame)
        except QuotaError as exc:
            self._end(CloseReason.LIMIT_EXCEEDED, str(exc))
        except MemoryError:
            self._end(CloseReason.FAILED, NO_MEMORY)
        except OSError as exc:
            self._end(CloseReason.FAILED, f"the agent failed: {exc.strerror}")

    def _receive_late(self, frame: Frame) -> None:
        """Take a frame for a client that has ended: only its streams go on."""
        match frame:
            case Data():
                self._streams.ignore(self.client_id, frame.attachments)
            case OpenStream() | ReadMemory():
                self._open_stream(frame)
            case _:
                pass

    def _file_away(self, frame: Frame) -> None:
        match frame:
            case Data():
                self._receive_events(frame)
            case FileData():
                self._files.append(frame.file_id, frame.data)
                self._lanes.consumed(self._lane, len(frame.data))
            case OpenStream() | ReadMemory():
                self._open_stream(frame)
            case Locate():
                self._memories.use(frame.memory_id)
                self._locations.receive_locate(frame)
                self._attend()
            case Release():
                self._locations.receive_release(frame)
            case CloseMemory():
                self._memories.close(frame.memory_id)
            case ClientClosed():
                self._receive_close(frame)
            case _:
                raise ChannelError(f"{type(frame).__name__} is not for a client")

    def _open_stream(self, frame: OpenStream | ReadMemory) -> None:
        if not self._memories.was_kept(frame.memory_id):
            raise ChannelError(f"there is no memory {frame.memory_id} yet")
        fd = self._memories.take(frame.memory_id)
        lane = Lane(self.client_id, frame.stream_id)
        if fd is None:
            self._streams.refuse(lane, CloseReason.FAILED)
        elif isinstance(frame, ReadMemory):
            self._streams.read(lane, fd, frame.offset, frame.length)
        else:
            self._streams.adopt(lane, fd, frame.flags)

    def _receive_close(self, frame: ClientClosed) -> None:
        why = frame.message or WORDS[frame.reason]
        if frame.reason is not CloseReason.NORMAL:
            log.warning("%s: the host ended it: %s", self, why)
        self._end_by_host(frame.reason, why)

    def _receive_events(self, frame: Data) -> None:
        if len(frame.attachments) > MAX_FDS_OUT * len(frame.data):
            raise ChannelError("too few bytes for so many attachments")
        fds: tuple[OwnedFd, ...] = ()
        file_bytes = 0
        if frame.attachments:
            fds, file_bytes = self._make_fds(frame.attachments)
        self._events.append(_Events(frame.data, fds, cost(frame), file_bytes))
        if len(self._events) == 1 and not self._written.is_set():
            self._send_events()

    def _make_fds(
        self, attachments: Sequence[Attachment]
    ) -> tuple[tuple[OwnedFd, ...], int]:
        """Make the fds that events bring the app; return them, and the bytes in files.

        Raises:
            OSError: there are too many fds; then nothing is left of any.
            QuotaError: there is too much in files; likewise.
        """
        fds: list[OwnedFd] = []
        file_bytes = 0
        rest = deque(attachments)
        with ExitStack() as undo:
            undo.callback(self._streams.ignore, self.client_id, rest)
            undo.callback(_close_all, fds)
            while rest:
                each = rest.popleft()
                if each.kind is AttachmentKind.STREAM:
                    lane = Lane(self.client_id, each.object_id)
                    fds.append(self._streams.create(lane, each.flags))
                else:
                    fds.append(self._files.take(each.object_id, each.size))
                    file_bytes += each.size
            undo.pop_all()
        return tuple(fds), file_bytes

    def _send_events(self) -> None:
        """Send events at once; what the app does not take of them is for a task."""
        while self._events:
            first = self._events[0]
            if not self._socket.send_at_once(first.data, first.fds):
                self._events_changed.unpark_all()
                return
            self._delivered()

    async def _write_app(self) -> None:
        """Send events that the app did not take at once."""
        try:
            with self._writing:
                while await self._events_are_here():
                    # Until the app has all of it, it stays in the queue.
                    await self._socket.send_rest()
                    self._delivered()
                    self._send_events()
        except MemoryError:
            self._end(CloseReason.FAILED, NO_MEMORY)
        except (OSError, trio.BrokenResourceError) as exc:
            log.debug("%s: %s", self, exc)
        finally:
            self._written.set()
        self._end(CloseReason.NORMAL)

    async def _events_are_here(self) -> bool:
        """Wait for events; False if there are no more."""
        while not self._events:
            if self._host_closed or self._ended.is_set():
                return False
            await self._events_changed.park()
        return True

    def _delivered(self) -> None:
        """The app has all of the first events: let go of what was kept for them."""
        events = self._events.pop(0)
        _close_all(events.fds)
        self._files.delivered(events.file_bytes)
        self._lanes.consumed(self._lane, events.cost)


def _close_all(fds: Iterable[OwnedFd]) -> None:
    for fd in fds:
        fd.close()
