"""Files of the guest that are read for the compositor, for one client: a stream becomes a memfd.

What the guest sends is copied once, into memory that nobody can change any more once it is whole.  Which file
is read, and whether there is room for it, the core decides (`relay.filters.colour`).
"""

import fcntl
import os
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from wlproxy.host.client.handles import Handles
from wlproxy.protocol.channel.frames import CloseReason, StreamClosed
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.relay.commands import ReadFile
from wlproxy.relay.inputs import FileRead
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.pumps import Start

READ_SECONDS: Final = 60.0
"""For all of a file: the app's requests wait, and its file may be one whose server does not answer."""

SEALS: Final = (
    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
)


class FileReads:
    """What is being read for one client."""

    def __init__(
        self,
        handles: Handles,
        lanes: LaneTasks,
        start: Start,
        answer: Callable[[FileRead], None],
    ) -> None:
        """Nothing is read yet.

        Args:
            handles: the client's; this adds to them.
            lanes: where the streams are.
            start: starts a task of the client.
            answer: gives the core what became of a `ReadFile`.
        """
        self._handles = handles
        self._lanes = lanes
        self._start = start
        self._answer = answer
        self._scopes: set[trio.CancelScope] = set()
        self._stopped = False

    def read(self, command: ReadFile) -> None:
        """Read a file, in a task, and answer."""
        scope = trio.CancelScope(deadline=trio.current_time() + READ_SECONDS)
        self._scopes.add(scope)
        self._start(command.client_id, partial(self._run, command, scope))

    def stop(self) -> None:
        """Read nothing more, and answer nothing: the client has been closed."""
        self._stopped = True
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, command: ReadFile, scope: trio.CancelScope) -> None:
        lane = Lane(command.client_id, command.stream_id)
        contents: OwnedFd | None = None
        try:
            with scope:
                contents = await self._receive(lane, command.size)
        finally:
            self._scopes.discard(scope)
            self._lanes.put(StreamClosed(*lane, CloseReason.NORMAL))
        if self._stopped:
            if contents is not None:
                contents.close()
            return
        if contents is not None:
            self._handles.add(command.handle, contents)
        whole = contents is not None
        self._answer(FileRead(command.client_id, command.handle, whole))

    async def _receive(self, lane: Lane, size: int) -> OwnedFd | None:
        """Receive a file of `size` bytes; None if there are fewer, or no room for them."""
        try:
            fd = OwnedFd(
                os.memfd_create("wlproxy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            )
            with closed_on_error(fd):
                if await self._fill(fd.fileno(), lane, size):
                    fcntl.fcntl(fd.fileno(), fcntl.F_ADD_SEALS, SEALS)
                    return fd
        except OSError:  # no fd, or no memory: for the app it is the same
            return None
        fd.close()
        return None

    async def _fill(self, fd: int, lane: Lane, size: int) -> bool:
        if not self._lanes.is_open(lane):  # it was one too many
            return False
        received = 0
        while received < size:
            chunk = await self._lanes.pull(lane)
            if chunk is None:
                return False
            # Whole: it is memory.  What nobody asked for is dropped.
            received += os.pwrite(fd, chunk[: size - received], received)
            self._lanes.consumed(lane, len(chunk))
        return True
