"""All clients of one guest: frames and compositor bytes in, commands out.

Each method is one input; what is to be done about it comes back as a list of commands,
in order.  A client that breaks the rules ends alone; what the agent itself breaks is
raised (`ChannelError`, `ExtentError`) and ends the session.
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
    LimitExceededError,
    LocalProtocolError,
    WaylandError,
)
from wlproxy.protocol.wayland.message import DISPLAY_ID, DisplayError
from wlproxy.relay.client import Client
from wlproxy.relay.commands import (
    CloseClient,
    Command,
    OpenCompositor,
    Trace,
    TraceLevel,
)
from wlproxy.relay.context import RelayConfig
from wlproxy.relay.handles import Handle, core_handles
from wlproxy.relay.inputs import ReceivedFd
from wlproxy.relay.presentation import CompositorCapabilities
from wlproxy.relay.quotas import MAX_FDS, Quotas
from wlproxy.relay.surfaces import SurfaceStatus

MAX_CLIENTS: Final = 256
"""Clients of one guest at once, unless configured otherwise."""

MAX_LABEL: Final = 48
"""Characters of an executable's name in a label."""


class Relay:
    """The core of the proxy, for one session with one guest."""

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
        self._config = config
        self._memory = memory
        self._capabilities = capabilities
        self._max_clients = max_clients
        self._quotas = Quotas(memory.size, max_fds)
        self._handles = core_handles()
        self._clients: dict[int, Client] = {}
        self._last_client_id = 0

    @property
    def client_labels(self) -> dict[int, str]:
        """The clients there are: id to label."""
        return {client_id: client.label for client_id, client in self._clients.items()}

    def receive_frame(self, frame: Frame) -> list[Command]:
        """Take a frame about a client.

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
            case Released():
                return []
            case _:
                raise LocalProtocolError(f"{type(frame).__name__} is not for the relay")

    def receive_from_compositor(
        self, client_id: int, data: bytes, fds: Sequence[ReceivedFd]
    ) -> list[Command]:
        """Take bytes and fds that the compositor sent for a client."""
        client = self._clients.get(client_id)
        if client is None:
            return []
        try:
            client.receive_from_compositor(data, fds)
        except WaylandError as error:
            return self._end_in_error(client_id, client, error)
        return client.take()

    def compositor_closed(self, client_id: int, message: str) -> list[Command]:
        """The compositor hung up on a client, or could not be reached."""
        client = self._clients.get(client_id)
        if client is None:
            return []
        self._forget(client_id)
        reason = (
            CloseReason.PROTOCOL_ERROR if client.failed else CloseReason.COMPOSITOR_GONE
        )
        return [*client.take(), CloseClient(client_id, reason, _short(message))]

    def client_failed(
        self, client_id: int, reason: CloseReason, message: str
    ) -> list[Command]:
        """The shell could not do what a client cannot go on without."""
        client = self._clients.get(client_id)
        if client is None:
            return []
        code = (
            DisplayError.NO_MEMORY
            if reason is CloseReason.LIMIT_EXCEEDED
            else DisplayError.IMPLEMENTATION
        )
        error = WaylandError(DISPLAY_ID, code, f"wlproxy: {message}")
        return self._end_in_error(client_id, client, error, reason)

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

    def use_capabilities(self, capabilities: CompositorCapabilities) -> None:
        """The host can do something else than before, for clients yet to come."""
        self._capabilities = capabilities

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
            self._config,
            self._capabilities,
            self._memory,
            self._handles,
            self._quotas,
        )
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
            return self._end_in_error(client_id, client, error)
        return client.take()

    def _end_in_error(
        self,
        client_id: int,
        client: Client,
        error: WaylandError,
        reason: CloseReason | None = None,
    ) -> list[Command]:
        if reason is None:
            over = isinstance(error, LimitExceededError)
            reason = CloseReason.LIMIT_EXCEEDED if over else CloseReason.PROTOCOL_ERROR
        message = _short(error.message)
        client.report(WaylandError(error.object_id, error.code, message))
        self._forget(client_id)
        return [
            *client.take(),
            Trace(client_id, TraceLevel.WARNING, _short(f"{client.label}: {error}")),
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
