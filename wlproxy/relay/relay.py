"""All clients of one guest: inputs in, commands out, and who ends for whose error.

`Relay.receive` takes one input (`inputs`); what is to be done about it comes back as a
list of commands (`commands`), in order.  What an app or its compositor sends is handled in
turns of a few messages, so that nobody waits long for anybody else: `requests_wait` and
`events_wait` say who has more to do.  A client that breaks the rules ends alone, and so does one whose compositor
does; what the agent itself breaks is raised (`ChannelError`, `ExtentError`) and ends the
session.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from wlproxy.memory.guest_memory import GuestMemory
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    CloseReason,
    Released,
)
from wlproxy.protocol.channel.rules import fit_text
from wlproxy.protocol.errors import (
    ChannelError,
    CompositorError,
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
from wlproxy.relay.holdings import Holdings
from wlproxy.relay.inputs import (
    ClientFailed,
    ClientInput,
    ClockSample,
    CompositorAway,
    CompositorClosed,
    CompositorFound,
    Copied,
    Input,
    PolicyChanged,
    SessionEnded,
)
from wlproxy.relay.quotas import MAX_FDS, Quotas, Shares
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.clock import GuestClock
from wlproxy.relay.wire.context import Context, RelayConfig, Shared

if TYPE_CHECKING:
    from wlproxy.protocol.notation import Notation, Plain

GivenT = TypeVar("GivenT")

MAX_CLIENTS: Final = 256
"""Clients of one guest at once, unless configured otherwise."""

MAX_LABEL: Final = 48
"""Characters of an executable's name in a label."""

COMPOSITOR_ERRED: Final = (
    "the compositor of the host has made an error, for which this app is not to blame"
)
"""All that a client is told of what its compositor did wrong; the log has the rest."""


@dataclass(slots=True, eq=False, init=False)
class Relay:
    """The core of the proxy, for one session with one guest.

    Attributes:
        clock: the guest's.
    """

    _capabilities: CompositorCapabilities
    _compositor_away: bool
    _max_clients: int
    _shared: Shared
    _clients: dict[int, Client]
    _last_client_id: int

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
        quotas = Quotas(memory.size, max_fds)
        self._shared = Shared(config, memory, quotas, bindings=config.bindings)
        self._limit()
        self._clients = {}
        self._last_client_id = 0

    def snapshot(self, *, lengths: bool = False) -> dict[str, "Plain"]:
        """Write down all that is known, between two inputs, in values for JSON.

        Not in it: what `restore` is given, and the fds of its handles.

        Args:
            lengths: of bytes, only say how many: for people, and not to be restored.
        """
        return _notation().write(self, lengths=lengths)

    @staticmethod
    def restore(snapshot: object, config: RelayConfig, memory: GuestMemory) -> "Relay":
        """Put together what goes on as the one that was written down would have.

        Args:
            snapshot: of it.
            config: the user's, as it was given to that one.
            memory: likewise.

        Raises:
            SnapshotError: it was not written by this version.
        """
        relay = _notation().read(snapshot, {RelayConfig: config, GuestMemory: memory})
        # The next session goes by the configuration, and by what the user says in this one.
        config.bindings.are_hosts = relay._shared.bindings.are_hosts  # noqa: SLF001 - its own class
        relay._shared.bindings = config.bindings  # noqa: SLF001
        return relay

    @property
    def clock(self) -> GuestClock:
        """The guest's."""
        return self._shared.clock

    @property
    def client_labels(self) -> dict[int, str]:
        """The clients there are: id to label."""
        return {client_id: client.label for client_id, client in self._clients.items()}

    def receive(self, given: Input) -> list[Command]:
        """Take an input, and say what is to be done about it, in this order.

        Raises:
            RemoteProtocolError: the agent broke the channel protocol: end the session.
        """
        if not isinstance(given, ClientInput):
            return self._receive_rest(given)
        client = self._known(given.client_id)
        if client is None:
            return []
        return self._defended(given.client_id, client, client.receive, given)

    def requests_wait(self, client_id: int) -> bool:
        """Whether an app has requests for a `RequestsTurn`."""
        client = self._clients.get(client_id)
        return client is not None and client.requests_wait

    def events_wait(self, client_id: int) -> bool:
        """Whether there are events for an `EventsTurn`, before more are received."""
        client = self._clients.get(client_id)
        return client is not None and client.events_wait

    def surfaces(self) -> list[SurfaceStatus]:
        """Say how each surface of each client is doing."""
        return [
            status for client in self._clients.values() for status in client.statuses()
        ]

    def ram_files(self) -> set[int]:
        """List the RAM files that pinned pages of any client are in."""
        return set().union(*(client.ram_files() for client in self._clients.values()))

    def bound(self, interface: str) -> int:
        """Count the clients that have bound a global."""
        return sum(client.has(interface) for client in self._clients.values())

    def framed_otherwise(self) -> int:
        """Count the clients whose windows are not framed as those of new ones are."""
        return sum(client.framed_otherwise for client in self._clients.values())

    def holdings(self) -> Holdings:
        """Say what is left of whom."""
        return Holdings(
            clients={each: client.holdings() for each, client in self._clients.items()},
            used=self._shared.quotas.used(),
        )

    def _receive_rest(  # noqa: C901, PLR0911 - one flat table
        self, given: Input
    ) -> list[Command]:
        """Take an input that is not for one client that goes on."""
        match given:
            case ClientOpened():
                return self._open(given)
            case ClientClosed():
                return self._close_for_guest(given)
            case Released(client_id=client_id):
                self._known(client_id)
                return []
            case ClientFailed() | CompositorClosed():
                return self._end_for_shell(given)
            case Copied():
                return self._count_copied(given)
            case CompositorAway():
                self._compositor_away = True
                return []
            case CompositorFound():
                return self._use(given)
            case PolicyChanged():
                return self._obey(given)
            case ClockSample():
                return self._measure_clock(given)
            case SessionEnded():
                return self._end(given)
            case _:
                raise LocalProtocolError(f"{type(given).__name__} is not for the relay")

    def _end_for_shell(self, given: ClientFailed | CompositorClosed) -> list[Command]:
        client_id, message = given.client_id, given.message
        client = self._clients.get(client_id)
        if client is None:
            return []
        if isinstance(given, ClientFailed):
            client.take()
            return self._end_with_sentence(client_id, client, given.reason, message)
        if not client.failed:
            gone = CloseReason.COMPOSITOR_GONE
            return self._end_with_sentence(client_id, client, gone, message)
        self._forget(client_id)
        reason = CloseReason.PROTOCOL_ERROR
        return [*client.take(), CloseClient(client_id, reason, fit_text(message))]

    def _count_copied(self, given: Copied) -> list[Command]:
        client = self._clients.get(given.client_id)
        if client is not None:
            client.count(given)
        return []

    def _use(self, found: CompositorFound) -> list[Command]:
        self._capabilities = found.capabilities
        self._compositor_away = False
        return [
            command
            for client_id, client in tuple(self._clients.items())
            if client.waits
            for command in self._defended(client_id, client, client.go_on, found)
        ]

    def _obey(self, decided: PolicyChanged) -> list[Command]:
        """Go by another policy from now on: one assignment, which all filters see."""
        config = self._shared.config
        before = config.policy.globals.caps
        self._shared.config = replace(
            config, policy=decided.policy, frame=decided.frame
        )
        self._limit()
        commands: list[Command] = []
        for client_id, client in tuple(self._clients.items()):
            commands += self._defended(client_id, client, client.policy_changed, before)
        return commands

    def _limit(self) -> None:
        """Have the VM's quotas be as the policy says."""
        limits = self._shared.config.policy.limits
        self._shared.quotas.limit(
            limits.vm_copy_bytes, limits.vm_locations, limits.vm_runs, limits.ram_times
        )

    def _measure_clock(self, sample: ClockSample) -> list[Command]:
        trusted = self.clock.trusted
        self.clock.measure(sample)
        commands: list[Command] = []
        if self.clock.trusted and not trusted:
            for client in self._clients.values():
                client.clock_trusted()
                commands += client.take()
        return commands

    def _end(self, ended: SessionEnded) -> list[Command]:
        commands: list[Command] = [
            CloseClient(client_id, ended.reason, fit_text(ended.message))
            for client_id in self._clients
        ]
        for client_id in tuple(self._clients):
            self._forget(client_id)
        return commands

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
        limits = self._shared.config.policy.limits
        shares = Shares(
            self._shared.quotas,
            limits.app_copy_bytes,
            limits.app_locations,
            limits.app_runs,
        )
        context = Context(
            frame.client_id, label, self._shared, self._capabilities, shares
        )
        client = self._clients[frame.client_id] = Client(context, ClientState(context))
        if self._compositor_away:
            client.wait()
        else:
            client.start()
        return [
            OpenCompositor(frame.client_id, label),
            Trace(frame.client_id, TraceLevel.INFO, f"{label} connected"),
            *client.take(),
        ]

    def _close_for_guest(self, frame: ClientClosed) -> list[Command]:
        client_id = frame.client_id
        client = self._known(client_id)
        if client is None:
            return []
        self._forget(client_id)
        return [
            *client.take(),
            Trace(client_id, TraceLevel.INFO, f"{client.label} left {frame.message}"),
            CloseClient(client_id, frame.reason, frame.message, silent=True),
        ]

    def _defended(
        self,
        client_id: int,
        client: Client,
        take: Callable[[GivenT], None],
        given: GivenT,
    ) -> list[Command]:
        """Have a client take an input, and end it if it, or its compositor, errs."""
        try:
            take(given)
        except WaylandError as error:
            return self._end_in_error(
                client_id, client, error, error.reason, str(error)
            )
        except CompositorError as error:
            detail = f"the compositor broke the protocol: {error}"
            return self._end_with_sentence(
                client_id, client, error.reason, COMPOSITOR_ERRED, detail
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
        message = fit_text(error.message)
        client.report(WaylandError(error.object_id, error.code, message))
        return [
            *client.take(),
            Trace(client_id, TraceLevel.WARNING, fit_text(f"{client.label}: {detail}")),
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


@cache
def _notation() -> "Notation[Relay]":
    # Here, since few are ever written down, and it takes a while.
    from wlproxy.relay.snapshot import notation  # noqa: PLC0415

    return notation(Relay)


def _plain(text: str) -> str:
    """Make a label of what a guest calls itself: short, nothing that moves a cursor."""
    return "".join(char for char in text if char.isprintable())[:MAX_LABEL]
