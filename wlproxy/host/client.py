"""What the shell holds for one client of the guest: queues, streams, copy buffers.

No decisions and no tasks of its own here; the executor fills it, `session` runs it.
"""

from typing import TYPE_CHECKING

import trio

from wlproxy.host.compositor_queue import CompositorQueue
from wlproxy.host.outgoing import ClientQueue
from wlproxy.host.streams import Streams
from wlproxy.protocol.channel.flow import ReceiveWindow
from wlproxy.relay.commands import CloseClient

if TYPE_CHECKING:
    from wlproxy.host.pixels import CopyBuffer
    from wlproxy.relay.handles import Handle

CLIENT_WINDOW = 256 * 1024
"""Bytes of `Data` that the guest may have outstanding per client: a burst of requests
at start-up, and at most what a stalled compositor connection makes us hold."""


class HostClient:
    """One client, from `ClientOpened` until the compositor has let go of it."""

    def __init__(
        self, client_id: int, executable: str, queue: ClientQueue, streams: Streams
    ) -> None:
        """It has no connection to the compositor yet.

        Args:
            client_id: the guest's number for it.
            executable: what the guest calls it; not to be trusted.
            queue: what waits for the guest.
            streams: its pipes.
        """
        self.client_id = client_id
        self.label = executable or f"client {client_id}"
        self.queue = queue
        self.streams = streams
        self.window = ReceiveWindow(CLIENT_WINDOW)
        self.to_compositor = CompositorQueue()
        self.copy_buffers: dict[Handle, CopyBuffer] = {}
        self.scope = trio.CancelScope()
        """Cancelled when the client is closed: its task then lets go of it."""
        self.writer_scope = trio.CancelScope()
        """The same for what is sent to the compositor."""
        self.running = False
        """Whether a task runs, which ends by letting go of the client."""
        self.closed: CloseClient | None = None
        """Why it was closed; nothing is carried out for it any more."""

    def close(self, command: CloseClient) -> None:
        """Stop everything; what is left is for the compositor to let go."""
        self.closed = command
        self.scope.cancel()
        self.writer_scope.cancel()
        self.to_compositor.drop()
        self.streams.close()
