"""The link to the guest agent: a socket, and the frames that are sent over it.

Bytes become frames here (`protocol.channel.session`); what frames mean is decided in
`session`, and when to start over in `server`.  Here the ends greet each other, and the agent
proves that the RAM which we found is its own (`prove_ram`).  Once a session has lanes, whoever has put
something there sends it, as far as the socket takes it at once; the rest is for one task
that waits (`write_rest`), and until it is done nothing more is taken out of the lanes.
"""

import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import trio

from wlproxy.host.errors import GuestRamError, HostError
from wlproxy.host.pages import PageSource
from wlproxy.host.pings import Pings
from wlproxy.host.report.metrics import Metrics
from wlproxy.protocol.channel.frames import (
    NONCE_SIZE,
    RAM_TOKEN_SIZE,
    VERSION_MAJOR,
    VERSION_MINOR,
    CloseReason,
    Feature,
    Frame,
    Goodbye,
    Hello,
    HelloAck,
    LocateStatus,
    Ping,
    Pong,
    ProveRam,
    RamProof,
    Side,
)
from wlproxy.protocol.channel.lanes.bounds import CLIENT_WINDOW, STREAM_WINDOW
from wlproxy.protocol.channel.rules import fit_text
from wlproxy.protocol.channel.session import Session, SessionLost, SessionState
from wlproxy.protocol.errors import (
    ChannelError,
    LocalProtocolError,
    RemoteProtocolError,
    WlproxyError,
)
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.transport.fd_stream import FdsLostError, FdStream
from wlproxy.transport.frame_writer import FrameWriter
from wlproxy.transport.lane_tasks import LaneTasks

FEATURES = (
    Feature.LOCATE_MEMFD
    | Feature.LOCATE_DMABUF
    | Feature.IMPLICIT_LINEAR
    | Feature.READ_MEMORY
)
"""What every agent is offered."""

HELLO_INTERVAL = 1.0
"""Seconds after which an unanswered Hello is repeated: the agent may start any time."""

PROOF_SECONDS = 20.0
"""For the agent's answer to ProveRam.  A busy TCG guest takes seconds."""

MAX_EARLY_FRAMES = 1024
"""Frames kept while the RAM is being proved; an agent has few to send by then."""

GOODBYE_SECONDS = 1.0
"""For the guest to take the last frames."""


class ChannelGoneError(HostError):
    """The other end of the socket is closed: QEMU has gone."""


class Goodbyed(ChannelError):  # noqa: N818 - an event more than an error
    """The agent ended the session and said why."""


class Link:
    """Frames over a connected socket; one session at a time."""

    def __init__(
        self, stream: FdStream, metrics: Metrics, optional: Feature = Feature.NONE
    ) -> None:
        """Nothing is said yet.  The stream is owned from now on.

        Args:
            stream: to the guest.
            metrics: counted into.
            optional: what the user lets agents have, of what is not always offered.
        """
        self._stream = stream
        self._features = FEATURES | optional
        self._metrics = metrics
        self._session = Session(Side.HOST)
        self._agent: HelloAck | None = None
        self._pings = Pings()
        self._lanes: LaneTasks | None = None
        self._writer = FrameWriter(stream, self._next_batch)

    @property
    def stream(self) -> FdStream:
        """The socket, to ask who is at its other end."""
        return self._stream

    @property
    def agent(self) -> HelloAck:
        """What the agent of the last session said of itself.

        Raises:
            LocalProtocolError: there was none yet.
        """
        if self._agent is None:
            raise LocalProtocolError("no session was established")
        return self._agent

    @property
    def pings(self) -> Pings:
        """Those of the last session."""
        return self._pings

    @property
    def established(self) -> bool:
        """Whether there is a session."""
        return self._session.state is SessionState.ESTABLISHED

    async def establish(
        self, max_clients: int, features: Feature = Feature.NONE
    ) -> HelloAck:
        """Begin a session; wait for as long as no agent answers.

        Args:
            max_clients: that the agent may have at once.
            features: offered besides: what the guest's pages need.

        Raises:
            ChannelGoneError: the other end closed the socket.
            ChannelError: an agent answered that we cannot speak with.
        """
        hello = Hello(
            secrets.token_bytes(NONCE_SIZE),
            (VERSION_MAJOR, VERSION_MINOR),
            self._features | features,
            CLIENT_WINDOW,
            STREAM_WINDOW,
            max_clients,
        )
        greeting = self._session.start(hello)
        self._pings = Pings()
        while True:
            # What does not fit now is sent on the next round; a greeting is never cut.
            with trio.move_on_after(HELLO_INTERVAL):
                # Nothing but what is left of a greeting, if anything is.
                await self._send(b"" if self._stream.backlog else greeting)
            with trio.move_on_after(HELLO_INTERVAL):
                while True:
                    frame = self._session.next_frame()
                    if isinstance(frame, HelloAck):
                        self._agent = frame
                        return frame
                    self._session.feed(await self._receive())
            greeting = self._session.repeat_hello()

    async def prove_ram(self, pages: PageSource) -> list[Frame]:
        """Have the agent show a token in the RAM that we found; return early frames.

        Meanwhile it is asked for its clock, so that times are translated from the first
        client on.

        Raises:
            GuestRamError: the agent cannot, or it is not there; with the remedy.
            ChannelGoneError: the other end closed the socket.
            ChannelError: the agent broke the protocol.
        """
        pages.expect(self.agent)
        token = secrets.token_bytes(RAM_TOKEN_SIZE)
        await self.send((ProveRam(token), self._pings.ask()))
        early: list[Frame] = []
        with trio.move_on_after(PROOF_SECONDS):
            while True:
                frames = self.received()
                for index, frame in enumerate(frames, 1):
                    if isinstance(frame, RamProof):
                        await _check_proof(frame, pages, token)
                        return [*early, *frames[index:]]
                    await self._keep(frame, early)
                self._session.feed(await self._receive())
        raise GuestRamError(
            f"the guest agent did not prove its RAM within {PROOF_SECONDS:.0f} s",
            for_guest="the agent did not prove its RAM in time",
            remedy="Look at its log in the guest: journalctl -u wlproxy-guest-agent",
        )

    async def receive(self) -> list[Frame]:
        """Wait for bytes; return the frames that are complete with them.

        Raises:
            ChannelGoneError: the other end closed the socket.
            ChannelError: the agent broke the protocol, or starts over.
        """
        self._session.feed(await self._receive())
        return self.received()

    def received(self) -> list[Frame]:
        """Return the frames that are complete, without waiting.  Raises as `receive`."""
        frames = []
        while (frame := self._session.next_frame()) is not None:
            frames.append(frame)
        self._metrics.frames_received += len(frames)
        return frames

    def carry(self, lanes: LaneTasks | None) -> None:
        """Have `flush` send what may leave these lanes from now on."""
        self._lanes = lanes

    def flush(self) -> None:
        """Send what may leave the lanes, as much of it as the socket takes at once."""
        if self.established:
            self._writer.flush()

    def _next_batch(self) -> bytes:
        if self._lanes is None:
            return b""
        frames = self._lanes.next_batch(self._session.encode)
        batch = b"".join(frames)
        self._metrics.frames_sent += len(frames)
        self._metrics.bytes_sent += len(batch)
        return batch

    async def write_rest(self) -> None:
        """Send what `flush` could not, for ever.

        Raises:
            ChannelGoneError: the other end closed the socket.
        """
        try:
            await self._writer.write_rest()
        except trio.BrokenResourceError as exc:
            raise _gone(str(exc)) from exc

    async def sent(self) -> None:
        """Wait until nothing waits for the socket; `write_rest` must run."""
        await self._writer.sent()

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames in one go.

        Raises:
            ChannelGoneError: the other end closed the socket.
        """
        self._metrics.frames_sent += len(frames)
        await self._send(b"".join([self._session.encode(frame) for frame in frames]))

    async def say_goodbye(self, reason: CloseReason, message: str) -> None:
        """End the session, if there is one and the agent listens."""
        if not self.established:
            return
        with trio.move_on_after(GOODBYE_SECONDS), suppress(ChannelGoneError):
            await self.send((Goodbye(reason, fit_text(message)),))

    async def say_no(self, why: WlproxyError) -> None:
        """End a session that has not begun properly, or is none any more."""
        if isinstance(why, HostError):
            await self.say_goodbye(CloseReason.REFUSED, why.for_guest)
        else:
            await self.say_goodbye(CloseReason.PROTOCOL_ERROR, str(why))

    def told(self, config: RelayConfig) -> RelayConfig:
        """Add what the agent says: of pages, of files, and of dma-bufs if it locates any."""
        agent = self.agent
        config = replace(
            config,
            guest_page=agent.page_size,
            reads_files=Feature.READ_MEMORY in agent.features,
        )
        if Feature.LOCATE_DMABUF not in agent.features:
            return config
        implicit_linear = Feature.IMPLICIT_LINEAR in agent.features
        return replace(
            config, main_device=agent.main_device, implicit_linear=implicit_linear
        )

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()

    async def _keep(self, frame: Frame, early: list[Frame]) -> None:
        match frame:
            case Ping(timestamp=timestamp):
                await self.send((Pong(timestamp),))
            case Pong():
                self._pings.take(frame)
                if not self._pings.settled:
                    await self.send((self._pings.ask(),))
            case Goodbye(message=message):
                raise Goodbyed(f"the agent ended the session: {message}")
            case _:
                early.append(frame)
        if len(early) > MAX_EARLY_FRAMES:
            raise ChannelError(f"over {MAX_EARLY_FRAMES} frames before the RAM proof")

    async def _send(self, data: bytes) -> None:
        self._metrics.bytes_sent += len(data)
        try:
            await self._stream.send(data)
        except trio.BrokenResourceError as exc:
            raise _gone(str(exc)) from exc

    async def _receive(self) -> bytes:
        try:
            data, fds = await self._stream.receive()
        except trio.BrokenResourceError as exc:
            raise _gone(str(exc)) from exc
        except FdsLostError as exc:
            short = "the host is short of file descriptors"
            raise HostError(str(exc), for_guest=short) from exc
        for fd in fds:  # nobody has reason to send any
            fd.close()
        if not data:
            raise _gone("end of file")
        self._metrics.bytes_received += len(data)
        return data


def farewell(cause: WlproxyError | None) -> tuple[CloseReason, str]:
    """Say to the guest and its clients what ended a session; None: we did.

    That holds nothing of the host: see `HostError.for_guest`.
    """
    match cause:
        case None:
            return CloseReason.NORMAL, "the host's proxy was stopped"
        case RemoteProtocolError():
            return CloseReason.PROTOCOL_ERROR, str(cause)
        case HostError():
            return CloseReason.FAILED, cause.for_guest
        case _:
            return CloseReason.FAILED, "the session ended"


def severity(cause: WlproxyError) -> int:
    """Say how much an end matters: an agent that is restarted is nothing to worry about."""
    harmless = isinstance(cause, SessionLost | Goodbyed)
    return logging.INFO if harmless else logging.ERROR


def _gone(why: str) -> ChannelGoneError:
    return ChannelGoneError(f"the channel was closed by its other end ({why})")


async def _check_proof(proof: RamProof, pages: PageSource, token: bytes) -> None:
    """Believe a proof or say what is wrong.

    Raises:
        GuestRamError: with the remedy.
        ExtentError: the address is not in RAM.
    """
    if proof.status is LocateStatus.NOT_PERMITTED:
        raise GuestRamError(
            "the guest agent may not read page frame numbers",
            remedy="In the guest it needs the kernel module gem_locate, or "
            "CAP_SYS_ADMIN: start it by its systemd unit or as root.",
            for_guest="the agent may not read page frame numbers: it needs the kernel "
            "module gem_locate, or CAP_SYS_ADMIN",
        )
    if proof.status is not LocateStatus.OK:
        raise GuestRamError(
            "the guest agent could not pin a page",
            tried="in the guest",
            errno=proof.errno,
            remedy="Look at its log in the guest: journalctl -u wlproxy-guest-agent",
            for_guest="the agent could not pin a page",
        )
    await pages.verify(proof.gpa, token)
