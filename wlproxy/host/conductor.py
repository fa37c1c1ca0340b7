"""Joins the core and the clients: inputs go in, commands are carried out, answers go back in.

Whatever fails on the way ends the client that it was for, at once, and nothing else: a
command that cannot be carried out, and a bug.  No tasks here: `session` has them.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from wlproxy.host.client.buffers import Answer
from wlproxy.host.client.client import CANNOT, Client
from wlproxy.host.client.turns import Turns
from wlproxy.host.errors import HostError
from wlproxy.host.report.bugs import MISTAKE, report_bug
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import CloseReason
from wlproxy.protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    WlproxyError,
)
from wlproxy.relay.commands import CloseClient, Command, SendFrame, Trace
from wlproxy.relay.inputs import ClientFailed, Input
from wlproxy.relay.relay import Relay

MAX_UNREAD = 1 << 20
"""Bytes of events that an app may have us keep for it.  The compositor's wait for it to
read, but what we answer ourselves would not; libwayland, too, ends who does not read."""

UNREAD = "it does not read its events"

P = ParamSpec("P")
T = TypeVar("T")


class Conductor:
    """The loop of one session, from an input to the last of what follows from it.

    Attributes:
        clients: by their id, those included that the compositor still holds.
        turns: clients that have requests to be handled.
    """

    def __init__(
        self,
        relay: Relay,
        metrics: Metrics,
        log: VmLog,
        *,
        lost: Callable[[WlproxyError], None],
    ) -> None:
        """Nothing is done yet.

        Args:
            relay: the core.
            metrics: counted into.
            log: written to.
            lost: called if a bug must end the session, for it is no client's.
        """
        self.clients: dict[int, Client] = {}
        self.turns = Turns()
        self._relay = relay
        self._metrics = metrics
        self._log = log
        self._lost = lost

    def feed(self, given: Input) -> None:
        """Give the core an input, and do all that follows from it.

        Raises:
            RemoteProtocolError: the agent broke the channel protocol.
        """
        client_id = getattr(given, "client_id", 0)
        pending = deque(self._defended(client_id, self._relay.receive, given) or ())
        changed: dict[int, bool] = {}  # whether frames were among what was for a client
        while pending:
            command = pending.popleft()
            whose = command.client_id
            changed[whose] = changed.get(whose, False) or isinstance(command, SendFrame)
            answer = self._defended(whose, self._execute, command)
            if answer is not None:
                pending.extend(self._defended(whose, self._answer, answer) or ())
        for each in changed:
            if each in self.clients:
                self._defended(each, self.clients[each].flush)
        # What is the session's may have been for any of them.
        for each in (client_id,) if client_id else tuple(self.clients):
            client = self.clients.get(each) if changed.get(each) else None
            if client is not None and client.usage.waiting > MAX_UNREAD:
                self.end_client(each, CloseReason.LIMIT_EXCEEDED, UNREAD)
            if self._relay.requests_wait(each):
                self.turns.add(each)

    def end_client(self, client_id: int, reason: CloseReason, message: str) -> None:
        """End a client at once, whatever the core makes of it.

        Args:
            client_id: whom.
            reason: why.
            message: what the guest is told; nothing of the host.
        """
        failed = ClientFailed(client_id, reason, message)
        try:
            for command in self._relay.receive(failed):
                self._execute(command)
        except Exception as exc:  # noqa: BLE001 - the client ends all the same
            self._report(client_id, exc)
        if client_id in self.clients:
            self.clients[client_id].close(CloseClient(client_id, reason, message))

    def meet_bug(self, client_id: int, exc: Exception) -> None:
        """End the client that a bug was met for; the session, if it is nobody's."""
        self._report(client_id, exc)
        if client_id:
            try:
                self.end_client(client_id, CloseReason.FAILED, MISTAKE)
            except Exception as worse:  # noqa: BLE001 - the session ends instead
                self._report(0, worse)
            else:
                return
        self._lost(LocalProtocolError(MISTAKE))

    def _answer(self, answer: Answer | ClientFailed) -> Sequence[Command]:
        """Tell the core what became of a command; return what it says to that."""
        if isinstance(answer, ClientFailed):
            # At once: what comes after relies on what could not be done.
            self.end_client(answer.client_id, answer.reason, answer.message)
            return ()
        return self._relay.receive(answer)

    def _execute(self, command: Command) -> Answer | ClientFailed | None:
        """Carry out one command.  A client that has been closed takes no more."""
        client_id = command.client_id
        client = self.clients.get(client_id)
        if isinstance(command, Trace):
            self._trace(command, client)
            return None
        if client is None or client.closed:
            return None
        try:
            return client.carry_out(command)
        except HostError as exc:
            self._log.of_client(logging.WARNING, "%s: %s", client.label, exc)
            return ClientFailed(client_id, CloseReason.FAILED, CANNOT)

    def _trace(self, command: Trace, client: Client | None) -> None:
        level = int(command.level)
        if client is None or command.message.startswith(client.label):
            self._log.of_client(level, "%s", command.message)
        else:
            self._log.of_client(level, "%s: %s", client.label, command.message)

    def _defended(
        self, client_id: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Do some work of a client's: an exception that nobody expected ends that client."""
        try:
            return work(*args, **kwargs)
        except RemoteProtocolError:
            raise
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            self.meet_bug(client_id, exc)
            return None

    def _report(self, client_id: int, exc: Exception) -> None:
        client = self.clients.get(client_id)
        whose = client.label if client is not None else f"client {client_id}"
        whose = whose if client_id else "the session"
        report_bug(exc, whose, self._metrics, self._log)
