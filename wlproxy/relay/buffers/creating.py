"""`create` of linux-dmabuf: buffers that the guest is given once they can be shown.

The client goes on, and hears of it by an event; only a `wl_display.sync` of its waits
(`client`).  What such a buffer goes through until then is that of any other (`buffers`).
"""

from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.life import Buffers
from wlproxy.relay.wire.context import Context


class Imports:
    """The imports of one client that are under way."""

    def __init__(self, context: Context, buffers: Buffers) -> None:
        self._context = context
        self._buffers = buffers
        self._waiting: list[Buffer] = []

    def __len__(self) -> int:
        """Count those that are not answered yet."""
        return len(self._waiting)

    def start(self, buffer: Buffer) -> None:
        """Begin to import a buffer that the guest has no id for yet.

        Raises:
            WaylandError: the client has too many objects.
        """
        self._waiting.append(buffer)
        self.advance()

    def advance(self) -> None:
        """Go on, after anything that may have been waited for.

        Raises:
            WaylandError: the client has too many objects.
        """
        if not self._waiting:
            return
        self._waiting = [buffer for buffer in self._waiting if not self._finish(buffer)]

    def _finish(self, buffer: Buffer) -> bool:
        """Answer, if there is an answer; an app that is gone from its params gets none.

        A buffer is not given up before: its pages would be located for nobody.
        """
        if not self._buffers.prepare(buffer, cycled=True):
            return False
        params = buffer.params
        assert params is not None
        if buffer.dead or not params.guest_id:
            self._buffers.destroy(buffer)
        else:
            new_id = self._context.objects.give_guest_id(buffer.entry)
            self._context.send_event(params, "created", (new_id,))
            buffer.created = True
            self._buffers.settle(buffer)  # nothing shows it yet
        return True
