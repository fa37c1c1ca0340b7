"""Frames between the lab's programs: a JSON object and a binary blob each.

The byte pipes below (virtio-serial ports) are dumb: bytes of an earlier session can
reach the next reader, and a reader that comes back may be in the middle of a frame.  So
a session begins with `SYNC`, which cannot occur in a frame by chance, and a nonce that
the other end repeats.  What comes before that is thrown away.
"""

import contextlib
import hashlib
import json
import secrets
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Computed, so that the source file itself can be sent in a frame.
SYNC = hashlib.sha256(b"wlproxy lab: a session begins").digest()
HEADER = struct.Struct("<II")
MAX_JSON = 4 << 20
MAX_BLOB = 1 << 30
CHUNK = 1 << 18


class WireError(Exception):
    """The other end sent what no lab program sends, or went away."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: what it says, and bytes that go with it."""

    head: dict[str, Any]
    blob: bytes = field(default=b"", repr=False)


def encode(frame: Frame) -> bytes:
    """Encode one frame."""
    head = json.dumps(frame.head, separators=(",", ":")).encode()
    return HEADER.pack(len(head), len(frame.blob)) + head + frame.blob


class FrameReader:
    """Incremental decoder: `feed` bytes, then drain `next_frame`."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add received bytes; a `SYNC` among them drops all that was before it."""
        # The mark may have begun in what was fed earlier.
        start = max(0, len(self._buffer) - len(SYNC) + 1)
        self._buffer += data
        found = self._buffer.rfind(SYNC, start)
        if found >= 0:
            del self._buffer[: found + len(SYNC)]

    def next_frame(self) -> Frame | None:
        """Take the next complete frame, or `None` if more bytes are needed.

        Raises:
            WireError: this is not a frame.  Everything up to the next `SYNC` is lost.
        """
        if len(self._buffer) < HEADER.size:
            return None
        json_size, blob_size = HEADER.unpack_from(self._buffer)
        if json_size > MAX_JSON or blob_size > MAX_BLOB:
            self._buffer.clear()
            raise WireError(f"frame of {json_size} + {blob_size} bytes")
        middle = HEADER.size + json_size
        end = middle + blob_size
        if len(self._buffer) < end:
            return None
        text = bytes(self._buffer[HEADER.size : middle])
        blob = bytes(self._buffer[middle:end])
        del self._buffer[:end]
        try:
            head = json.loads(text)
        except ValueError as error:
            raise WireError(f"bad JSON in a frame: {error}") from error
        if not isinstance(head, dict):
            raise WireError("a frame's head is not an object")
        return Frame(head, blob)


class Connection:
    """The host's end of a session, over the Unix socket of a QEMU chardev."""

    def __init__(
        self,
        path: Path | str,
        timeout: float = 30,
        hello: dict[str, Any] | None = None,
    ) -> None:
        """Connect and shake hands.

        Args:
            path: the chardev's socket.
            timeout: seconds to wait for an answer.
            hello: what else to say in the greeting.

        Raises:
            WireError: nobody answered within `timeout` seconds.
        """
        self._hello = {**(hello or {}), "op": "hello"}
        self.nonce = secrets.token_hex(8)
        self._reader = FrameReader()
        self._ended = False
        self._path = path
        deadline = time.monotonic() + timeout
        self._socket = self._connect(deadline)
        try:
            self._handshake(deadline)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, deadline: float) -> socket.socket:
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(str(self._path))
            except OSError as error:
                sock.close()
                if time.monotonic() > deadline:
                    raise WireError(f"cannot connect to {self._path}") from error
                time.sleep(0.02)
            else:
                return sock

    def _handshake(self, deadline: float) -> None:
        hello = SYNC + encode(Frame({**self._hello, "nonce": self.nonce}))
        while time.monotonic() < deadline:
            # Again and again: the first one may have been swallowed by a guest that
            # was not there yet or had half a frame of the last session.
            self._socket.sendall(hello)
            again = min(deadline, time.monotonic() + 1)
            while time.monotonic() < again:
                try:
                    frame = self.receive(max(0.01, again - time.monotonic()))
                except TimeoutError:
                    break
                except WireError:
                    if self._ended:
                        raise
                    continue
                if frame.head.get("nonce") == self.nonce:
                    return
        raise WireError(f"nobody answers on {self._path}")

    def send(self, frame: Frame) -> None:
        """Send one frame."""
        self._socket.sendall(encode(frame))

    def receive(self, timeout: float | None = None) -> Frame:
        """Receive one frame.

        Raises:
            TimeoutError: none came in `timeout` seconds.
            WireError: the other end is gone, or talks nonsense.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (frame := self._reader.next_frame()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            if not select.select([self._socket], [], [], left)[0]:
                continue
            data = self._socket.recv(CHUNK)
            if not data:
                self._ended = True
                raise WireError(f"{self._path}: closed by the other end")
            self._reader.feed(data)
        return frame

    def close(self) -> None:
        """End the session, waking a reader in another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
