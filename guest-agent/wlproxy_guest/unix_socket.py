"""The Wayland socket of the guest: listening, and one app's bytes and fds.

Bytes stay bytes here.  Two rules of libwayland's matter: it sends and takes at most 28
fds at once, and fds travel with a byte that is not after their message.
"""

import array
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from wlproxy.protocol.channel.frames import MAX_ATTACHMENTS
from wlproxy_guest.foreign import close_fd
from wlproxy_guest.refusal import SentEvents

MAX_FDS_PER_SEND: Final = 28
"""libwayland's MAX_FDS_OUT: what its receive buffer has room for."""
BACKLOG: Final = 128
DRAIN_SIZE: Final = 64 * 1024
MAX_LABEL: Final = 64
"""Longest executable name that is passed on; the kernel's own (comm) has 15."""
FAREWELL: Final = 5.0
"""Seconds for an app that was told the end to read that, and close."""
FIRST_ACTIVATED_FD: Final = 3
"""SD_LISTEN_FDS_START."""

_FD_SIZE: Final = array.array("i").itemsize
_UCRED: Final = struct.Struct("iII")


class SocketError(Exception):
    """The Wayland socket cannot be had; the message says why and what to do."""


class FdsLostError(Exception):
    """The kernel dropped fds on the way: what came with them is worthless."""


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

    __slots__ = ("_sent", "_socket", "peer")

    def __init__(self, connected: trio.socket.SocketType) -> None:
        self._socket = connected
        self._sent = SentEvents()
        self.peer = identify_peer(connected)

    async def receive(self, size: int) -> tuple[bytes, list[int]]:
        """Receive at most `size` bytes, and the fds that came with them.

        No bytes means that the app has closed.  A cancelled call has taken nothing.

        Raises:
            OSError: the connection broke.
            FdsLostError: fds were dropped (too many open, or too many at once).
        """
        data, ancillary, flags, _ = await self._socket.recvmsg(
            size,
            socket.CMSG_SPACE(MAX_ATTACHMENTS * _FD_SIZE),
            socket.MSG_CMSG_CLOEXEC,
        )
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) // _FD_SIZE * _FD_SIZE])
        if flags & socket.MSG_CTRUNC:
            for fd in fds:
                close_fd(fd)
            raise FdsLostError("fds were lost: the agent has too many open")
        return data, list(fds)

    async def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send all of `data`; the fds go with its first bytes, and stay ours to close.

        Not cancel-safe: an app that got half of it can only be dropped.

        Raises:
            OSError: the connection broke.
            ValueError: there are more batches of fds than bytes to carry them.
        """
        batches = [
            array.array("i", fds[first : first + MAX_FDS_PER_SEND])
            for first in range(0, len(fds), MAX_FDS_PER_SEND)
        ]
        if len(batches) > len(data):
            raise ValueError(f"{len(fds)} fds with {len(data)} bytes")
        rest = memoryview(data)
        while batches:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, batches.pop(0))]
            # A byte for each batch that is still to come must be left.
            carrier = rest[:1] if batches else rest
            rest = self._count(rest, await self._socket.sendmsg([carrier], rights))
        while rest:
            rest = self._count(rest, await self._socket.send(rest))

    async def bid_farewell(self, error: bytes) -> None:
        """Send `wl_display.error`, if that makes sense, and wait until the app closes.

        What it still sends is taken and dropped: to close with that unread would reset
        the connection, and the app would not get to read why.
        """
        with trio.move_on_after(FAREWELL), suppress(OSError):
            if self._can_tell:
                await self.send(error)
            self._socket.shutdown(socket.SHUT_WR)
            # fds are dropped by the kernel, as there is no room for them.
            while await self._socket.recv(DRAIN_SIZE):
                pass

    def say(self, error: bytes) -> None:
        """Send `wl_display.error` if it makes sense and there is room, before a close.

        What is unread is dropped, and no more let in: to close with that unread would
        reset the connection, and libwayland does not read on after a reset.
        """
        # The socket is non-blocking.
        if self._can_tell:
            with suppress(OSError):
                os.write(self._socket.fileno(), error)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
            while os.read(self._socket.fileno(), DRAIN_SIZE):
                pass

    @property
    def _can_tell(self) -> bool:
        return self._sent.whole and not self._sent.told

    def _count(self, data: memoryview, sent: int) -> memoryview:
        self._sent.add(data[:sent])
        return data[sent:]

    def close(self) -> None:
        """Close the connection; again is harmless."""
        self._socket.close()


class Listener:
    """The socket that apps connect to.

    One that we made has a lock file beside it, as libwayland's have, and is removed
    when closed; one that systemd passed stays systemd's.
    """

    __slots__ = ("_listening", "_lock_fd", "_path", "_socket")

    def __init__(
        self, listening: socket.socket, path: Path | None = None, lock_fd: int = -1
    ) -> None:
        self._listening = listening
        self._socket: trio.socket.SocketType | None = None
        """The same, from the first `accept` on."""
        self._path = path
        self._lock_fd = lock_fd

    def __str__(self) -> str:
        return str(self._path or self._listening.getsockname())

    async def accept(self) -> AppSocket:
        """Wait for an app.

        Raises:
            OSError: out of fds, or the app has already gone.
        """
        if self._socket is None:
            self._socket = trio.socket.from_stdlib_socket(self._listening)
        connected, _ = await self._socket.accept()
        try:
            return AppSocket(connected)
        except BaseException:
            connected.close()
            raise

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
            os.close(self._lock_fd)
            self._path = None


def lock_path(path: Path) -> Path:
    """Where libwayland puts the lock of a display socket."""
    return path.with_name(path.name + ".lock")


def listen(path: Path) -> Listener:
    """Listen at `path`, in place of whoever died there.

    Raises:
        SocketError: somebody alive listens there, or the directory is not ours.
    """
    try:
        lock_fd = os.open(lock_path(path), os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 0o660)
    except OSError as exc:
        raise SocketError(f"cannot lock {path}: {exc.strerror}") from exc
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_dead(path)
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        os.close(lock_fd)
        if isinstance(exc, BlockingIOError):
            raise SocketError(
                f"{path} is in use by another compositor or agent: stop it, or choose"
                " another --socket"
            ) from exc
        raise SocketError(f"cannot listen at {path}: {exc.strerror}") from exc
    return Listener(listening, path, lock_fd)


def remove_dead(path: Path) -> None:
    """Remove the socket of who died here; what is none stays.

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


def identify_peer(connected: trio.socket.SocketType) -> Peer:
    """Ask the kernel who is at the other end.

    Raises:
        OSError: the socket is not a connected Unix socket.
    """
    credentials = connected.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size
    )
    pid, uid, gid = _UCRED.unpack(credentials)
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
