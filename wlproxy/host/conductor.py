"""Joins core and executor: inputs go in, commands are carried out, answers go back in.

Whatever fails on the way ends the client that it was for, at once, and nothing else: a
command that cannot be carried out, and a bug.  No tasks here: `session` has them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from wlproxy.host.executor import Executor, Slow, client_of
from wlproxy.host.report.bugs import MISTAKE, report_bug
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.turns import Turns
from wlproxy.protocol.channel.frames import CloseReason, Frame
from wlproxy.protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    WlproxyError,
)
from wlproxy.relay import inputs
from wlproxy.relay.commands import CloseClient, Command, CreateUdmabuf, SendFrame
from wlproxy.relay.inputs import ClientFailed, Input
from wlproxy.relay.relay import Relay

MAX_UNREAD = 1 << 20
"""Bytes of events that an app may have us keep for it.  The compositor's wait for it to
read, but what we answer ourselves would not; libwayland, too, ends who does not read."""

UNREAD = "it does not read its events"


class Conductor:
    """The loop of one session, from an input to the last of what follows from it."""

    def __init__(
        self,
        relay: Relay,
        executor: Executor,
        metrics: Metrics,
        log: VmLog,
        *,
        sent: Callable[[Frame], None],
        make_slowly: Callable[[CreateUdmabuf], None],
        lost: Callable[[WlproxyError], None],
    ) -> None:
        """Nothing is done yet.

        Args:
            relay: the core.
            executor: carries out its commands.
            metrics: counted into.
            log: written to.
            sent: told each frame that the core sends to the guest.
            make_slowly: starts to make what takes long; the answer is to be fed.
            lost: called if a bug must end the session, for it is no client's.
        """
        self._relay = relay
        self._executor = executor
        self._metrics = metrics
        self._log = log
        self._sent = sent
        self._make_slowly = make_slowly
        self._lost = lost
        self.turns = Turns()
        """Clients that have requests to be handled."""

    def feed(self, given: Input) -> None:
        """Give the core an input, and do all that follows from it.

        Raises:
            RemoteProtocolError: the agent broke the channel protocol.
        """
        client_id = inputs.client_of(given)
        pending = deque(self._defended(client_id, partial(self._relay.receive, given)))
        while pending:
            command = pending.popleft()
            carry_out = partial(self._carry_out, command)
            pending.extend(self._defended(client_of(command), carry_out))
        # What is the session's may have been for any of them.
        for each in (client_id,) if client_id else tuple(self._executor.clients):
            client = self._executor.clients.get(each)
            if client is not None and client.queue.unread_bytes > MAX_UNREAD:
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
                self._executor.execute(command)
        except Exception as exc:  # noqa: BLE001 - the client ends all the same
            self._report(client_id, exc)
        self._executor.close_client(CloseClient(client_id, reason, message))

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

    def _carry_out(self, command: Command) -> Sequence[Command]:
        """Have a command carried out; return what the core says to the answer."""
        if isinstance(command, SendFrame):
            self._sent(command.frame)
        match self._executor.execute(command):
            case None:
                return ()
            case Slow(command=slow):
                self._make_slowly(slow)
                return ()
            case ClientFailed() as failed:
                # At once: what comes after relies on what could not be done.
                self.end_client(failed.client_id, failed.reason, failed.message)
                return ()
            case answer:
                return self._relay.receive(answer)

    def _defended(
        self, client_id: int, work: Callable[[], Sequence[Command]]
    ) -> Sequence[Command]:
        try:
            return work()
        except RemoteProtocolError:
            raise
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            self.meet_bug(client_id, exc)
            return ()

    def _report(self, client_id: int, exc: Exception) -> None:
        client = self._executor.clients.get(client_id)
        whose = client.label if client is not None else f"client {client_id}"
        whose = whose if client_id else "the session"
        report_bug(exc, whose, self._metrics, self._log)
