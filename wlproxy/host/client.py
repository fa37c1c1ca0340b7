"""What the shell holds for one client of the guest: queues and copy buffers.

No decisions and no tasks of its own here; the executor fills it, `session` runs it.
"""

from collections import deque
from typing import TYPE_CHECKING

import trio

from wlproxy.host.compositor_queue import CompositorQueue
from wlproxy.host.outgoing import ClientQueue
from wlproxy.protocol.channel.flow import ReceiveWindow, cost
from wlproxy.protocol.channel.frames import StreamClosed, StreamData
from wlproxy.protocol.channel.lanes.bounds import CLIENT_WINDOW
from wlproxy.relay.commands import CloseClient

if TYPE_CHECKING:
    from wlproxy.host.pixels import CopyBuffer
    from wlproxy.host.streams import Streams
    from wlproxy.relay.handles import Handle
    from wlproxy.transport.fd_stream import FdStream

EARLY_COST = 256
"""Bytes that it takes to keep a frame, besides what is in it."""


class HostClient:
    """One client, from `ClientOpened` until the compositor has let go of it."""

    def __init__(self, client_id: int, executable: str, queue: ClientQueue) -> None:
        """It has no connection to the compositor yet.

        Args:
            client_id: the guest's number for it.
            executable: what the guest calls it; not to be trusted.
            queue: what waits for the guest.
        """
        self.client_id = client_id
        self.label = executable or f"client {client_id}"
        self.queue = queue
        self.window = ReceiveWindow(CLIENT_WINDOW)
        self.to_compositor = CompositorQueue()
        self.copy_buffers: dict[Handle, CopyBuffer] = {}
        self.unclaimed: set[int] = set()
        """Streams that the guest attached and whose message has not come yet."""
        self.connection: FdStream | None = None
        """To the compositor, once there is one."""
        self.early_bytes = 0
        """Of frames about streams whose requests have not had their turn."""
        self._early: deque[StreamData | StreamClosed] = deque()
        self.scope = trio.CancelScope()
        """Cancelled when the client is closed: its task then lets go of it."""
        self.writer_scope = trio.CancelScope()
        """The same for what is sent to the compositor."""
        self.writer_ended = trio.Event()
        """Set when nothing is sent any more."""
        self.running = False
        """Whether a task runs, which ends by letting go of the client."""
        self.closed: CloseClient | None = None
        """Why it was closed; nothing is carried out for it any more."""

    def receive_stream(self, frame: StreamData | StreamClosed) -> None:
        """Keep what came for a stream until `pass_on`."""
        self._early.append(frame)
        self.early_bytes += cost(frame) + EARLY_COST

    def pass_on(self, streams: "Streams", *, wait: bool) -> None:
        """Give streams what came for them.

        Args:
            streams: the session's.
            wait: those that are not there are yet to be made.

        Raises:
            ChannelError: it exceeds a stream's window.
        """
        while self._early:
            frame = self._early[0]
            if wait and not streams.has(self.client_id, frame.stream_id):
                return
            self._early.popleft()
            self.early_bytes -= cost(frame) + EARLY_COST
            streams.receive(frame)

    def close(self, command: CloseClient) -> None:
        """Stop everything; what is left is for the compositor to let go."""
        self.closed = command
        self.scope.cancel()
        self.writer_scope.cancel()
        self.to_compositor.drop()
        self._early.clear()
        self.early_bytes = 0
