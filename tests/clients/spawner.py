"""Starts pattern clients inside the guest, each a fork of this process.

    python3 -m tests.clients.spawner DIRECTORY

The other end has only files to talk through (`lab.guest.Guest.put` and `get`), so each
client has two FIFOs, NAME.in and NAME.out: a command line into the one, its answer out
of the other, whoever the client is and whether it lives or not.  The spawner's own are
called "spawner"; a line {"name": ..., "display": ...} makes a client.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.clients import pattern, pattern_client
from tests.clients.dmabuf_client import DmabufClient

PATIENCE = 240.0
"""Seconds for one command; an answer that takes longer is an error."""


def answer_through(fifo: Path, answer: bytes) -> None:
    """Hand an answer to whoever reads the FIFO, and close it: that ends the answer."""
    with fifo.open("wb", buffering=0) as file:
        file.write(answer)


def make_fifos(directory: Path, name: str) -> tuple[int, Path]:
    """Make the FIFOs of a client; returns the open one and the other one's path."""
    source, sink = directory / f"{name}.in", directory / f"{name}.out"
    for path in (source, sink):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    # Open for writing as well: no end of file between two commands.
    return os.open(source, os.O_RDWR | os.O_CLOEXEC), sink


def watch(commands: int, sink: Path, display: str | None) -> None:
    """Fork a client and answer for it, also once it is dead."""
    to_client_read, to_client = os.pipe()
    from_client, from_client_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        for fd in (to_client, from_client, commands):
            os.close(fd)
        with contextlib.suppress(KeyboardInterrupt):
            pattern_client.serve(
                to_client_read, from_client_write, DmabufClient(display)
            )
        os._exit(0)
    os.close(to_client_read)
    os.close(from_client_write)
    buffered = b""
    while True:
        while b"\n" not in buffered:
            buffered += os.read(commands, 65536)
        line, _, buffered = buffered.partition(b"\n")
        command: dict[str, Any] = json.loads(line)
        if command["op"] == "pid":
            answer = json.dumps({"ok": pid}).encode()
        elif command["op"] == "kill":
            os.kill(pid, command["signal"])
            answer = json.dumps({"ok": None}).encode()
        else:
            answer = ask(to_client, from_client, line)
        answer_through(sink, answer)


def ask(to_client: int, from_client: int, line: bytes) -> bytes:
    """Have the client carry out a command; returns its answer, or that it is dead."""
    try:
        os.write(to_client, line + b"\n")
    except BrokenPipeError:
        return b'{"error": ["died", "before the command"]}'
    answer, deadline = b"", time.monotonic() + PATIENCE
    while b"\n" not in answer:
        left = max(deadline - time.monotonic(), 0)
        if not select.select([from_client], [], [], left)[0]:
            return b'{"error": ["hangs", "no answer from the client"]}'
        data = os.read(from_client, 1 << 20)
        if not data:
            return b'{"error": ["died", "during the command"]}'
        answer += data
    return answer


def main(directory: Path) -> None:
    """Make clients until killed."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    directory.mkdir(parents=True, exist_ok=True)
    commands, sink = make_fifos(directory, "spawner")
    pattern.row(0, 0, 1)  # every client shares the noise
    children: list[int] = []
    with os.fdopen(commands, "rb", buffering=0) as source:
        for line in iter(source.readline, b""):
            command = json.loads(line)
            client, out = make_fifos(directory, command["name"])
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)  # so that both can be killed at once
                watch(client, out, command.get("display"))
            os.close(client)
            children.append(pid)
            answer_through(sink, json.dumps({"ok": pid}).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
