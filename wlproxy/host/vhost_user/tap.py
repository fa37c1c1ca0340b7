"""The process that the VMM talks to: answers it at once, and tells proxies where the RAM is.

It is apart from the proxy, and small, since the VMM's main loop waits for its answers: whatever the
proxy does, and when it restarts, the VM runs on.  One VMM at a time; a proxy that does not take its table
is left behind.  If this ends, the VMM connects again once it is back (`reconnect`).
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from wlproxy.host.errors import GuestRamError
from wlproxy.host.vhost_user.backend import Backend
from wlproxy.host.vhost_user.messages import MAX_FDS, Incoming, VhostUserError
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.ring import Ring
from wlproxy.host.vhost_user.table import encode
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.peer import peer_credentials

MAX_READERS: Final = 16
KICK_PAUSE: Final = 0.01
"""Seconds until a guest that asks the disk for something is looked at again."""
MESSAGES_AT_ONCE: Final = 64

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
                data, fds, flags, _ = socket.recv_fds(
                    self._socket, self._incoming.wanted, MAX_FDS
                )
            except BlockingIOError:
                return True
            except OSError as exc:
                raise VhostUserError(f"recv: {exc.strerror}") from exc
            self._fds += map(OwnedFd, fds)
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

    def __init__(self, vmms: socket.socket, readers: socket.socket, log: Log) -> None:
        """Own both listening sockets.

        Args:
            vmms: a stream socket, for the VMM.
            readers: a SOCK_SEQPACKET socket, for proxies.
            log: for people.
        """
        self._vmms = vmms
        self._listening = readers
        self._log = log
        self._vmm: FrontEnd | None = None
        self._readers: list[socket.socket] = []
        self._quiet_until = 0.0
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
            kicked = [ring.kick for ring in self._rings() if ring.kick is not None]
            left = self._quiet_until - time.monotonic()
            if left <= 0:
                for kick in kicked:
                    waiting.register(kick, select.POLLIN)
            elif kicked:
                timeout = left if timeout is None else min(left, timeout)
        milliseconds = None if timeout is None else timeout * 1000
        return {fd for fd, _ in waiting.poll(milliseconds)}

    def _rings(self) -> Iterable[Ring]:
        return self._vmm.backend.rings.values() if self._vmm is not None else ()

    def _hear(self, vmm: FrontEnd) -> None:
        try:
            there = vmm.receive()
        except VhostUserError as exc:
            self._log(f"process {vmm.pid} is no VMM that keeps the protocol: {exc}")
            there = False
        if there and not vmm.backend.changed:
            return
        if not there:
            self._log(f"process {vmm.pid} has hung up")
            vmm.close()
            self._vmm = None
        vmm.backend.changed = False
        self._log(f"the guest's RAM: {len(vmm.backend.ram)} regions")
        for each in tuple(self._readers):
            self._tell(each)

    def _look_at_rings(self, vmm: FrontEnd, ready: set[int]) -> None:
        for ring in vmm.backend.rings.values():
            kick = ring.kick
            if kick is None or kick.fileno() not in ready:
                continue
            self._quiet_until = time.monotonic() + KICK_PAUSE
            try:
                os.eventfd_read(kick.fileno())
                if ring.answer(vmm.backend.ram) and ring.call is not None:
                    os.eventfd_write(ring.call.fileno(), 1)
            except (VhostUserError, OSError) as exc:
                self._log(f"the guest's disk stops answering: {exc}")
                ring.set_kick(None)

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
            self._tell(connected)

    def _tell(self, reader: socket.socket) -> None:
        """Send a proxy the table; one that does not take it is left behind."""
        pid, ram = 0, Ram()
        if self._vmm is not None:
            pid, ram = self._vmm.pid, self._vmm.backend.ram
        try:
            packet, fds = encode(pid, ram)
            socket.send_fds(reader, [packet], fds, socket.MSG_NOSIGNAL)
        except (GuestRamError, OSError) as exc:
            self._log(f"a proxy cannot be told of the RAM: {exc}")
            self._leave(reader)

    def _leave(self, reader: socket.socket) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
        reader.close()
