"""Carries the pipes of apps as streams.

A pump may take any time to begin: an app may pass a file whose server does not answer.
`transport.pumps` knows how pumps go on.  Ids, order, credit and the number of streams are
the business of `protocol.channel.lanes`.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    CloseReason,
)
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.pumps import Pumps, Start
from wlproxy.transport.stream_end import StreamEnd, adopt_end
from wlproxy_guest.hanging_files import may_hang
from wlproxy_guest.workers import Workers

ADOPT_SECONDS: Final = 10.0
"""How long the server of a file may take to say what the file is."""
MAX_ADOPTING: Final = 4
"""Threads that ask at once."""


class Streams:
    """The open pipes of a session."""

    def __init__(self, lanes: LaneTasks, start: Start) -> None:
        """Begin without streams; `start` starts their tasks."""
        self._lanes = lanes
        self._pumps = Pumps(lanes, start)
        self._workers = Workers(MAX_ADOPTING)

    def adopt(self, lane: Lane, fd: OwnedFd, flags: AttachmentFlags) -> None:
        """Take over a pipe's end that the app passed, once its stream has a name."""
        # "Holder" is who will be given the fd: the app's peer, on the host.
        self._adopt(lane, fd, to_host=flags is AttachmentFlags.HOLDER_READS)

    def read(self, lane: Lane, fd: OwnedFd, offset: int, length: int) -> None:
        """Take over a file that the app passed, to send a part of it to the host."""
        self._adopt(lane, fd, to_host=True, limit=length, offset=offset)

    def _adopt(
        self,
        lane: Lane,
        fd: OwnedFd,
        *,
        to_host: bool,
        limit: int = 0,
        offset: int | None = None,
    ) -> None:
        if self._lanes.is_open(lane) and may_hang(fd.fileno()):
            adopt = partial(adopt_end, fd, we_write=not to_host, offset=offset)
            ask = partial(self._adopt_elsewhere, fd, adopt)
            self._pumps.start(lane, ask, to_peer=to_host, limit=limit)
            return
        with suppress(OSError):  # the host has been told
            self._pumps.adopt(lane, fd, to_peer=to_host, limit=limit, offset=offset)

    def create(self, lane: Lane, flags: AttachmentFlags) -> OwnedFd:
        """Make a pipe for a stream of the host's; return the app's end.

        Raises:
            OSError: no pipe can be had; the host is told.
            MemoryError: likewise.
        """
        to_host = flags is not AttachmentFlags.HOLDER_READS
        return self._pumps.create(lane, to_peer=to_host)

    def refuse(self, lane: Lane, reason: CloseReason) -> None:
        """Tell the host that nothing is done with a stream, or nothing more."""
        self._pumps.refuse(lane, reason)

    def ignore(self, client_id: int, attachments: Iterable[Attachment]) -> None:
        """Tell the host that the app will not get these streams, and nobody has their ends."""
        for one in attachments:
            if one.kind is AttachmentKind.STREAM:
                self.refuse(Lane(client_id, one.object_id), CloseReason.NORMAL)

    def close(self) -> None:
        """End all streams without a word: the session is over."""
        self._pumps.close()

    async def _adopt_elsewhere(
        self, fd: OwnedFd, adopt: Callable[[], StreamEnd]
    ) -> StreamEnd:
        """Take over an fd whose server may not answer; it is taken over even if this fails.

        Raises:
            OSError: it is of no use, or the server takes too long.
        """

        def discard(end: StreamEnd | None) -> None:
            # Without an end, `adopt_end` has closed the fd, or was never called.
            (end or fd).close()

        deadline = trio.current_time() + ADOPT_SECONDS
        try:
            return await self._workers.run(adopt, discard, deadline)
        except trio.TooSlowError as exc:
            raise TimeoutError("the server of a file does not answer") from exc
