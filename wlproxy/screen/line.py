"""Runs the connection on which we call QEMU, which all windows of a machine share."""

import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from wlproxy.protocol.errors import DBusError
from wlproxy.screen.connecting import owner
from wlproxy.screen.qemu_files import QemuFile
from wlproxy.screen.qemu_peer import QemuPeer
from wlproxy.transport.closable import Closing
from wlproxy.transport.fd_stream import Chunk, FdsLostError, FdStream
from wlproxy.transport.fds import OwnedFd

ENDED: Final = "QEMU has ended: there is no screen any more"
MAX_UNSENT: Final = 1 << 23
"""Bytes that QEMU has not read, though it goes on calling: a text to paste is up to 1 MB."""


class Line(Closing):
    """The connection, from its beginning to its end.

    Attributes:
        peer: what is said on it.
        ended: set once it has.
        why: why that is; `ENDED` if QEMU hung up.
        socket: what it goes over.
        read: called when something that QEMU said has been read.
    """

    def __init__(self, qemu: socket.socket) -> None:
        """Take over a socket to QEMU's display."""
        self.peer = QemuPeer[OwnedFd](owner(qemu))
        self.ended = trio.Event()
        self.why = ""
        self.socket = qemu
        self.read: Callable[[], object] = nothing
        self._stream = FdStream(qemu, QemuFile)
        self._news = trio.Event()
        self._stuck = trio.Event()

    @property
    def unsent(self) -> int:
        """Bytes that QEMU has not read yet."""
        return self._stream.unsent

    async def run(self) -> None:
        """Be told what QEMU says, until it says no more."""
        async with trio.open_nursery() as nursery:  # noqa: TID251 - both end with the line
            nursery.start_soon(self._flush_when_stuck)
            self.send_out()
            self.why = await self._receive()
            self.ended.set()
            self._news.set()
            nursery.cancel_scope.cancel()

    async def wait_news(self) -> None:
        """Wait until QEMU has said something; whoever is told looks for himself at what."""
        await self._news.wait()

    def send_out(self) -> None:
        """Send what is to be sent, as far as QEMU reads it."""
        output = self.peer.take_output()
        if not output or self.ended.is_set():
            release(output)
            return
        if not send_held(self._stream, output):
            self._stuck.set()

    def close(self) -> None:
        """Hang up.  Again: nothing happens."""
        self.peer.close()
        # What was never sent was held for that.
        release(self.peer.abandon())
        self._stream.close()

    async def _receive(self) -> str:
        """Receive until the end; return why that is."""
        while True:
            try:
                data, fds = await self._stream.receive()
                if not data:
                    return ENDED
                self.read()
                self.peer.receive(data, fds)
            except (DBusError, FdsLostError) as exc:
                return f"QEMU is not understood: {exc}"
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return ENDED
            self.send_out()
            if self.unsent > MAX_UNSENT:
                return "QEMU calls, and does not read what it is answered"
            news, self._news = self._news, trio.Event()
            news.set()

    async def _flush_when_stuck(self) -> None:
        while True:
            await self._stuck.wait()
            self._stuck = trio.Event()
            try:
                await self._stream.flush()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # whoever receives from it says so


def nothing() -> None:
    """Do nothing: nobody wants to know."""


class Held(Protocol):
    """Something to be sent, with fds that are held until it is."""

    @property
    def data(self) -> bytes:
        """The bytes."""

    @property
    def fds(self) -> tuple[OwnedFd, ...]:
        """The fds."""


def release(output: Sequence[Held]) -> None:
    """Let go of fds that were held until they were sent."""
    for out in output:
        for fd in out.fds:
            fd.release()


def send_held(stream: FdStream, output: Sequence[Held]) -> bool:
    """Send as far as the peer takes it without waiting, and let go of the fds; tell if that was all."""
    if len(output) == 1 and not output[0].fds:
        return stream.send_at_once(output[0].data)
    sent = stream.send_batch_at_once([Chunk(out.data, out.fds) for out in output])
    release(output)
    return sent
