"""One wire and the sessions on it: turns bytes into frames and back until the host hangs up.

`protocol.channel.session` decides who may speak when, and `session` what frames mean.
Whoever has something to send sends as much as the wire takes at once.  One task waits to
send the rest, and until it is done nobody else writes: frames must not interleave.
"""

import logging
from contextlib import suppress
from typing import Final

import trio

from wlproxy.protocol.channel.frames import (
    VERSION_MAJOR,
    CloseReason,
    Frame,
    Goodbye,
    Hello,
    Side,
)
from wlproxy.protocol.channel.session import Session as ChannelSession
from wlproxy.protocol.channel.session import SessionState
from wlproxy.protocol.errors import ChannelError
from wlproxy.transport.frame_writer import FrameWriter
from wlproxy.transport.notify import notify
from wlproxy_guest.launchers import Launchers
from wlproxy_guest.locating.locations import Locating
from wlproxy_guest.quotas import Limits
from wlproxy_guest.session import GRACE, Session
from wlproxy_guest.wire import HostGoneError, Wire

READ_SIZE: Final = 64 * 1024
LAST_WORDS: Final = 1.0
"""Seconds for the host to take our `Goodbye`, and for apps to take theirs."""

log = logging.getLogger(__name__)


class Link:
    """Carries sessions over one wire, one after the other."""

    def __init__(
        self,
        wire: Wire,
        locating: Locating,
        limits: Limits,
        established: trio.lowlevel.ParkingLot,
        *,
        agent: str,
        grace: float = GRACE,
        launchers: Launchers | None = None,
    ) -> None:
        """Use `wire`, which stays the caller's to close.

        Whoever waits for a session parks in `established`.
        """
        self._wire = wire
        self._locating = locating
        self._limits = limits
        self._agent = agent
        self._grace = grace
        self._launchers = launchers
        self._channel = ChannelSession(Side.GUEST)
        self._raw = b""
        """What to send before any frame of the session."""
        self._writer = FrameWriter(wire, self._next_batch)
        self._receiving = False
        self._stopping = False
        self._established = established
        self.session: Session | None = None

    async def run(self, sessions: trio.Nursery) -> None:
        """Serve until the host hangs up; sessions run in `sessions`.

        The last of them has been ended then, but may not have finished.

        Raises:
            HostGoneError: it did.
        """
        self._write_raw(self._channel.announce())
        try:
            # One of two tasks fails first; which says nothing more.
            async with trio.open_nursery() as nursery:  # noqa: TID251
                nursery.start_soon(self._write_until_gone, nursery.cancel_scope)
                await self._read_until_gone(sessions)
                nursery.cancel_scope.cancel()
        finally:
            self._end_session("the connection to the host was lost")
        raise HostGoneError("the host hung up")

    async def say_goodbye(self, message: str) -> None:
        """End the session politely: first the host is told, then the apps.

        No other one begins on this wire.
        """
        self._stopping = True
        if self._channel.state is SessionState.ESTABLISHED:
            self._write_raw(self._channel.encode(Goodbye(CloseReason.NORMAL, message)))
        session = self.session
        self._end_session("the agent was stopped")
        with trio.move_on_after(LAST_WORDS):
            await self._writer.sent()
            if session is not None:
                await session.left()

    # ---------------------------------------------------------------- writing

    def _write_raw(self, data: bytes) -> None:
        self._raw += data
        self._flush()

    def _flush(self) -> None:
        if not self._receiving:
            self._writer.flush()

    async def _write_until_gone(self, link: trio.CancelScope) -> None:
        with suppress(HostGoneError):
            await self._writer.write_rest()
        link.cancel()

    def _next_batch(self) -> bytes:
        """Encode the frames that are due; session and lanes are of one session just now."""
        frames = [self._raw]
        self._raw = b""
        if self.session is not None:
            frames += self.session.lanes.next_batch(self._channel.encode)
        return b"".join(frames)

    # ---------------------------------------------------------------- reading

    async def _read_until_gone(self, sessions: trio.Nursery) -> None:
        while True:
            try:
                data = await self._wire.receive(READ_SIZE)
            except HostGoneError:
                return
            if self._stopping:
                continue  # a proxy says hello at once: the next agent is to answer it
            self._channel.feed(data)
            self._receiving = True  # what it makes us send leaves in one go
            try:
                while self._receive_next(sessions):
                    pass
            finally:
                self._receiving = False
            self._flush()

    def _receive_next(self, sessions: trio.Nursery) -> bool:
        """Take a frame; False if there is none yet."""
        try:
            frame = self._channel.next_frame()
            if frame is None:
                return False
            self._receive(frame, sessions)
        except ChannelError as exc:
            log.error("the host broke the channel protocol: %s", exc)  # noqa: TRY400
            self._end_session("the connection to the host broke")
            if self._channel.state in (
                SessionState.ESTABLISHED,
                SessionState.RESYNCING,
            ):
                goodbye = Goodbye(CloseReason.PROTOCOL_ERROR, str(exc)[:256])
                self._write_raw(self._channel.encode(goodbye))
            self._write_raw(self._channel.announce())
        return True

    def _receive(self, frame: Frame, sessions: trio.Nursery) -> None:
        match frame:
            case Hello():
                self._begin_session(frame, sessions)
            case Goodbye():
                log.info(
                    "the host says goodbye: %s", frame.message or frame.reason.name
                )
                self._end_session(
                    "it was stopped on the host"
                    if frame.reason is CloseReason.NORMAL
                    else "the host ended the session"
                )
            case _:
                if self.session is not None:
                    self.session.receive(frame)

    def _begin_session(self, hello: Hello, sessions: trio.Nursery) -> None:
        self._end_session("it was restarted on the host")
        session = Session(
            hello, self._locating, self._limits, self._flush, self._launchers
        )
        self._write_raw(self._channel.accept(session.ack(self._agent)))
        if hello.version[0] != VERSION_MAJOR:
            log.error(
                "the host speaks version %d.%d of the channel protocol, this agent"
                " version %d: update the older of the two",
                *hello.version,
                VERSION_MAJOR,
            )
            return
        log.info("session with the host begun")
        notify("STATUS=showing apps on the host")
        self.session = session
        sessions.start_soon(self._run_session, session)

    async def _run_session(self, session: Session) -> None:
        await session.run(self._established, grace=self._grace)

    def _end_session(self, why: str) -> None:
        """End the session, if there is one, and have its apps told why."""
        if self.session is not None:
            log.info("session with the host ended")
            notify("STATUS=waiting for a session with the host")
            self.session.end(why)
            self.session = None
