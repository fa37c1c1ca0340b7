"""Joins programs that connect to a Unix socket with a vchan of Xen's, one after the other.

It runs in a process of its own at each end.  A vchan needs the devices of grants and event channels,
and whoever may open those may do much more than that (`docs/security.md`); so neither the proxy nor the
agent does, and theirs is a Unix socket.

A program has one vchan in its life, and a vchan one program: when either end goes, so does the other.
So both notice it at once, and nothing of the last session comes up in the next one.  No more than a ring
and a buffer are kept of what somebody does not read.
"""

import logging
import math
import select
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Final, NoReturn, Protocol

from wlproxy.transport.peer import peer_credentials
from wlproxy.transport.vchan import RING, Vchan, VchanClosedError

SIZE: Final = RING
"""Bytes that are read at once."""
LAST_SECONDS: Final = 1.0
"""For what was sent before one end went to be taken at the other."""
PAUSE: Final = 0.25
"""Seconds from one vchan, or look at XenStore, to the next, however often the other domain
changes something."""
GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where vchans come from."""

    def open(self) -> Vchan | None:
        """Make or find a vchan; None: there is none before something changes.

        Raises:
            OSError: there will be none.
        """

    def fileno(self) -> int:
        """Return the fd that tells when something changes; negative: nothing does."""

    def look(self) -> None:
        """Take note of a change.

        Raises:
            OSError: there will be no vchan any more.
        """


class Bridge:
    """Serves a socket."""

    def __init__(
        self, listener: socket.socket, users: Collection[int], source: Source
    ) -> None:
        """Do nothing yet.

        Args:
            listener: stays the caller's.
            users: who may connect, by their numbers.
            source: of vchans.
        """
        listener.setblocking(False)  # noqa: FBT003 - as the library has it
        self._listener = listener
        self._users = users
        self._source = source
        self._look_at = self._open_at = -math.inf
        self._changed = True

    def run(self) -> NoReturn:
        """Serve whoever connects, one after the other.

        Raises:
            OSError: there will be no vchan any more.
        """
        while True:
            self.wait({self._listener.fileno(): select.POLLIN})
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        peer = peer_credentials(connection)
        if peer.uid not in self._users:
            log.warning(
                "process %d of user %d may not connect: turned away",
                *(peer.pid, peer.uid),
            )
            return
        connection.setblocking(False)  # noqa: FBT003 - as the library has it
        vchan = self._find(connection)
        if vchan is None:
            return
        with closing(vchan):
            log.debug("process %d has the vchan", peer.pid)
            _Carrier(self, connection, vchan).run()
            log.debug("process %d has it no more", peer.pid)

    def _find(self, connection: socket.socket) -> Vchan | None:
        """Wait until there is a vchan; None: who wants it has gone."""
        said = False
        gone = {connection.fileno(): select.POLLRDHUP}
        if self.wait(gone, -math.inf):  # while another was served
            return None
        self._changed = True
        while True:
            if self._changed and time.monotonic() >= self._open_at:
                self._changed = False
                self._open_at = time.monotonic() + PAUSE
                if (vchan := self._source.open()) is not None:
                    return vchan
                if not said:
                    log.debug("waiting for the other domain")
                said = True
            until = self._open_at if self._changed else math.inf
            if self.wait(gone, until):
                return None

    def wait(
        self, interests: Mapping[int, int], until: float = math.inf
    ) -> dict[int, int]:
        """Wait until something happens to one of these fds; say what.

        Args:
            interests: what is of interest, by the fd, as poll(2) has it.
            until: when to give up (`time.monotonic`).

        Raises:
            OSError: there will be no vchan any more.
        """
        poll = select.poll()
        for fd, events in interests.items():
            poll.register(fd, events)
        watched = self._source.fileno()
        if watched >= 0 and time.monotonic() >= self._look_at:
            poll.register(watched, select.POLLIN)
        elif watched >= 0:
            until = min(until, self._look_at)
        happened = dict(poll.poll(_milliseconds(until)))
        if happened.pop(watched, 0):
            self._source.look()
            self._changed = True
            self._look_at = time.monotonic() + PAUSE
        return happened


class _Carrier:
    """Carries bytes both ways, until one end has gone."""

    def __init__(self, bridge: Bridge, connection: socket.socket, vchan: Vchan) -> None:
        self._bridge = bridge
        self._connection = connection
        self._vchan = vchan
        self._to_vchan = self._to_socket = b""
        self._hung_up = False
        """The program has gone; what it sent before may be there."""
        self._all_received = False
        self._closed = False
        """The other domain has gone; nothing more can be read."""
        self._until = math.inf

    def run(self) -> None:
        """Carry on."""
        while True:
            moved = self._step()
            over = self._hung_up or self._closed
            if over and self._until == math.inf:
                self._until = time.monotonic() + LAST_SECONDS
            if over and (self._is_done() or time.monotonic() >= self._until):
                return
            self._wait(at_once=moved)

    def _is_done(self) -> bool:
        """Whether nothing is left that could be brought to the end that is left."""
        if self._hung_up:
            return self._closed or (self._all_received and not self._to_vchan)
        return not self._to_socket

    def _step(self) -> bool:
        """Bring what there is as far as that goes; say whether more may be there."""
        more = False
        if not self._hung_up:
            more = self._from_vchan()
        if not self._closed:
            more = self._from_socket() or more
        return more

    def _from_vchan(self) -> bool:
        if not self._to_socket and not self._closed:
            try:
                self._to_socket = self._vchan.read(SIZE)
            except VchanClosedError:
                self._closed = True
        if not self._to_socket:
            return False
        try:
            sent = self._connection.send(self._to_socket)
        except BlockingIOError:
            return False
        except OSError:
            self._hung_up = True
            return False
        self._to_socket = self._to_socket[sent:]
        # Only who has read it empty is told that there is more in it.
        return not self._to_socket and not self._closed

    def _from_socket(self) -> bool:
        if not self._to_vchan and not self._all_received:
            self._receive()
        if not self._to_vchan:
            return False
        try:
            put = self._vchan.write(self._to_vchan)
        except VchanClosedError:
            self._closed = True
            return False
        self._to_vchan = self._to_vchan[put:]
        return not self._to_vchan

    def _receive(self) -> None:
        try:
            self._to_vchan = self._connection.recv(SIZE)
        except BlockingIOError:
            return
        except OSError:
            self._to_vchan = b""
        if not self._to_vchan:
            self._hung_up = self._all_received = True

    def _wait(self, *, at_once: bool) -> None:
        interests: dict[int, int] = {}
        connection, vchan = self._connection.fileno(), self._vchan.fileno()
        if not self._hung_up:
            interests[connection] = select.POLLRDHUP
            if not self._to_vchan and not self._closed:
                interests[connection] |= select.POLLIN
            if self._to_socket:
                interests[connection] |= select.POLLOUT
        if not self._closed:
            interests[vchan] = select.POLLIN
        happened = self._bridge.wait(interests, -math.inf if at_once else self._until)
        if happened.get(connection, 0) & GONE:
            self._hung_up = True
        if happened.get(vchan, 0):
            try:
                self._vchan.acknowledge()
            except VchanClosedError:
                self._closed = True


def _milliseconds(until: float) -> int | None:
    """Say how long poll(2) may wait."""
    if until == math.inf:
        return None
    return max(0, math.ceil((until - time.monotonic()) * 1000)) if until > 0 else 0
