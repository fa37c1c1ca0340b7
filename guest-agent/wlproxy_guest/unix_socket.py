"""The guest's Wayland socket: accepts apps, and carries their bytes and fds.

The bytes are not interpreted here.  `transport/fd_stream` knows how fds travel with bytes;
this module adds how an app is told why its connection ends.
"""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.peer import peer_credentials
from wlproxy_guest.hanging_files import own
from wlproxy_guest.refusal import SentEvents

BACKLOG: Final = 128
DRAIN_SIZE: Final = 64 * 1024
MAX_LABEL: Final = 64
"""Longest executable name that is passed on; the kernel's own (comm) has 15."""
FAREWELL: Final = 5.0
"""Seconds for an app that was told the end to read that, and close."""
FIRST_ACTIVATED_FD: Final = 3
"""SD_LISTEN_FDS_START."""


class SocketError(Exception):
    """The Wayland socket cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected, as the kernel says; a label, not a credential."""

    pid: int
    uid: int
    gid: int
    executable: str

    def __str__(self) -> str:
        return f"{self.executable or '?'} (pid {self.pid})"


class AppSocket:
    """One connected app."""

    __slots__ = ("_rest", "_sent", "_stream", "peer")

    def __init__(self, connected: socket.socket) -> None:
        """Take over `connected`, unless this fails.

        Raises:
            OSError: it is not a connected Unix socket.
        """
        self.peer = identify_peer(connected)
        self._stream = FdStream(connected, own)
        self._sent = SentEvents()
        self._rest = b""
        """What was to be sent, and has not been."""

    async def receive(self, size: int) -> tuple[bytes, list[OwnedFd]]:
        """Receive at most `size` bytes, and the fds that came with them.

        No bytes means that the app has closed.  A cancelled call has taken nothing.

        Raises:
            OSError: no memory is left to wait with.
            trio.BrokenResourceError: the connection broke.
            FdsLostError: fds were dropped (too many open, or too many at once).
        """
        return await self._stream.receive(size)

    def send_at_once(self, data: bytes, fds: Sequence[OwnedFd] = ()) -> bool:
        """Send what the app takes of `data` without waiting; False: `send_rest` is to.

        The fds go with its first bytes, and stay the caller's.

        Raises:
            LocalProtocolError: there are more batches of fds than bytes to carry them.
        """
        before = self._stream.sent
        self._rest += data
        all_sent = self._stream.send_at_once(data, fds)
        self._note_sent(before)
        return all_sent

    async def send_rest(self) -> None:
        """Send what `send_at_once` did not.

        What a cancelled call has not sent is never sent: an app that got half of
        an event can only be dropped, and one that did not can still be told why.

        Raises:
            OSError: no memory is left to wait with.
            trio.BrokenResourceError: the connection broke.
        """
        before = self._stream.sent
        try:
            await self._stream.flush()
        finally:
            self._note_sent(before)
            self._stream.drop_unsent()
            self._rest = b""

    def _note_sent(self, before: int) -> None:
        sent = self._stream.sent - before
        self._sent.add(self._rest[:sent])
        self._rest = self._rest[sent:]

    async def bid_farewell(self, error: bytes) -> None:
        """Send `wl_display.error`, if that makes sense, and wait until the app closes.

        What it still sends is taken and dropped: to close with that unread would reset
        the connection, and the app would not get to read why.
        """
        with trio.move_on_after(FAREWELL), suppress(OSError, trio.BrokenResourceError):
            if self._can_tell and not self.send_at_once(error):
                await self.send_rest()
            self._stream.shutdown_write()
            await self._stream.wait_closed(FAREWELL)

    def say(self, error: bytes) -> None:
        """Send a last `wl_display.error`, if it makes sense and there is room.

        What is unread is dropped, and no more let in: to close with that unread would
        reset the connection, and libwayland does not read on after a reset.
        """
        # The socket is non-blocking.
        connected = self._stream.socket
        if self._can_tell:
            with suppress(OSError):
                connected.send(error)
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)
            while connected.recv(DRAIN_SIZE):
                pass

    @property
    def _can_tell(self) -> bool:
        return self._sent.whole and not self._sent.told

    def close(self) -> None:
        """Close the connection; again is harmless."""
        self._stream.close()


class Listener:
    """The socket that apps connect to.

    One that we made has a lock file beside it, as libwayland's have, and is removed
    when closed; one that systemd passed stays systemd's.
    """

    __slots__ = ("_listening", "_lock", "_path")

    def __init__(
        self,
        listening: socket.socket,
        path: Path | None = None,
        lock: OwnedFd | None = None,
    ) -> None:
        """Take over `listening` and, if the socket was made at `path`, its `lock`."""
        listening.setblocking(False)  # noqa: FBT003
        self._listening = listening
        self._path = path
        self._lock = lock

    def __str__(self) -> str:
        return str(self._path or self._listening.getsockname())

    async def accept(self) -> AppSocket:
        """Wait for an app.

        Raises:
            OSError: out of fds, or the app has already gone.
        """
        connected = await self.accept_socket()
        with closed_on_error(connected):
            return AppSocket(connected)

    async def accept_socket(self) -> socket.socket:
        """Wait for anybody; what is returned is the caller's.  Raises as `accept`."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self._listening.accept()[0]
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._listening)

    def hand_over(self) -> None:
        """Leave systemd's socket to the program that this process becomes, as it was."""
        if self._path is None:
            os.dup2(self._listening.fileno(), FIRST_ACTIVATED_FD)
            # It is that one already, as a rule, and dup2 does nothing then.
            os.set_inheritable(FIRST_ACTIVATED_FD, True)  # noqa: FBT003
            os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}

    def close(self) -> None:
        """Stop listening; nobody is in `accept` any more.  Again is harmless."""
        self._listening.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            lock_path(self._path).unlink(missing_ok=True)
            self._path = None
        if self._lock is not None:
            self._lock.close()


def lock_path(path: Path) -> Path:
    """Return the path of a display socket's lock, which is libwayland's."""
    return path.with_name(path.name + ".lock")


def listen(path: Path) -> Listener:
    """Listen at `path`, and replace the socket of a process that died there.

    Raises:
        SocketError: somebody alive listens there, or the directory is not ours.
    """
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_RDWR
    try:
        lock = OwnedFd(os.open(lock_path(path), flags, 0o660))
    except OSError as exc:
        raise SocketError(f"cannot lock {path}: {exc.strerror}") from exc
    with closed_on_error(lock):
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with closed_on_error(listening, lock):
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_dead(path)
            listening.bind(str(path))
            listening.listen(BACKLOG)
        except BlockingIOError as exc:
            raise SocketError(
                f"{path} is in use by another compositor or agent: stop it, or choose"
                " another --socket"
            ) from exc
        except OSError as exc:
            raise SocketError(f"cannot listen at {path}: {exc.strerror}") from exc
    return Listener(listening, path, lock)


def remove_dead(path: Path) -> None:
    """Remove the socket that a dead process left; anything that is no socket stays.

    Raises:
        OSError: EEXIST, it is none.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "it exists, and is no socket")
        path.unlink()


def adopt_activated() -> Listener | None:
    """Take the socket that systemd passed (`sd_listen_fds`), if it did.

    Raises:
        SocketError: it passed something else.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "0")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if count == "0":
        return None
    try:
        fcntl.fcntl(FIRST_ACTIVATED_FD, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        listening = socket.socket(fileno=FIRST_ACTIVATED_FD)
    except OSError as exc:
        raise SocketError(f"systemd passed no usable socket: {exc.strerror}") from exc
    is_listening = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if count != "1" or listening.family != socket.AF_UNIX or not is_listening:
        listening.close()
        raise SocketError(
            "systemd passed something else than one listening Unix socket"
        )
    return Listener(listening)


def identify_peer(connected: socket.socket) -> Peer:
    """Ask the kernel who is at the other end.

    Raises:
        OSError: the socket is not a connected Unix socket.
    """
    pid, uid, gid = peer_credentials(connected)
    return Peer(pid, uid, gid, executable_name(pid))


def executable_name(pid: int) -> str:
    """Name what a process runs; empty if it is gone or hidden."""
    process = Path("/proc", str(pid))
    name = ""
    with suppress(OSError):
        name = (process / "comm").read_text(errors="replace")
    # The link has more than comm's 15 bytes, but other users' links are not ours to read.
    with suppress(OSError):
        name = (process / "exe").readlink().name
    return "".join(c if c.isprintable() else "?" for c in name.strip())[:MAX_LABEL]
