"""Lets QEMU in, in a process of its own, so that it never waits for one that shows windows.

QEMU's main loop stands still, and the machine with it, while a listener's connection is begun
(`g_dbus_connection_new_sync`, which waits for ever, then `GetAll`, for 25 s) and until `ScanoutMap` is
answered (1 s; QEMU's ui/dbus-listener.c).  All else it does not wait for: what is not
read piles up in its memory.

So a listener is received here first.  Here the beginning is read, and what QEMU asks at once is
answered; what comes then is left in the socket, for the viewer to read.  From then on nothing goes
through here: it is only looked at now and then, while there is something to read, whether
it is being read.  If not, the connection is shut down, whereupon QEMU waits for nothing and
forgets what it had to say.  A viewer that goes on is let in again.

Another doorman looks after the connection on which the viewer calls QEMU, if there is a
clipboard: QEMU waits for the text that the guest wants to paste, and when we register (25 s each; ui/dbus-clipboard.c).

It ends when the viewer does.  It has no threads, imports little, and does nothing that can wait
for anybody.
"""

import fcntl
import mmap
import os
import select
import signal
import socket
import sys
import termios
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from wlproxy.protocol.dbus.auth import MAX_ANSWER
from wlproxy.protocol.dbus.connection import PROPERTIES, Connection
from wlproxy.protocol.dbus.messages import (
    MessageKind,
    MessageReader,
    kinds_in,
    message_size,
)
from wlproxy.protocol.dbus.values import Value, Variant
from wlproxy.protocol.errors import DBusError

READY: Final = b"r"
"""What is said first: listeners may come."""
LET_IN: Final = b"i"
"""The viewer may read; as all below, with the number of the listener."""
GONE: Final = b"g"
"""QEMU hung up."""
REFUSED: Final = b"n"
"""QEMU does not let us in, or is not understood."""

BEGUN: Final = b"\0"
"""What stands in place of interfaces' names if a connection is the viewer's already.  That is cut
off only if a call waits there: an answer that is not read harms nobody."""

LISTENER: Final = "org.qemu.Display1.Listener"

BEATS, SHUT, PULSE_SIZE = 0, 1, 2
"""What the shared memory has: how often the viewer has read, modulo 256; the last listener that
was shut down because it did not."""

LOOK: Final = 100
"""Milliseconds from one look at whether the viewer reads to the next."""
HUNG: Final = 5
"""Looks in a row, without anything read, after which it hangs.  Looks and not time: who
was frozen together with it has not looked.  Not sooner than need be: QEMU 10 never forgets a listener
that has gone, and copies for it for ever."""
BEHIND: Final = 20
"""Looks in a row with something left to read, after which it does not keep up."""

_LINES: Final = b"OK ", b"AGREE_UNIX_FD"
"""How the server's lines begin (D-Bus specification, "Authentication Protocol")."""
_PEEK: Final = 8192
_CTRL_SIZE: Final = socket.CMSG_SPACE(array("i").itemsize)


class _Listener:
    """A connection at which QEMU calls.

    Attributes:
        let_in: whether it is the viewer's to read.
        looking: whether it is looked at; else nothing is said there.
        left: looks in a row with something left to read.
        unread: those of them without anything read since the last.
    """

    def __init__(self, sock: socket.socket, number: int, names: bytes) -> None:
        self.sock, self.number = sock, number
        self._begun_before = names == BEGUN
        self.let_in, self.looking = self._begun_before, False
        self.left = self.unread = 0
        self.beats = 0
        self._names = [each for each in names.decode().split(",") if each]
        self._lines = 0
        self._begun = b""

    def harms(self) -> bool:
        """Whether QEMU waits, or will keep what it says, until somebody reads here."""
        if not self._begun_before:
            return True
        try:
            seen = self.sock.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        return MessageKind.METHOD_CALL in kinds_in(seen)

    def answer(self) -> bytes:
        """Answer what can be answered now; return what that leads to, if to anything."""
        while True:
            try:
                seen = self.sock.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return b""
            except OSError:
                return GONE
            if not seen:
                return GONE
            size = self._line(seen) if self._lines < len(_LINES) else self._call(seen)
            if size <= 0:
                return REFUSED if size else LET_IN
            self.sock.recv(size)

    def _line(self, seen: bytes) -> int:
        """Read one of the server's lines, or the beginning of it; -1: it is none of ours."""
        line, found, _ = (self._begun + seen).partition(b"\r\n")
        if len(line) > MAX_ANSWER:
            return -1
        if not found:
            self._begun += seen
            return len(seen)
        if not line.startswith(_LINES[self._lines]):
            return -1
        size = len(line) + 2 - len(self._begun)
        self._begun = b""
        self._lines += 1
        return size

    def _call(self, seen: bytes) -> int:
        """Answer a call; 0: it is one for the viewer."""
        try:
            size = message_size(seen)
            if not 0 < size <= len(seen):
                return 0
            reader: MessageReader[int] = MessageReader()
            reader.feed(seen[:size])
            call = reader.next_message()
        except DBusError:
            return 0  # so that there is one who says why
        asked = "GetAll", PROPERTIES, "s"
        if call is None or not call.wants_reply:
            return 0
        fields = call.fields
        if (fields.member, fields.interface, fields.signature) != asked:
            return 0
        connection: Connection[int] = Connection(0, greeted=True)
        connection.reply(call, "a{sv}", (properties(call.body[0], self._names),))
        for each in connection.take_output():
            try:
                self.sock.send(each.data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                return 0
        return size


class Doorman:
    """Who receives listeners, and looks after the last one."""

    def __init__(self, control: socket.socket, pulse: mmap.mmap) -> None:
        """Begin it.

        Args:
            control: to the viewer, one packet for each thing said.
            pulse: memory shared with it.
        """
        self._control, self._pulse = control, pulse
        self._listener: _Listener | None = None

    def serve(self) -> None:
        """Do it until the viewer is gone."""
        self._say(READY)
        try:
            while self._turn():
                pass
        finally:
            self._drop()

    def _turn(self) -> bool:
        """Wait for something, and do it; tell whether there is a viewer."""
        poll, listener = select.poll(), self._listener
        poll.register(self._control, select.POLLIN)
        if listener is not None:
            wanted = 0 if listener.looking else select.POLLIN
            poll.register(listener.sock, select.POLLRDHUP | wanted)
        looking = listener is not None and listener.looking
        found = dict(poll.poll(LOOK if looking else None))
        if self._control.fileno() in found:
            return self._receive()
        if listener is None:
            return True
        event = found.get(listener.sock.fileno(), 0)
        if not listener.let_in:
            if event:
                self._open(listener)
        elif event & ~select.POLLIN:
            self._drop()  # QEMU or the viewer has hung up
        elif event:
            listener.looking = True
            listener.beats = self._pulse[BEATS]
        else:
            self._look(listener)
        return True

    def _receive(self) -> bool:
        """Take a listener of the viewer's."""
        rights = array("i")
        try:
            packet, ancillary, _, _ = self._control.recvmsg(
                _PEEK, _CTRL_SIZE, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return True
        except OSError:
            return False
        for _, _, payload in ancillary:
            rights.frombytes(payload)
        if not packet or not rights:
            return False
        self._drop()
        sock = socket.socket(fileno=rights[0])
        self._listener = _Listener(sock, packet[0], packet[1:])
        return True

    def _open(self, listener: _Listener) -> None:
        outcome = listener.answer()
        if not outcome:
            return
        listener.let_in = outcome == LET_IN
        self._say(outcome + bytes([listener.number]))
        if not listener.let_in:
            self._drop()

    def _look(self, listener: _Listener) -> None:
        """See whether the viewer reads; shut the connection down if it does not."""
        beats = self._pulse[BEATS]
        read, listener.beats = beats != listener.beats, beats
        waiting = _waiting(listener.sock)
        if not waiting or not listener.harms():
            listener.left = listener.unread = 0
            listener.looking = read or bool(
                waiting
            )  # else nothing has come for a while
            return
        listener.left += 1
        listener.unread = 0 if read else listener.unread + 1
        if listener.unread >= HUNG or listener.left >= BEHIND:
            self._pulse[SHUT] = listener.number
            self._drop()

    def _say(self, packet: bytes) -> None:
        # A viewer that reads none of this has as good as ended.
        with suppress(OSError):
            self._control.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _drop(self) -> None:
        """Hang up, for all who have this connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.sock.shutdown(socket.SHUT_RDWR)
            listener.sock.close()


def properties(interface: str, names: Sequence[str]) -> dict[str, Value]:
    """Return what a listener is asked for: which interfaces it has besides its first."""
    return {"Interfaces": Variant("as", list(names))} if interface == LISTENER else {}


def _waiting(sock: socket.socket) -> int:
    """Return how many bytes there are to read."""
    waiting = array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, waiting)
    return waiting[0]


def main(control: int, pulse: int) -> None:
    """Be the doorman of whoever has the other ends.

    Args:
        control: the fd of the socket to the viewer.
        pulse: that of the shared memory.
    """
    # A service manager tells all processes to end: the viewer does first.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A viewer that runs only when nobody else does needs one that is prompt all the same.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    memory = mmap.mmap(pulse, PULSE_SIZE)
    with socket.socket(fileno=control) as sock:
        Doorman(sock, memory).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
