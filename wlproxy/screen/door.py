"""The viewer's end of what it has to say to its doorman, and of the memory that they share."""

import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import trio

import wlproxy
from wlproxy.host.errors import HostError
from wlproxy.screen import doorman
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd, duplicate

_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from wlproxy.screen.doorman import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_NUMBERS: Final = 255
SOON: Final = 0.1
"""Seconds from when a listener was cut off until there is another."""
LATER: Final = 8.0
"""How many times as long it is if that one is cut off, too: QEMU never forgets a listener..."""
LATEST: Final = 60.0
"""...and the most; one that has lasted so long is forgiven."""
LEAVES: Final = 1.0
"""Seconds in which a doorman that was sent away ends."""


class NoDoormanError(HostError):
    """There is nobody to let QEMU in."""


class Listener:
    """A listener that the doorman has.

    Attributes:
        number: by which it is told from others.
        began: when it was made.
        answered: set when it is known what became of it.
        outcome: what did, one of `doorman.LET_IN`, `GONE` and `REFUSED`.
    """

    def __init__(self, number: int) -> None:
        """Nothing is known yet."""
        self.number = number
        self.began = trio.current_time()
        self.answered = trio.Event()
        self.outcome = b""


class Door(Closing):
    """Where QEMU is let in.

    Attributes:
        ready: set when the doorman is there.
    """

    def __init__(
        self, control: socket.socket, pulse: mmap.mmap, ended: Callable[[], object]
    ) -> None:
        """Take both over; `start` makes them.

        Args:
            control: to the doorman.
            pulse: memory shared with it.
            ended: waits for the end of one that has been sent away.
        """
        self.ready = trio.Event()
        self._control = FdStream(control)
        self._pulse = pulse
        self._ended = ended
        self._closed = False
        self._number = 0
        self._listener: Listener | None = None
        self._beats = 0
        self._pause = SOON

    @classmethod
    def start(cls) -> Self:
        """Start a doorman.  It is in a session of its own: who stops us does not stop it.

        Raises:
            NoDoormanError: no process can be made.
        """
        words = "-I", "-S", "-c", _PROGRAM, str(Path(wlproxy.__file__).parents[1])
        return cls.with_doorman(lambda control, pulse: _spawn(words, control, pulse))

    @classmethod
    def with_doorman(cls, begin: "Callable[[int, int], Callable[[], object]]") -> Self:
        """Have somebody begin a doorman.

        Args:
            begin: is given the fds of its control socket and of the memory, leaves them
                open, and returns what waits for its end.

        Raises:
            NoDoormanError: there are too many fds, or it cannot be begun.
        """
        with NoDoormanError.explaining(
            "QEMU cannot be let in", tried="a process for it"
        ):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with closed_on_error(ours), theirs:
                file = OwnedFd(os.memfd_create("wlproxy-door", os.MFD_CLOEXEC))
                with file:
                    os.ftruncate(file.fileno(), doorman.PULSE_SIZE)
                    pulse = mmap.mmap(file.fileno(), doorman.PULSE_SIZE)
                    with closed_on_error(pulse):
                        ended = begin(theirs.fileno(), file.fileno())
        return cls(ours, pulse, ended)

    def admit(self, sock: socket.socket, interfaces: Sequence[str]) -> Listener:
        """Have a listener's connection begun, instead of the last one's.

        Args:
            sock: our end of it, which remains ours, to be read when it is let in.
            interfaces: what QEMU is told that it has besides its first.
        """
        return self._pass(sock, ",".join(interfaces).encode())

    def guard(self, sock: socket.socket) -> Listener:
        """Have a connection that is begun already looked after, instead of the last one.

        Args:
            sock: our end of it, which remains ours.
        """
        return self._pass(sock, doorman.BEGUN)

    def _pass(self, sock: socket.socket, names: bytes) -> Listener:
        self._number = self._number % _NUMBERS + 1
        self._listener = Listener(self._number)
        packet = bytes([self._number]) + names
        with duplicate(sock.fileno()) as copy:
            self._control.send_at_once(packet, (copy,))
        return self._listener

    def beat(self) -> None:
        """Say that what QEMU sent has been read."""
        self._beats = self._beats + 1 & 0xFF
        self._pulse[doorman.BEATS] = self._beats

    @property
    def has_shut(self) -> bool:
        """Whether the doorman has ever shut down a connection, as it was not read."""
        return bool(self._pulse[doorman.SHUT])

    def was_shut(self, listener: Listener) -> bool:
        """Tell whether the doorman has shut it down, as it was not read."""
        return self._pulse[doorman.SHUT] == listener.number

    def pause_after(self, listener: Listener) -> float:
        """Return how long to wait, in seconds, until there is another one than that."""
        if trio.current_time() > listener.began + LATEST:
            self._pause = SOON
        pause, self._pause = self._pause, min(self._pause * LATER, LATEST)
        return pause

    async def run(self) -> None:
        """Hear what the doorman says, until it has ended."""
        while True:
            try:
                packet, _ = await self._control.receive()
            except trio.BrokenResourceError:
                return
            if not packet:
                return
            if packet == doorman.READY:
                self.ready.set()
            elif self._listener and packet[1:] == bytes([self._listener.number]):
                self._listener.outcome = packet[:1]
                self._listener.answered.set()

    def close(self) -> None:
        """Send the doorman away.  Again: nothing happens."""
        if self._closed:
            return
        self._closed = True
        self._control.close()
        self._pulse.close()
        self._ended()


def _spawn(words: Sequence[str], control: int, pulse: int) -> Callable[[], object]:
    process = subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, *words, str(control), str(pulse)],
        stdin=subprocess.DEVNULL,
        pass_fds=(control, pulse),
        start_new_session=True,
    )

    def ended() -> None:
        try:
            process.wait(LEAVES)
        except subprocess.TimeoutExpired:  # stopped, perhaps
            process.kill()
            process.wait()

    return ended
