"""XenStore, as a thread at the other end of a terminal that stands for its device."""

import os
import pty
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path

from wlproxy.transport.xenstore import (
    DIRECTORY,
    ERROR,
    HEADER,
    READ,
    REMOVE,
    WATCH,
    WATCH_EVENT,
)

Answer = Callable[[int, str], tuple[int, bytes]]
OK = b"OK\0"


class XenStore:
    """One process's fd of it; a terminal has but one, so questions share it with watches.

    Attributes:
        values: by path.
        asked: the paths.
        answer: to a question.
    """

    def __init__(self, **consoles: str) -> None:
        self.values = {
            f"device/console/{number.lstrip('n')}/name": name.encode()
            for number, name in consoles.items()
        }
        self.listing = b"".join(
            each.lstrip("n").encode() + b"\0" for each in ("0", *consoles)
        )
        self.asked: list[str] = []
        self.answer: Answer = self.honest
        self._fd, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = Path(os.ttyname(self._slave))
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def honest(self, kind: int, path: str) -> tuple[int, bytes]:
        if kind == DIRECTORY and self.values:
            return kind, self.listing
        if kind == WATCH:
            return kind, OK
        if path in self.values:
            if kind == READ:
                return kind, self.values[path]
            if kind == REMOVE:
                del self.values[path]
                return kind, OK
        return ERROR, b"ENOENT\0"

    def event(self) -> None:
        """Tell who watches that something has changed."""
        self._send(WATCH_EVENT, 0, 0, b"path\0label\0")

    def _serve(self) -> None:
        while self._fd in select.select([self._fd, self._ended], [], [])[0]:
            kind, request, transaction, length = HEADER.unpack(self._read(HEADER.size))
            path = self._read(length).split(b"\0")[0].decode()
            self.asked.append(path)
            answered, payload = self.answer(kind, path)
            self._send(answered, request, transaction, payload)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self._fd, size - len(data))
        return data

    def _send(self, kind: int, request: int, transaction: int, payload: bytes) -> None:
        header = HEADER.pack(kind, request, transaction, len(payload))
        os.write(self._fd, header + payload)

    def close(self) -> None:
        os.close(self._end)
        self._thread.join(10)
        for fd in (self._ended, self._slave, self._fd):
            os.close(fd)
