"""A Unix stream socket that carries fds along with its bytes, under trio.

It knows nothing of Wayland.  Fds that are received arrive as `OwnedFd`s.  Fds that are sent
remain their owner's, and are held open until the kernel has taken them.

Cancellation must neither lose nor repeat a byte or an fd.  A receive is cancelled before its
system call or not at all: what the call has taken is returned.  A send remembers what the
kernel has not taken, and the next send or `flush` continues there; to start again would
repeat half a message.  What is dropped instead is released, and its owner (`fds`) closes it.  The
kernel takes all fds of a call with its first byte, however few
bytes it takes, so they count as sent from then on.
"""

import errno
import fcntl
import os
import select
import socket
import termios
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from wlproxy.protocol.errors import LocalProtocolError, WlproxyError
from wlproxy.protocol.fd_limits import MAX_FDS_IN, MAX_FDS_OUT
from wlproxy.transport.fds import OwnedFd

RECEIVE_SIZE: Final = 65536
MAX_PARTS: Final = 64
"""Chunks per sendmsg, far below the kernel's IOV_MAX of 1024: a batch this long
already costs next to nothing per chunk."""
CONNECT_ATTEMPTS: Final = 100
CONNECT_RETRY: Final = 0.02
"""Seconds between attempts while the listener's backlog is full: 2 s in all."""

_FD_SIZE: Final = array("i").itemsize
_ANCILLARY_SIZE: Final = socket.CMSG_SPACE(MAX_FDS_IN * _FD_SIZE)
_CTRUNC: Final = int(socket.MSG_CTRUNC)  # operators of an IntFlag are slow


class FdsLostError(WlproxyError):
    """The kernel dropped fds of a message (MSG_CTRUNC): the stream is out of step."""

    def __init__(self) -> None:
        super().__init__(
            "the kernel dropped fds that a peer sent (recvmsg: MSG_CTRUNC)\n"
            "This process may be at its limit of open files: raise "
            "`ulimit -n` (LimitNOFILE= in a systemd unit)."
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes, and the fds that leave with the first of them."""

    data: bytes
    fds: tuple[OwnedFd, ...] = ()


@dataclass(slots=True)
class _Part:
    """What is left to send of a chunk: at most MAX_FDS_OUT fds, with its first byte."""

    data: memoryview
    fds: tuple[OwnedFd, ...]


async def connect_unix(path: Path) -> "FdStream":
    """Connect to a listening Unix socket.

    Raises:
        OSError: nothing listens there, no permission, or the path is too long.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await _connect(sock, path)
        return FdStream(sock)
    except BaseException:
        sock.close()
        raise


class FdStream:
    """A connected Unix stream socket, which it owns.

    One task may receive while another one sends.

    Attributes:
        sent: bytes that the kernel has taken so far, though perhaps not yet the peer.
    """

    def __init__(
        self, sock: socket.socket, own: Callable[[int], OwnedFd] = OwnedFd
    ) -> None:
        """Take over `sock`.

        Args:
            sock: connected.
            own: makes what owns a received fd, and knows how such a one is closed.
        """
        sock.settimeout(0)
        self.sent = 0
        self._socket = sock
        self._own = own
        self._unsent: list[_Part] = []
        self._sending = False
        self._receiving = False
        self._write_shut = False
        self._drained = False
        """Whether there was nothing left to receive, the last time."""

    @property
    def socket(self) -> socket.socket:
        """The socket, for its options (SO_PEERCRED)."""
        return self._socket

    @property
    def hung_up(self) -> bool:
        """Whether the peer has closed, perhaps with something left to read."""
        if self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    @property
    def backlog(self) -> bool:
        """Whether anything waits for the peer."""
        return bool(self._unsent)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer."""
        return sum(len(part.data) for part in self._unsent)

    async def receive(
        self, max_bytes: int = RECEIVE_SIZE
    ) -> tuple[bytes, list[OwnedFd]]:
        """Wait for bytes; none mean that the peer has closed.

        Nothing is lost by cancellation: what was taken is returned, whatever happens
        meanwhile.

        Raises:
            FdsLostError: the kernel dropped fds; those that came have been closed.
            trio.ClosedResourceError: the stream was closed here.
            trio.BrokenResourceError: the connection broke.
            trio.BusyResourceError: another task is receiving.
        """
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._check_open()
        self._receiving = True
        try:
            received = None
            if not self._drained:
                await trio.lowlevel.checkpoint_if_cancelled()
                received = self._try_receive(max_bytes)
                if received is not None:
                    await trio.lowlevel.cancel_shielded_checkpoint()
            while received is None:
                await trio.lowlevel.wait_readable(self._socket)
                received = self._try_receive(max_bytes)
            return received
        finally:
            self._receiving = False

    async def send(self, data: bytes, fds: Sequence[OwnedFd] = ()) -> None:
        """Send bytes; the fds leave with the first byte.  As `send_batch`."""
        await self.send_batch((Chunk(data, tuple(fds)),))

    async def send_batch(self, chunks: Sequence[Chunk]) -> None:
        """Send chunks in order, in as few system calls as their fds allow.

        The fds are held at once, so their owner may close them after this was
        called.  Cancelled, the rest is remembered: whatever is sent next, or
        `flush`, goes on with it.

        Raises:
            LocalProtocolError: a chunk has fds but too few bytes to carry them;
                nothing of the batch will be sent.
            trio.ClosedResourceError: the stream was closed or shut down here.
            trio.BrokenResourceError: the peer is gone.
            trio.BusyResourceError: another task is sending.
        """
        self._check_sender()
        self._add(chunks)
        await self._flush()

    def send_at_once(self, data: bytes, fds: Sequence[OwnedFd] = ()) -> bool:
        """Send bytes and fds as `send_batch_at_once`."""
        if not (fds or self._unsent or self._sending or self._write_shut):
            with suppress(OSError):  # which comes again below, and is told there
                sent = self._socket.send(data)
                self.sent += sent
                if sent == len(data):
                    return True
                data = data[sent:]
        return self.send_batch_at_once((Chunk(data, tuple(fds)),))

    def send_batch_at_once(self, chunks: Sequence[Chunk]) -> bool:
        """Send chunks as far as the peer takes them without waiting; tell if that was all.

        The rest is a `backlog`, which `flush` is for; if nobody takes it, it is that which
        says so.  Fds are held as by `send_batch`.

        Raises:
            LocalProtocolError: as `send_batch`.
            trio.ClosedResourceError: the stream was closed or shut down here.
        """
        self._add(chunks)
        if not self._sending:  # else whoever sends goes on with it
            try:
                while self._unsent:
                    self._sendmsg()
            except OSError:
                return False
        return not self._unsent

    async def flush(self) -> None:
        """Send what an earlier, cancelled send left.  Raises as `send_batch`."""
        self._check_sender()
        await self._flush()

    def drop_unsent(self) -> None:
        """Forget what a cancelled send left."""
        unsent, self._unsent = self._unsent, []
        for part in unsent:
            for fd in part.fds:
                fd.release()

    def shutdown_write(self) -> None:
        """Tell the peer that nothing more comes.  What is unsent is dropped."""
        self._write_shut = True
        self.drop_unsent()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as exc:
            # Gone already, which is what the caller wants to come about.
            if exc.errno not in (errno.ENOTCONN, errno.EBADF):
                raise

    async def wait_closed(self, seconds: float) -> bool:
        """Discard what the peer still sends until it closes; False if it does not.

        Raises:
            trio.ClosedResourceError: the stream was closed here.
            trio.BusyResourceError: another task is receiving.
        """
        with trio.move_on_after(seconds):
            while True:
                try:
                    received, fds = await self.receive()
                except FdsLostError:
                    continue
                except trio.BrokenResourceError:
                    return True
                for fd in fds:
                    fd.close()
                if not received:
                    return True
        return False

    async def hang_up(self, seconds: float) -> bool:
        """Leave as a program that exits would; True once the peer has let go.

        libwayland's server drops a client when it has torn down all of its objects, and
        says so to nobody: closed here, the socket cannot tell.  It closes what it has
        read of the client last of all, though: so the write end of a pipe is left there,
        with a byte that is no whole message, and the pipe is watched.  Shut down both
        ways the connection looks to the peer as if it were closed, for which it has no
        line in its log, as it has for a connection closed one way.

        Where that cannot be, since the peer does not read, it is the latter.

        Args:
            seconds: to wait for the peer at most.

        Raises:
            trio.ClosedResourceError: the stream was closed here.
            trio.BusyResourceError: another task is receiving or sending.
        """
        with trio.move_on_after(seconds) as scope:
            try:
                await self.flush()  # what it was sent is whole messages then
                left_there = self._leave_pipe()
            except trio.BrokenResourceError:
                return True
            if left_there is None:
                self.shutdown_write()
                return await self.wait_closed(scope.deadline - trio.current_time())
            with left_there:
                await self._wait_taken()
                self._write_shut = True
                with suppress(OSError):  # it was quicker
                    self._socket.shutdown(socket.SHUT_RDWR)
                await trio.lowlevel.wait_readable(left_there.fileno())
                return True
        self.shutdown_write()
        return False

    def _leave_pipe(self) -> OwnedFd | None:
        """Send the write end of a pipe; return the other, None if it does not go."""
        try:
            read_end, write_end = map(OwnedFd, os.pipe2(os.O_CLOEXEC))
        except OSError:
            return None
        with write_end:
            numbers = array("i", [write_end.fileno()])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
            try:
                self._socket.sendmsg([b"\0"], rights)
            except BlockingIOError:
                read_end.close()
                return None
            except OSError as exc:
                read_end.close()
                raise trio.BrokenResourceError(f"cannot send: {exc}") from exc
        return read_end

    async def _wait_taken(self) -> None:
        """Wait until the peer has read everything, or is gone; no event tells that."""
        pause = 0.001
        unread = array("i", [1])
        while not fcntl.ioctl(self._socket, termios.TIOCOUTQ, unread) and unread[0]:
            await trio.sleep(pause)
            pause = min(2 * pause, 0.05)

    def close(self) -> None:
        """Close the socket and drop what is unsent.  Again: nothing happens."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        self.drop_unsent()

    async def aclose(self) -> None:
        """As `close`, and a checkpoint; it is closed even if this is cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _add(self, chunks: Sequence[Chunk]) -> None:
        self._check_open()
        if self._write_shut:
            raise trio.ClosedResourceError("the stream is shut down for writing")
        parts: list[_Part] = []
        for chunk in chunks:
            if chunk.fds:
                parts += _split(chunk)
            elif chunk.data:
                parts.append(_Part(memoryview(chunk.data), ()))
        for part in parts:
            for fd in part.fds:
                fd.hold()
        self._unsent += parts

    async def _flush(self) -> None:
        self._sending = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            at_once = True
            while self._unsent:
                self._check_open()
                try:
                    self._sendmsg()
                except BlockingIOError:
                    at_once = False
                    await trio.lowlevel.wait_writable(self._socket)
                except OSError as exc:
                    self.drop_unsent()
                    raise trio.BrokenResourceError(f"cannot send: {exc}") from exc
        finally:
            self._sending = False
        if at_once:
            # Afterwards, so that the peer need not wait for whoever has a turn now.
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _sendmsg(self) -> None:
        """Make one system call: the fds of the first part, the bytes up to the next fds."""
        first = self._unsent[0]
        joined = [first.data]
        for part in islice(self._unsent, 1, MAX_PARTS):
            if part.fds:
                break
            joined.append(part.data)
        if first.fds:
            numbers = array("i", [fd.fileno() for fd in first.fds])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
            sent = self._socket.sendmsg(joined, rights)
            # The fds left with the first byte, however few bytes went.
            for fd in first.fds:
                fd.release()
            first.fds = ()
        else:
            sent = self._socket.sendmsg(joined)
        self.sent += sent
        whole = 0
        while sent:
            part = self._unsent[whole]
            taken = min(sent, len(part.data))
            sent -= taken
            if taken == len(part.data):
                whole += 1
            else:
                part.data = part.data[taken:]
        del self._unsent[:whole]

    def _try_receive(self, max_bytes: int) -> tuple[bytes, list[OwnedFd]] | None:
        """Receive what is there, if anything is."""
        try:
            return self._recvmsg(max_bytes)
        except BlockingIOError:
            self._drained = True
            return None
        except OSError as exc:
            raise trio.BrokenResourceError(f"cannot receive: {exc}") from exc

    def _recvmsg(self, max_bytes: int) -> tuple[bytes, list[OwnedFd]]:
        received, ancillary, flags, _ = self._socket.recvmsg(
            max_bytes, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC
        )
        fds = [
            self._own(number)
            for level, kind, payload in ancillary
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
            for number in array("i", payload[: len(payload) // _FD_SIZE * _FD_SIZE])
        ]
        if flags & _CTRUNC:
            for fd in fds:
                fd.close()
            raise FdsLostError
        # What ended with fds may have been cut there; else there was no more to take.
        self._drained = len(received) < max_bytes and not fds
        return received, fds

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("the stream was closed")

    def _check_sender(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending")


def _split(chunk: Chunk) -> Iterator[_Part]:
    """Split a chunk with fds so that no part has more than MAX_FDS_OUT of them.

    A further part needs a byte to leave with.  It is among the first few of a message
    header, so that the fds are still there before their message is complete.
    """
    view, fds = memoryview(chunk.data), chunk.fds
    while len(fds) > MAX_FDS_OUT:
        if len(view) < 2:
            raise LocalProtocolError(f"too few bytes to carry {len(chunk.fds)} fds")
        yield _Part(view[:1], fds[:MAX_FDS_OUT])
        view, fds = view[1:], fds[MAX_FDS_OUT:]
    if fds and not view:
        raise LocalProtocolError(f"no byte to carry {len(chunk.fds)} fds")
    if view:
        yield _Part(view, fds)


async def _connect(sock: socket.socket, path: Path) -> None:
    sock.settimeout(0)
    for _ in range(CONNECT_ATTEMPTS):
        await trio.lowlevel.checkpoint()
        try:
            sock.connect(str(path))
        except BlockingIOError:  # the backlog is full; nothing tells when it is not
            await trio.sleep(CONNECT_RETRY)
        else:
            return
    raise OSError(errno.EAGAIN, "the listener does not accept connections", str(path))
