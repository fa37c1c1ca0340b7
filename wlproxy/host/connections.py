"""Clients' connections to the compositor: made, read, written, and let go of.

One object for all clients of a session; each has tasks of its own.  What a message means
is the core's affair (`conductor`), when a client ends as well; what is queued for it is
in `compositor_queue`.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from wlproxy.host.client import HostClient
from wlproxy.host.conductor import Conductor
from wlproxy.host.errors import HostError
from wlproxy.host.executor import CANNOT, Executor
from wlproxy.host.outgoing import Outgoing
from wlproxy.host.pixels import Copy
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import ClientReleased, CloseReason, Credit
from wlproxy.relay.inputs import (
    CompositorClosed,
    Copied,
    EventsTurn,
    FromCompositor,
    Input,
)
from wlproxy.relay.relay import Relay
from wlproxy.transport.fd_stream import FdsLostError, FdStream

LET_GO_SECONDS = 5.0
"""For the compositor to close a connection that we have shut down, and for the guest to
take a closed client's last data."""

COMPOSITOR_READ = 32 * 1024
"""Bytes read from the compositor at once."""

MAX_UNSENT = 1 << 20
"""While so many bytes wait for a compositor, its events wait too."""

COMPOSITOR_UNREACHABLE = "the compositor of the host cannot be reached"
COMPOSITOR_CLOSED = "the compositor of the host has closed the connection"

Feed = Callable[[Input], None]
"""Gives the core an input of a client's."""

Run = Callable[[], Awaitable[None]]


class Connections:
    """Runs the clients of one session.

    Attributes:
        connect: makes a connection to the compositor.
    """

    def __init__(  # noqa: PLR0913 - whom it works with
        self,
        *,
        connect: Callable[[], Awaitable[FdStream]],
        relay: Relay,
        conductor: Conductor,
        executor: Executor,
        outgoing: Outgoing,
        log: VmLog,
        feed: Feed,
        start: Callable[[int, Run], None],
        watch: Callable[[int, Run], Awaitable[None]],
        gone: Callable[[int], None],
    ) -> None:
        """There are none yet.

        Args:
            connect: makes a connection to the compositor.
            relay: the core.
            conductor: ends clients.
            executor: has them, and carries copies out.
            outgoing: where frames go.
            log: written to.
            feed: gives the core an input, and does what follows.
            start: starts a task of a client.
            watch: runs a part of one: what goes wrong ends the client, and no more.
            gone: told each client that the compositor has let go of.
        """
        self.connect = connect
        self._relay = relay
        self._conductor = conductor
        self._executor = executor
        self._outgoing = outgoing
        self._log = log
        self._feed = feed
        self._start = start
        self._watch = watch
        self._gone = gone
        self._door = trio.Lock()

    def start(self, client: HostClient) -> None:
        """Connect a client to the compositor; its task lets go of it in the end."""
        client.running = True
        self._start(client.client_id, partial(self._run_client, client))

    async def _run_client(self, client: HostClient) -> None:
        """Relay a client's events until it is closed; then let go of it."""
        try:
            with client.scope:
                serve = partial(self._serve_client, client)
                await self._watch(client.client_id, serve)
            if client.connection is not None:
                await self._wait_closed(client, client.connection)
            if not client.queue.gone:
                with trio.move_on_after(LET_GO_SECONDS):
                    await client.queue.wait_drained()
        finally:
            try:
                if client.connection is not None:
                    with trio.CancelScope(shield=True):  # it never waits
                        await client.connection.aclose()
                with trio.CancelScope(shield=True):  # for no longer than a slice takes
                    await client.to_compositor.wait_copied()
            finally:
                self._let_go(client)

    async def _serve_client(self, client: HostClient) -> None:
        """Connect a client to the compositor; relay its events until one of them ends."""
        async with self._door:  # one after the other, as others have turns in between
            await trio.lowlevel.checkpoint()
        try:
            client.connection = stream = await self.connect()
        except HostError as exc:
            self._compositor_closed(client, COMPOSITOR_UNREACHABLE, exc.explanation)
            return
        write = partial(self._write_compositor, client, stream)
        self._start(client.client_id, write)
        try:
            await self._read_compositor(client, stream)
        except trio.BrokenResourceError as exc:
            self._compositor_closed(client, COMPOSITOR_CLOSED, str(exc))
        except FdsLostError as exc:
            self._log.of_client(logging.WARNING, "%s: %s", client.label, exc)
            self._conductor.end_client(client.client_id, CloseReason.FAILED, CANNOT)
        else:
            self._compositor_closed(client, COMPOSITOR_CLOSED, "")

    async def _wait_closed(self, client: HostClient, stream: FdStream) -> None:
        await client.writer_ended.wait()
        if not await stream.hang_up(LET_GO_SECONDS):
            self._log.of_client(
                logging.WARNING, "%s: the compositor does not let go", client.label
            )

    async def _read_compositor(self, client: HostClient, stream: FdStream) -> None:
        """Relay events until the compositor closes the connection."""
        while True:
            await client.queue.wait_drained()
            await client.to_compositor.wait_below(MAX_UNSENT)
            # No checkpoint from here on: what was received is not lost by cancellation.
            data, fds = await stream.receive(COMPOSITOR_READ)
            if not data:
                for fd in fds:
                    fd.close()
                return
            client_id = client.client_id
            received = self._executor.receive_fds(client_id, fds)
            self._feed(FromCompositor(client_id, data, received))
            while self._relay.events_wait(client_id):
                await trio.lowlevel.checkpoint()
                self._feed(EventsTurn(client_id))

    async def _write_compositor(self, client: HostClient, stream: FdStream) -> None:
        try:
            with client.writer_scope:
                await client.to_compositor.run(
                    stream,
                    lambda copy: self._copy(client, copy),
                    lambda amount: self._grant(client, amount),
                )
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # What the compositor said before it hung up is for the reader to find.
            client.to_compositor.drop()
        except HostError as exc:
            self._log.of_client(logging.WARNING, "%s: %s", client.label, exc)
            self._conductor.end_client(client.client_id, CloseReason.FAILED, CANNOT)
        finally:
            client.writer_ended.set()

    async def _copy(self, client: HostClient, copy: Copy) -> None:
        """Carry out a copy, and tell the core what that took.

        Raises:
            HostError: no memory is left.
        """
        while not copy.done:
            copied = await self._executor.copy_some(client, copy)
            self._relay.receive(Copied(client.client_id, copy.handle, copied))

    def _grant(self, client: HostClient, amount: int) -> None:
        grant = client.window.consumed(amount)
        if grant:
            self._outgoing.put(Credit(client.client_id, 0, grant))

    def _compositor_closed(self, client: HostClient, message: str, detail: str) -> None:
        """The compositor is gone for a client; `detail` is for the log alone."""
        if detail:
            self._log.of_client(logging.WARNING, "%s: %s", client.label, detail)
        self._feed(CompositorClosed(client.client_id, message))

    def _let_go(self, client: HostClient) -> None:
        """Nothing reads the client's pages any more: tell the guest, and forget it."""
        try:
            client.queue.drop_data()
            self._executor.forget_client(client)
        finally:
            self._gone(client.client_id)
            self._outgoing.put(ClientReleased(client.client_id))
