"""The process that the VMM talks to: answers it at once, and tells proxies where the RAM is.

It is apart from the proxy, and small, since the VMM's main loop waits for its answers: whatever the
proxy does, and when it restarts, the VM runs on.  One VMM at a time; a proxy that does not take its table
is left behind.  If this ends, the VMM connects again once it is back (`reconnect`).

Proxies see whole tables: a VMM tells of one in many messages, and they are told when it has gone on to
something else, or has been quiet for a moment.  A guest's requests to its disk are answered in turns, and
between these are pauses, so that they take a twentieth of a processor at most.
"""

import math
import select
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from wlproxy.host.errors import GuestRamError
from wlproxy.host.vhost_user.backend import Backend
from wlproxy.host.vhost_user.messages import (
    MAX_FDS,
    Incoming,
    MemoryRegion,
    VhostUserError,
)
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.table import LeftOut, encode
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd, receive_fds
from wlproxy.transport.peer import peer_credentials

MAX_READERS: Final = 16
QUIET: Final = 0.02
"""Seconds without a message after which a VMM has told all of its RAM."""
KICK_PAUSE: Final = 0.01
"""Seconds until a guest that asks the disk for something is looked at again, at least."""
WORK_SHARE: Final = 20
"""A turn is followed by a pause of so many times what it took of a processor, if that is longer."""
DESCRIPTORS_AT_ONCE: Final = 1024
"""In one turn, in all rings together: some milliseconds."""
MESSAGES_AT_ONCE: Final = 64
MAX_LEFT_OUT: Final = 1024
"""Regions that are remembered for having been told of in the log."""

Log = Callable[[str], None]


class FrontEnd(Closing):
    """A VMM that is connected, and the device that it sees."""

    def __init__(self, connected: socket.socket) -> None:
        """Own the socket."""
        self._socket = connected
        self._socket.setblocking(False)  # noqa: FBT003 - as the library has it
        self.pid = max(peer_credentials(connected).pid, 0)
        self.backend = Backend()
        self._incoming = Incoming()
        self._fds: list[OwnedFd] = []

    def fileno(self) -> int:
        """To wait for."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self.backend.close()
        for fd in self._fds:
            fd.close()
        self._fds.clear()
        self._socket.close()

    def receive(self) -> bool:
        """Read and answer what has come; False if the VMM has hung up.

        Raises:
            VhostUserError: it broke the protocol, or takes no answers.
        """
        for _ in range(MESSAGES_AT_ONCE):
            try:
                data, fds, flags = receive_fds(
                    self._socket, self._incoming.wanted, MAX_FDS
                )
            except BlockingIOError:
                return True
            except OSError as exc:
                raise VhostUserError(f"recv: {exc.strerror}") from exc
            self._fds += fds
            if flags & socket.MSG_CTRUNC or len(self._fds) > MAX_FDS:
                raise VhostUserError("more fds than a message can have")
            if not data:
                return False
            message = self._incoming.feed(data)
            if message is not None:
                owned, self._fds = self._fds, []
                self._send(self.backend.receive(message, owned))
        return True

    def _send(self, reply: bytes) -> None:
        try:
            sent = self._socket.send(reply, socket.MSG_NOSIGNAL) if reply else 0
        except OSError as exc:
            raise VhostUserError(f"send: {exc.strerror}") from exc
        if sent != len(reply):
            raise VhostUserError("it does not read what it is answered")


class Tap(Closing):
    """What the process serves."""

    def __init__(
        self,
        vmms: socket.socket,
        readers: socket.socket,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.process_time,
    ) -> None:
        """Own both listening sockets.

        Args:
            vmms: a stream socket, for the VMM.
            readers: a SOCK_SEQPACKET socket, for proxies.
            log: for people.
            clock: seconds, of any epoch.
            spent: seconds of a processor that we have taken so far.
        """
        self._vmms = vmms
        self._listening = readers
        self._log = log
        self._clock = clock
        self._spent = spent
        self._vmm: FrontEnd | None = None
        self._readers: list[socket.socket] = []
        self._rings_after = 0.0
        """When the rings have their next turn."""
        self._last_ring = -1
        """The one that was looked at last."""
        self._told_after = 0.0
        """When a table that has changed is told, unless more of it comes."""
        self._left_out: set[tuple[MemoryRegion, str]] = set()
        for each in (vmms, readers):
            each.setblocking(False)  # noqa: FBT003 - as the library has it

    def close(self) -> None:
        """Hang up on everybody, and stop listening."""
        if self._vmm is not None:
            self._vmm.close()
        self._vmm = None
        for each in (*self._readers, self._vmms, self._listening):
            each.close()
        self._readers.clear()

    def step(self, timeout: float | None = None) -> None:
        """Wait for something, for so many seconds at most, and do what follows from it."""
        ready = self._wait(timeout)
        # Before anything is closed: an fd that is opened then may have its number.
        gone = [each for each in self._readers if each.fileno() in ready]
        new_vmm, new_reader = (
            each.fileno() in ready for each in (self._vmms, self._listening)
        )
        if self._vmm is not None:
            self._look_at_rings(self._vmm, ready)
            if self._vmm.fileno() in ready:
                self._hear(self._vmm)
            elif self._vmm.backend.changed and self._clock() >= self._told_after:
                self._publish(self._vmm.backend)
        for each in gone:  # it has nothing to say but that it goes
            self._leave(each)
        if new_vmm:
            self._accept_vmm()
        if new_reader:
            self._accept_reader()

    def _wait(self, timeout: float | None) -> set[int]:
        waiting = select.poll()
        for each in (self._vmms, self._listening, *self._readers):
            waiting.register(each, select.POLLIN)
        if self._vmm is not None:
            waiting.register(self._vmm, select.POLLIN)
            now = self._clock()
            moments = [] if timeout is None else [now + timeout]
            if self._vmm.backend.changed:
                moments.append(self._told_after)
            rings = [
                ring
                for ring in self._vmm.backend.rings.values()
                if ring.kick is not None
            ]
            if now < self._rings_after:
                moments += [self._rings_after] if rings else []
            else:
                moments += [now] if any(ring.due for ring in rings) else []
                for ring in rings:
                    assert ring.kick is not None
                    waiting.register(ring.kick, select.POLLIN)
            timeout = max(min(moments) - now, 0) if moments else None
        # Rounded up: one that wakes too early would look at the clock again and again.
        milliseconds = None if timeout is None else math.ceil(timeout * 1000)
        return {fd for fd, _ in waiting.poll(milliseconds)}

    def _hear(self, vmm: FrontEnd) -> None:
        try:
            there = vmm.receive()
        except VhostUserError as exc:
            self._log(f"process {vmm.pid} is no VMM that keeps the protocol: {exc}")
            there = False
        if not there:
            self._log(f"process {vmm.pid} has hung up")
            vmm.close()
            self._vmm = None
            self._publish(vmm.backend)
        elif vmm.backend.changed:
            self._told_after = self._clock() + QUIET
            if vmm.backend.settled:
                self._publish(vmm.backend)

    def _look_at_rings(self, vmm: FrontEnd, ready: set[int]) -> None:
        """Give the rings their turn, if it is time: the one after the last that had one first."""
        if self._clock() < self._rings_after:
            return
        began = self._spent()
        left = DESCRIPTORS_AT_ONCE
        looked_at = False
        rings = sorted(vmm.backend.rings.items())
        later = [each for each in rings if each[0] > self._last_ring]
        for index, ring in (*later, *rings[: len(rings) - len(later)]):
            if ring.kick is None or left <= 0:
                continue
            try:
                if ring.kick.fileno() in ready:
                    looked_at = True
                    ring.take_kick()
                if ring.due:
                    looked_at = True
                    self._last_ring = index
                    left -= ring.answer(vmm.backend.ram, left)
            except (VhostUserError, OSError) as exc:
                self._log(f"the guest's disk stops answering: {exc}")
                ring.set_kick(None)
        if looked_at:
            work = self._spent() - began
            self._rings_after = self._clock() + max(KICK_PAUSE, WORK_SHARE * work)

    def _accept_vmm(self) -> None:
        with suppress(OSError):
            connected, _ = self._vmms.accept()
            vmm = FrontEnd(connected)
            if self._vmm is not None:
                self._log(f"process {vmm.pid} is turned away: {self._vmm.pid} is there")
                vmm.close()
                return
            self._log(f"process {vmm.pid} is connected")
            self._vmm = vmm

    def _accept_reader(self) -> None:
        with suppress(OSError):
            connected, _ = self._listening.accept()
            if len(self._readers) >= MAX_READERS:
                connected.close()
                return
            connected.setblocking(False)  # noqa: FBT003 - as the library has it
            self._readers.append(connected)
            if self._vmm is None or not self._vmm.backend.changed:
                self._tell([connected])

    def _publish(self, backend: Backend) -> None:
        """Tell all proxies of a table that has changed."""
        backend.changed = False
        self._log(f"the guest's RAM: {len(backend.ram)} regions")
        self._tell(list(self._readers))

    def _tell(self, readers: Sequence[socket.socket]) -> None:
        """Send proxies the table; one that does not take it is left behind."""
        with Ram() as none:
            pid, ram = 0, none
            if self._vmm is not None:
                pid, ram = self._vmm.pid, self._vmm.backend.ram
            try:
                packet = encode(pid, ram)
            except GuestRamError as exc:
                self._log(f"proxies cannot be told of the RAM: {exc}")
                for each in readers:
                    self._leave(each)
                return
        self._say_left_out(packet.left_out)
        for each in readers:
            try:
                socket.send_fds(each, [packet.data], packet.fds, socket.MSG_NOSIGNAL)
            except OSError as exc:
                self._log(f"a proxy cannot be told of the RAM: {exc}")
                self._leave(each)

    def _say_left_out(self, left_out: Iterable[LeftOut]) -> None:
        for region, why in left_out:
            if (region, why) in self._left_out:
                continue
            if len(self._left_out) >= MAX_LEFT_OUT:
                self._left_out.clear()
            self._left_out.add((region, why))
            self._log(
                f"{region.length >> 10} KiB of shared memory at {region.gpa:#x} are left out: {why}"
            )

    def _leave(self, reader: socket.socket) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
        reader.close()
