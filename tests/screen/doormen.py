"""A real doorman in a thread of the test's process, and what a viewer says to it."""

import mmap
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from wlproxy.screen.doorman import PULSE_SIZE, READY, Doorman
from wlproxy.transport.fds import OwnedFd

FOREVER = 20
"""Seconds after which a test gives up."""


def doorman_in_thread(control: int, pulse: int) -> Callable[[], None]:
    """Begin a doorman; return what waits for its end."""
    sock = socket.socket(fileno=os.dup(control))
    memory = mmap.mmap(pulse, PULSE_SIZE)

    def serve() -> None:
        with sock, memory:
            Doorman(sock, memory).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread.join


class DoormanThread:
    """One that is ready, from `with` to the end of that.

    Attributes:
        pulse: the memory that it shares with its viewer.
    """

    def __enter__(self) -> Self:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(FOREVER)
        with theirs, OwnedFd(os.memfd_create("pulse")) as file:
            os.ftruncate(file.fileno(), PULSE_SIZE)
            self.pulse = mmap.mmap(file.fileno(), PULSE_SIZE)
            self._ended = doorman_in_thread(theirs.fileno(), file.fileno())
        assert self.hear() == READY
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._control.close()
        self._ended()
        self.pulse.close()

    def admit(self, sock: socket.socket, number: int, *names: str) -> None:
        packet = bytes([number]) + ",".join(names).encode()
        socket.send_fds(self._control, [packet], [sock.fileno()])

    def hear(self) -> bytes:
        return self._control.recv(100)
