"""A launcher's request, served in this process."""

import os
import threading

from tests.guest_agent.launcher.desktop import Desktop
from wlproxy.protocol.channel.launch_lines import LineReader, Outcome, encode_line
from wlproxy.protocol.channel.launching import PIPES
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.launcher.command import Pipes, serve
from wlproxy_guest.launcher.surroundings import Surroundings, surroundings


class Request:
    """One, with the host's ends of its pipes."""

    def __init__(self, around: Surroundings | None = None) -> None:
        around = around or surroundings(os.environ, "wayland-test")
        theirs: list[OwnedFd] = []
        ours: list[OwnedFd] = []
        for pipe in PIPES:
            reader, writer = map(OwnedFd, os.pipe2(os.O_CLOEXEC))
            theirs.append(reader if pipe.from_host else writer)
            ours.append(writer if pipe.from_host else reader)
        self.request, self.answers, self.stdin, self.stdout, self.stderr = ours
        self._all = ours
        self._theirs = theirs
        self._thread = threading.Thread(
            target=self._serve, args=(Pipes(*theirs), around)
        )
        self._thread.start()

    def _serve(self, pipes: Pipes, around: Surroundings) -> None:
        try:
            serve(pipes, around)
        finally:
            for fd in self._theirs:
                fd.close()

    def say(self, **fields: object) -> None:
        self.say_bytes(encode_line(fields))

    def say_bytes(self, data: bytes) -> None:
        os.write(self.request.fileno(), data)

    def outcome(self) -> Outcome | None:
        """Wait for what became of it."""
        data = read_all(self.answers)
        self._thread.join(20)
        assert not self._thread.is_alive()
        lines = LineReader()
        lines.feed(data)
        fields = lines.next_line()
        return None if fields is None else Outcome.read(fields)

    def output(self) -> bytes:
        return read_all(self.stdout)

    def close(self) -> None:
        for fd in self._all:
            fd.close()
        self._thread.join(20)


def read_all(fd: OwnedFd) -> bytes:
    data = b""
    while more := os.read(fd.fileno(), 65536):
        data += more
    return data


ANYWHERE = surroundings({}, "wayland-test")


def home(desktop: Desktop) -> Surroundings:
    return surroundings(desktop.environ, "wayland-test")
