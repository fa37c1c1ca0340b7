"""All clients of one guest: frames and compositor bytes in, commands out.

Each method is one input; what is to be done about it comes back as a list of commands,
in order.  What an app or its compositor sends is handled in turns of a few messages, so
that nobody waits long for anybody else: `requests_wait` and `events_wait` say who has
more to do.  A client that breaks the rules ends alone, and so does one whose compositor
does; what the agent itself breaks is raised (`ChannelError`, `ExtentError`) and ends the
session.
"""

from collections.abc import Callable, Sequence
from typing import Final

from wlproxy.memory.guest import GuestMemory
from wlproxy.protocol.channel.frames import (
    MAX_TEXT,
    ClientClosed,
    ClientOpened,
    CloseReason,
    Data,
    Frame,
    Located,
    Released,
)
from wlproxy.protocol.errors import (
    ChannelError,
    CompositorError,
    LimitExceededError,
    LocalProtocolError,
    WaylandError,
)
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError
from wlproxy.relay.buffers.surfaces import SurfaceStatus
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.client import Client
from wlproxy.relay.commands import (
    CloseClient,
    Command,
    OpenCompositor,
    Trace,
    TraceLevel,
)
from wlproxy.relay.handles import Handle, core_handles
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.quotas import MAX_FDS, Quotas
from wlproxy.relay.wire.clock import ClockSample, GuestClock
from wlproxy.relay.wire.context import RelayConfig, Shared

MAX_CLIENTS: Final = 256
"""Clients of one guest at once, unless configured otherwise."""

MAX_LABEL: Final = 48
"""Characters of an executable's name in a label."""

COMPOSITOR_ERRED: Final = (
    "the compositor of the host has made an error, for which this app is not to blame"
)
"""All that a client is told of what its compositor did wrong; the log has the rest."""


class Relay:
    """The core of the proxy, for one session with one guest.

    Attributes:
        clock: the guest's.
    """

    def __init__(
        self,
        config: RelayConfig,
        memory: GuestMemory,
        capabilities: CompositorCapabilities,
        max_clients: int = MAX_CLIENTS,
        max_fds: int = MAX_FDS,
    ) -> None:
        """No client yet.

        Args:
            config: the user's.
            memory: the guest's.
            capabilities: the host's.
            max_clients: of the guest at once.
            max_fds: that the shell may open for buffers.
        """
        self._capabilities = capabilities
        self._compositor_away = False
        self._max_clients = max_clients
        self._shared = Shared(
            config, memory, core_handles(), Quotas(memory.size, max_fds)
        )
        self._clients: dict[int, Client] = {}
        self._last_client_id = 0

    @property
    def clock(self) -> GuestClock:
        """The guest's."""
        return self._shared.clock

    @property
    def client_labels(self) -> dict[int, str]:
        """The clients there are: id to label."""
        return {client_id: client.label for client_id, client in self._clients.items()}

    def receive_frame(self, frame: Frame) -> list[Command]:
        """Take a frame about a client.  `Data` waits for `handle_requests`.

        Raises:
            RemoteProtocolError: the agent broke the channel protocol: end the session.
        """
        match frame:
            case ClientOpened():
                return self._open(frame)
            case ClientClosed(client_id=client_id):
                return self._close_for_guest(client_id, frame)
            case Data(client_id=client_id):
                return self._apply(client_id, lambda client: client.receive_data(frame))
            case Located(client_id=client_id):
                return self._apply(
                    client_id, lambda client: client.receive_located(frame)
                )
            case Released(client_id=client_id):
                self._known(client_id)
                return []
            case _:
                raise LocalProtocolError(f"{type(frame).__name__} is not for the relay")

    def requests_wait(self, client_id: int) -> bool:
        """Whether an app has requests for `handle_requests`."""
        client = self._clients.get(client_id)
        return client is not None and client.requests_wait

    def fds_wait(self, client_id: int) -> bool:
        """Whether an app attached what no request that was handled has taken."""
        client = self._clients.get(client_id)
        return client is not None and client.fds_wait

    def handle_requests(self, client_id: int) -> list[Command]:
        """Give an app's requests a turn."""
        return self._apply(client_id, Client.handle_requests)

    def receive_from_compositor(
        self, client_id: int, data: bytes, fds: Sequence[ReceivedFd]
    ) -> list[Command]:
        """Take bytes and fds that the compositor sent for a client; give them a turn."""
        return self._apply(
            client_id, lambda client: client.receive_from_compositor(data, fds)
        )

    def events_wait(self, client_id: int) -> bool:
        """Whether there are events for `handle_events`, before more are received."""
        client = self._clients.get(client_id)
        return client is not None and client.events_wait

    def handle_events(self, client_id: int) -> list[Command]:
        """Give the compositor's events for a client another turn."""
        return self._apply(client_id, Client.handle_events)

    def compositor_closed(self, client_id: int, message: str) -> list[Command]:
        """The compositor hung up on a client, or could not be reached.

        Args:
            client_id: whose.
            message: tells the app; unless it knows a better reason, by an error.
        """
        client = self._clients.get(client_id)
        if client is None:
            return []
        if not client.failed:
            gone = CloseReason.COMPOSITOR_GONE
            return self._end_with_sentence(client_id, client, gone, message)
        self._forget(client_id)
        reason = CloseReason.PROTOCOL_ERROR
        return [*client.take(), CloseClient(client_id, reason, _short(message))]

    def client_failed(
        self, client_id: int, reason: CloseReason, message: str
    ) -> list[Command]:
        """The shell could not do what a client cannot go on without.

        What was decided for the client and not returned yet is dropped: the shell may
        have met a bug of ours half-way.
        """
        client = self._clients.get(client_id)
        if client is None:
            return []
        client.take()
        return self._end_with_sentence(client_id, client, reason, message)

    def buffer_created(self, client_id: int, handle: Handle) -> list[Command]:
        """The shell made what a handle names."""
        return self._apply(client_id, lambda client: client.buffer_created(handle))

    def buffer_failed(
        self, client_id: int, handle: Handle, error: int, message: str
    ) -> list[Command]:
        """The shell could not; `error` is the errno, 0 if it was no system call."""
        words = f"{message} (errno {error})" if error else message
        return self._apply(
            client_id, lambda client: client.buffer_failed(handle, words)
        )

    def copied(self, client_id: int, handle: Handle, amount: int) -> None:
        """The shell copied so many bytes into the buffer that a handle names."""
        client = self._clients.get(client_id)
        if client is not None:
            client.copied(handle, amount)

    def compositor_away(self) -> None:
        """There is no compositor: clients yet to come wait for `use_capabilities`."""
        self._compositor_away = True

    def use_capabilities(self, capabilities: CompositorCapabilities) -> list[Command]:
        """The host can do this from now on, for clients that wait and those to come."""
        self._capabilities = capabilities
        self._compositor_away = False
        return [
            command
            for client_id, client in tuple(self._clients.items())
            if client.waits
            for command in self._apply(
                client_id, lambda client: client.go_on(capabilities)
            )
        ]

    def measure_clock(self, sample: ClockSample) -> list[Command]:
        """Take what a ping tells of the guest's clock."""
        trusted = self.clock.trusted
        self.clock.measure(sample)
        commands: list[Command] = []
        if self.clock.trusted and not trusted:
            for client in self._clients.values():
                client.clock_trusted()
                commands += client.take()
        return commands

    def end(self, reason: CloseReason, message: str) -> list[Command]:
        """The session is over: close every client."""
        commands: list[Command] = [
            CloseClient(client_id, reason, _short(message))
            for client_id in self._clients
        ]
        for client_id in tuple(self._clients):
            self._forget(client_id)
        return commands

    def surfaces(self) -> list[SurfaceStatus]:
        """Say how each surface of each client is doing."""
        return [
            status for client in self._clients.values() for status in client.statuses()
        ]

    def _open(self, frame: ClientOpened) -> list[Command]:
        if frame.client_id <= self._last_client_id:
            raise ChannelError(f"client id {frame.client_id} is used again")
        self._last_client_id = frame.client_id
        if len(self._clients) >= self._max_clients:
            message = f"the host serves {self._max_clients} clients at once"
            return [
                CloseClient(frame.client_id, CloseReason.LIMIT_EXCEEDED, message),
            ]
        label = f"{_plain(frame.executable) or 'client'}({frame.pid})"
        self._clients[frame.client_id] = Client(
            frame.client_id,
            label,
            self._shared,
            self._capabilities,
        )
        if self._compositor_away:
            self._clients[frame.client_id].wait()
        return [
            OpenCompositor(frame.client_id, label),
            Trace(frame.client_id, TraceLevel.INFO, f"{label} connected"),
        ]

    def _close_for_guest(self, client_id: int, frame: ClientClosed) -> list[Command]:
        client = self._known(client_id)
        if client is None:
            return []
        self._forget(client_id)
        return [
            *client.take(),
            Trace(client_id, TraceLevel.INFO, f"{client.label} left {frame.message}"),
            CloseClient(client_id, frame.reason, frame.message, silent=True),
        ]

    def _apply(
        self, client_id: int, receive: Callable[[Client], None]
    ) -> list[Command]:
        client = self._known(client_id)
        if client is None:
            return []
        try:
            receive(client)
        except WaylandError as error:
            over = isinstance(error, LimitExceededError)
            reason = CloseReason.LIMIT_EXCEEDED if over else CloseReason.PROTOCOL_ERROR
            return self._end_in_error(client_id, client, error, reason, str(error))
        except CompositorError as error:
            detail = f"the compositor broke the protocol: {error}"
            return self._end_with_sentence(
                client_id, client, CloseReason.FAILED, COMPOSITOR_ERRED, detail
            )
        return client.take()

    def _end_with_sentence(
        self,
        client_id: int,
        client: Client,
        reason: CloseReason,
        message: str,
        detail: str = "",
    ) -> list[Command]:
        """End a client for what it did not do; `detail` is for the log alone."""
        code = (
            DisplayError.NO_MEMORY
            if reason is CloseReason.LIMIT_EXCEEDED
            else DisplayError.IMPLEMENTATION
        )
        error = WaylandError(DISPLAY_ID, code, f"wlproxy: {message}")
        return self._end_in_error(client_id, client, error, reason, detail or message)

    def _end_in_error(
        self,
        client_id: int,
        client: Client,
        error: WaylandError,
        reason: CloseReason,
        detail: str,
    ) -> list[Command]:
        self._forget(client_id)  # first: it is gone, whatever comes of the rest
        message = _short(error.message)
        client.report(WaylandError(error.object_id, error.code, message))
        return [
            *client.take(),
            Trace(client_id, TraceLevel.WARNING, _short(f"{client.label}: {detail}")),
            CloseClient(client_id, reason, message),
        ]

    def _forget(self, client_id: int) -> None:
        self._clients.pop(client_id).close()

    def _known(self, client_id: int) -> Client | None:
        """Find a client; None if it has ended and the guest could not know yet.

        Raises:
            ChannelError: there never was such a client.
        """
        if client_id > self._last_client_id or not client_id:
            raise ChannelError(f"client {client_id} was never opened")
        return self._clients.get(client_id)


def _plain(text: str) -> str:
    """Make a label of what a guest calls itself: short, nothing that moves a cursor."""
    return "".join(char for char in text if char.isprintable())[:MAX_LABEL]


def _short(text: str) -> str:
    """Cut a message, which may quote a peer, to what frames and errors can carry."""
    clean = text.replace("\0", "").encode(errors="replace")[:MAX_TEXT]
    return clean.decode(errors="ignore")
