"""Records what a real app and a real compositor say to each other.

    python -m bench.record weston-simple-damage "weston 10" -- weston-simple-damage

runs a headless weston and the app, with a tap between the two and no wlproxy, and writes
`bench/traces/weston-simple-damage.jsonl.gz` (`bench.recording`).  `--display` takes another compositor that runs already:
that weston has no seat, which some apps want (foot does).  `--pointer` moves one over the app.  The app is offered the globals that wlproxy would
offer it (all but linux-dmabuf, which wlproxy serves itself), since it would say something else
otherwise.  What may say something about a person is not written (`bench.scrubbing`).

Only the app's first connection is recorded, and it gets no other.
"""

import argparse
import array
import contextlib
import fcntl
import os
import select
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.conversation import Conversation, Said
from bench.peers import weston
from bench.pointer import MovingPointer
from bench.processes import BenchError, Started, started
from bench.recording import (
    SUFFIX,
    TRACES,
    Batch,
    Passed,
    PassedFd,
    Recording,
    Speaker,
    write_recording,
)
from bench.scrubbing import scrub
from wlproxy.protocol.errors import WlproxyError
from wlproxy.protocol.wayland.message import as_integer, as_string
from wlproxy.relay.buffers import offer
from wlproxy.relay.policy import effective_policy
from wlproxy.transport.fds import OwnedFd

MESSAGES: Final = 3000
SECONDS: Final = 30.0
START_SECONDS: Final = 30.0
"""Seconds that the app may take to connect."""
CHUNK: Final = 64 * 1024
FDS: Final = 28
"""How many libwayland sends at once, at most."""


class Tapped:
    """What passes through a tap: what is sent on, and what is written down of it.

    Attributes:
        batches: what is written down, scrubbed.
        messages: how many there are in them.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.messages = 0
        self._conversation = Conversation()
        self._policy = effective_policy()
        self._policy.pop(offer.INTERFACE)
        self._hidden: set[int] = set()
        self._fds: dict[Speaker, list[PassedFd]] = {each: [] for each in Speaker}

    def take(self, speaker: Speaker, data: bytes, fds: Sequence[PassedFd]) -> bytes:
        """Write down what was read; say what of it is to be sent on, by now.

        Args:
            speaker: whose it is.
            data: what one read brought; the end of the last message may be missing.
            fds: what came with it.
        """
        passed = [
            said
            for said in self._conversation.hear(speaker, data)
            if self._may_pass(said)
        ]
        sent = b"".join(said.encode() for said in passed)
        for said in passed:
            scrub(said)
        waiting = self._fds[speaker]
        waiting += fds
        if passed:
            written = b"".join(said.encode() for said in passed)
            self.batches.append(Batch(speaker, written, tuple(waiting)))
            self.messages += len(passed)
            waiting.clear()
        return sent

    def _may_pass(self, said: Said) -> bool:
        """Hide the globals that wlproxy hides, and lower versions as it does."""
        match said.title:
            case ("wl_registry", "global"):
                name = as_integer(said.args[0])
                interface = (as_string(said.args[1]) or b"").decode()
                highest = self._policy.get(interface, 0)
                said.args[2] = min(as_integer(said.args[2]), highest)
                if not highest:
                    self._hidden.add(name)
                return bool(highest)
            case ("wl_registry", "global_remove"):
                return said.args[0] not in self._hidden
            case _:
                return True


def pass_on(
    app: socket.socket, server: socket.socket, goes_on: Callable[[Tapped], bool]
) -> Tapped:
    """Have two talk to each other, until one hangs up or it is enough.

    Args:
        app: a connected socket.
        server: the same; both block.
        goes_on: whether it is not enough.
    """
    tapped = Tapped()
    ends = {app: (Speaker.APP, server), server: (Speaker.COMPOSITOR, app)}
    kept: dict[socket.socket, list[OwnedFd]] = {app: [], server: []}
    while goes_on(tapped):
        for source in select.select([app, server], [], [], 0.1)[0]:
            speaker, sink = ends[source]
            data, fds = _receive(source)
            if not data:
                return tapped
            kept[source] += fds
            sent = tapped.take(speaker, data, [describe(fd.fileno()) for fd in fds])
            if sent:
                _send(sink, sent, [fd.fileno() for fd in kept[source]])
                for fd in kept[source]:
                    fd.close()
                kept[source].clear()
    return tapped


def describe(fd: int) -> PassedFd:
    """Say what an fd is."""
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        return PassedFd(Passed.FILE, found.st_size)
    if stat.S_ISFIFO(found.st_mode):
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        return PassedFd(Passed.READ if mode == os.O_RDONLY else Passed.WRITE)
    return PassedFd(Passed.OTHER)


def _receive(source: socket.socket) -> tuple[bytes, list[OwnedFd]]:
    fds = array.array("i")
    try:
        data, ancillary, _, _ = source.recvmsg(
            CHUNK, socket.CMSG_SPACE(FDS * fds.itemsize)
        )
    except ConnectionResetError:
        return b"", []
    for _level, _type, rights in ancillary:
        fds.frombytes(rights)
    return data, [OwnedFd(fd) for fd in fds]


def _send(sink: socket.socket, data: bytes, fds: list[int]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sent = socket.send_fds(sink, [data], fds) if fds else 0
        sink.sendall(data[sent:])


def record(
    words: Sequence[str],
    enough: int,
    display: Path | None = None,
    *,
    with_pointer: bool = False,
) -> list[Batch]:
    """Run an app, and write down up to so many messages, or what 30 seconds bring.

    Args:
        words: its command line.
        enough: messages.
        display: where a compositor listens; None: a weston is run.
        with_pointer: have a pointer move over what the app shows.

    Raises:
        BenchError: there is no weston, or the app does not connect.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if display is None:
            stack.enter_context(weston(directory))
            display = directory / "wl-bench"
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(directory / "tap"))
        listening.listen(1)
        pointer = None
        if with_pointer:
            pointer = stack.enter_context(MovingPointer(str(display)))
        environ = {"XDG_RUNTIME_DIR": str(directory), "WAYLAND_DISPLAY": "tap"}
        program = started(words, directory / "app.log", environ)
        app = stack.enter_context(_accept(listening, stack.enter_context(program)))
        listening.close()
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.connect(str(display))
        end = time.monotonic() + SECONDS

        def goes_on(tapped: Tapped) -> bool:
            if pointer is not None:
                pointer.move()
            return tapped.messages < enough and time.monotonic() < end

        tapped = pass_on(app, server, goes_on)
        if not tapped.batches:
            raise BenchError(f"{words[0]} said nothing")
    return tapped.batches


def _accept(listening: socket.socket, program: Started) -> socket.socket:
    listening.settimeout(START_SECONDS)
    try:
        return listening.accept()[0]
    except TimeoutError:
        raise BenchError(f"it does not connect:\n{program.said()}") from None


def main() -> None:
    """Record, write, and say how much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the app, and the file")
    parser.add_argument("version", help="of the app, for people")
    parser.add_argument(
        "--messages", type=int, default=MESSAGES, help="that are enough"
    )
    parser.add_argument("--display", type=Path, help="of a compositor that runs")
    parser.add_argument("--pointer", action="store_true", help="that moves (wlroots)")
    parser.add_argument("--compositor", default="weston", help="its name and version")
    parser.add_argument("command", nargs="+", help="the app's, after --")
    options = parser.parse_args()
    try:
        batches = record(
            options.command,
            options.messages,
            options.display,
            with_pointer=options.pointer,
        )
    except (BenchError, WlproxyError) as error:
        sys.exit(f"record: {error}")
    recording = Recording(options.name, options.version, options.compositor, batches)
    path = TRACES / f"{options.name}{SUFFIX}"
    write_recording(recording, path)
    sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
