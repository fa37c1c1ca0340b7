"""Pipes between the guest and the compositor, which may outlive their apps: clipboard, drag and drop.

They belong to the session: an app that has asked for a paste, or was asked for one, may
close its Wayland connection before it is done.  One too many ends at once, for both who
hold its ends, and ends nothing else.  How bytes move, and what else
ends a stream, is `transport.pumps`'.
"""

import logging
from collections.abc import Iterable

from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import CloseReason
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.relay.commands import Direction
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.pumps import Pumps, Start

MAX_LEFT_STREAMS = 256
"""Streams of clients that have gone.  If there are more, those whose clients went first end:
apps that come and go must not take up what the others may have."""


class Streams:
    """The streams of one session."""

    def __init__(self, lanes: LaneTasks, start: Start, log: VmLog) -> None:
        """There are none yet.

        Args:
            lanes: where their bytes go.
            start: starts the pumps.
            log: written to.
        """
        self._lanes = lanes
        self._pumps = Pumps(lanes, start)
        self._log = log
        self._left: dict[int, None] = {}
        """Clients that have gone and have streams, in the order in which they went."""
        self._warned: set[int] = set()

    def __len__(self) -> int:
        return len(self._pumps)

    def learn(self, lanes: Iterable[Lane]) -> None:
        """Take note of streams that the guest attached: of too many the log tells."""
        for lane in lanes:
            if not self._lanes.is_open(lane):
                count = self._lanes.streams_of(lane.client_id)
                problem = f"it has {count} open pipes, or all apps have too many"
                self._warn(lane.client_id, problem)

    def create(
        self, lane: Lane, direction: Direction, *, usable: bool = True, limit: int = 0
    ) -> OwnedFd:
        """Make a pipe for a stream that the guest knows; return the compositor's end.

        Is the stream not usable, it is told so, and the pipe has no other end; so it is if
        the stream has ended already.  It ends after `limit` bytes, if that is not 0.

        Raises:
            HostError: there is a pipe for this stream, or no fd is left.
        """
        if lane in self._pumps:
            raise HostError(f"stream {lane.stream_id} is open already")
        if not usable:
            self.refuse(lane)
        with HostError.explaining("cannot make a pipe", tried="pipe2"):
            to_guest = direction is Direction.TO_GUEST
            return self._pumps.create(lane, to_peer=to_guest, limit=limit)

    def adopt(
        self, lane: Lane, fd: OwnedFd, direction: Direction, limit: int = 0
    ) -> None:
        """Pump an fd that the compositor sent, and which this takes over.

        It is to be attached to an event yet.  One that cannot be used, or is one too many,
        has ended for the guest.  It ends after `limit` bytes, if that is not 0.

        Raises:
            LocalProtocolError: there is a stream with this id.
        """
        to_guest = direction is Direction.TO_GUEST
        with closed_on_error(fd):
            self._lanes.name_stream(lane, sends=to_guest)
        self.learn([lane])
        try:
            self._pumps.adopt(lane, fd, to_peer=to_guest, limit=limit)
        except OSError as exc:
            problem = f"it has to go into something else than a file: {exc}"
            self._warn(lane.client_id, problem)

    def carry(self, lane: Lane, fd: OwnedFd, *, to_guest: bool) -> None:
        """Pump an fd, which this takes over, of a stream that the guest was told of.

        Raises:
            OSError: it is of no use; the guest is told.
        """
        self._pumps.adopt(lane, fd, to_peer=to_guest)

    def refuse(self, lane: Lane) -> None:
        """Tell the guest that nothing is done with a stream that it attached."""
        self._pumps.refuse(lane, CloseReason.FAILED)

    def client_left(self, client_id: int) -> None:
        """A client has gone: its streams stay, but are the first to end if need be."""
        self._warned.discard(client_id)
        self._left[client_id] = None
        lanes: dict[int, list[Lane]] = {}
        for lane in self._pumps:  # once, however many clients have left
            if lane.client_id in self._left:
                lanes.setdefault(lane.client_id, []).append(lane)
        self._left = {each: None for each in self._left if each in lanes}
        of_left = [lane for each in self._left for lane in lanes[each]]
        for lane in of_left[: max(len(of_left) - MAX_LEFT_STREAMS, 0)]:
            self._pumps.end(lane, CloseReason.LIMIT_EXCEEDED)

    def close(self) -> None:
        """Close all pipes, whatever is still in them."""
        self._pumps.close()

    def _warn(self, client_id: int, problem: str) -> None:
        """Say once why a client's transfers end at their beginning."""
        if client_id not in self._warned:
            self._warned.add(client_id)
            self._log.of_client(
                logging.WARNING, "client %d: a paste has ended: %s", client_id, problem
            )
