"""`wlproxy ram-tap` in a process of its own, as a user starts it."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

SECONDS = 30
"""For all that is waited for here."""


class RamTap:
    """The command, as it runs."""

    def __init__(self, environ: Mapping[str, str], *options: str) -> None:
        words = [sys.executable, "-m", "wlproxy", "ram-tap", "--name", "work", *options]
        runtime = Path(environ["XDG_RUNTIME_DIR"])
        self.table = runtime / "wlproxy" / "work.ram"
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind(f"{runtime}/notify")
        ready.settimeout(SECONDS)
        self.process = subprocess.Popen(
            words,
            env={**environ, "NOTIFY_SOCKET": f"{runtime}/notify"},
            stderr=subprocess.PIPE,
        )
        assert ready.recv(100) == b"READY=1"
        ready.close()
        (runtime / "notify").unlink()
        self._unread = ""

    def wait_said(self, words: str) -> str:
        """Read its log up to a line with these words, and return that line."""
        assert self.process.stderr is not None
        stderr = self.process.stderr.fileno()
        deadline = time.monotonic() + SECONDS
        said = ""
        while True:
            line, newline, self._unread = self._unread.partition("\n")
            if newline:
                said += line + newline
                if words in line:
                    return line
                continue
            self._unread = line
            left = max(deadline - time.monotonic(), 0)
            more = select.select([stderr], [], [], left)[0]
            if not (more and (data := os.read(stderr, 4096))):
                pytest.fail(f"it never said {words!r}, but:\n{said}{self._unread}")
            self._unread += data.decode()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """Stop it, and wait until it is."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        self.send(signal.SIGCONT)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.send(number)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait(SECONDS)

    def end_anyhow(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
