"""A Wayland client without libwayland: raw wire, fds by SCM_RIGHTS.

For tests: it starts fast under emulation, it can break every rule, and it says exactly
what is sent.  It knows no interface; callers name opcodes.  Standard library only,
since it runs in the guest as well.
"""

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

DISPLAY = 1
Handler = Callable[[int, bytes], None]
"""Called with an event's opcode and its arguments, undecoded."""


class WaylandError(Exception):
    """The compositor sent `wl_display.error`: (object id, code, message)."""

    def __init__(self, object_id: int, code: int, message: str) -> None:
        super().__init__(f"object {object_id}, code {code}: {message}")
        self.object_id = object_id
        self.code = code
        self.message = message


class DisconnectedError(Exception):
    """The compositor closed the connection."""


def display_path(display: str | None = None) -> str:
    """Name the socket of a display, as libwayland would."""
    name = display or os.environ.get("WAYLAND_DISPLAY") or "wayland-0"
    return str(Path(os.environ.get("XDG_RUNTIME_DIR", "/"), name))


def encode(object_id: int, opcode: int, signature: str, *args: int | str) -> bytes:
    """Encode one message: `signature` has i, u, s for the arguments that are not fds."""
    body = b""
    for kind, arg in zip(signature, args, strict=True):
        if isinstance(arg, str):
            text = arg.encode() + b"\0"
            body += struct.pack("=I", len(text)) + text + b"\0" * (-len(text) % 4)
        else:
            body += struct.pack("=i" if kind == "i" else "=I", arg)
    return struct.pack("=II", object_id, (len(body) + 8) << 16 | opcode) + body


def string_at(data: bytes, offset: int) -> tuple[str, int]:
    """Decode a string argument: itself, and where the next argument begins."""
    (length,) = struct.unpack_from("=I", data, offset)
    text = data[offset + 4 : offset + 4 + max(length - 1, 0)].decode()
    return text, offset + 4 + (length + 3) // 4 * 4


class Connection:
    """A connection and its registry.

    Attributes:
        globals: interface to (name, version) of the first one advertised.
        all_globals: every (name, interface, version) advertised, in order.
        fds: received and not yet taken, in order; the owner closes them.
    """

    def __init__(self, display: str | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(display_path(display))
        except OSError:
            self.socket.close()
            raise
        self.globals: dict[str, tuple[int, int]] = {}
        self.all_globals: list[tuple[int, str, int]] = []
        self.fds: list[int] = []
        self._handlers: dict[int, Handler | None] = {DISPLAY: self._on_display}
        self._free: list[int] = []
        self._last = DISPLAY
        self._buffer = bytearray()
        self.registry = self.new(self._on_registry)
        self.send(DISPLAY, 1, "u", self.registry)
        self.roundtrip()

    def close(self) -> None:
        """Close the connection and the fds that nobody took."""
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def new(self, handler: Handler | None = None) -> int:
        """Allocate an object id; freed ids first, as libwayland does."""
        if self._free:
            object_id = self._free.pop()
        else:
            self._last += 1
            object_id = self._last
        self._handlers[object_id] = handler
        return object_id

    def in_use(self, object_id: int) -> bool:
        """Whether an id that was allocated is not free again (`wl_display.delete_id`)."""
        return object_id in self._handlers

    def handle(self, object_id: int, handler: Handler) -> None:
        """Have the events of an object handled."""
        self._handlers[object_id] = handler

    def send(
        self,
        object_id: int,
        opcode: int,
        signature: str = "",
        *args: int | str,
        fds: Sequence[int] = (),
    ) -> None:
        """Send one request."""
        self.send_raw(encode(object_id, opcode, signature, *args), fds)

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are, the fds with the first of them."""
        try:
            sent = socket.send_fds(self.socket, [data], list(fds))
            self.socket.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            # What it said before it hung up is worth more than that it did.
            with contextlib.suppress(DisconnectedError, OSError):
                while True:
                    self.dispatch(0)
            raise DisconnectedError(str(error)) from error

    def bind(self, interface: str, version: int, handler: Handler | None = None) -> int:
        """Bind a global at `version`, or at what is offered if that is less."""
        name, offered = self.globals[interface]
        object_id = self.new(handler)
        most = min(version, offered)
        self.send(self.registry, 0, "usuu", name, interface, most, object_id)
        return object_id

    def readable(self, timeout: float) -> bool:
        """Wait until something has come."""
        return bool(select.select([self.socket], [], [], max(timeout, 0))[0])

    def dispatch(self, timeout: float) -> bool:
        """Read once and handle what came; False if nothing did in time.

        Raises:
            DisconnectedError: the connection is closed.
            WaylandError: a protocol error came.
        """
        if not self.readable(timeout):
            return False
        try:
            data, fds, _flags, _address = socket.recv_fds(self.socket, 65536, 28)
        except ConnectionResetError as error:
            raise DisconnectedError(str(error)) from error
        self.fds += fds
        if not data:
            raise DisconnectedError("end of file")
        self._buffer += data
        while len(self._buffer) >= 8:
            object_id, word = struct.unpack_from("=II", self._buffer)
            size = word >> 16
            if len(self._buffer) < size:
                break
            body = bytes(self._buffer[8:size])
            del self._buffer[:size]
            handler = self._handlers.get(object_id)
            if handler is not None:
                handler(word & 0xFFFF, body)
        return True

    def wait(self, condition: Callable[[], object], timeout: float = 30) -> None:
        """Dispatch until `condition` holds.

        Raises:
            TimeoutError: it did not, in time.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or not self.dispatch(left):
                raise TimeoutError("the compositor did not answer")

    def roundtrip(self, timeout: float = 30) -> None:
        """Wait until the compositor has handled everything sent so far."""
        done: list[int] = []
        callback = self.new(lambda _opcode, _data: done.append(1))
        self.send(DISPLAY, 0, "u", callback)
        self.wait(lambda: done, timeout)

    def _on_display(self, opcode: int, data: bytes) -> None:
        if opcode == 0:
            object_id, code = struct.unpack_from("=II", data)
            raise WaylandError(object_id, code, string_at(data, 8)[0])
        (freed,) = struct.unpack("=I", data)
        self._handlers.pop(freed, None)
        self._free.append(freed)

    def _on_registry(self, opcode: int, data: bytes) -> None:
        if opcode == 0:
            (name,) = struct.unpack_from("=I", data)
            interface, offset = string_at(data, 4)
            (version,) = struct.unpack_from("=I", data, offset)
            self.globals.setdefault(interface, (name, version))
            self.all_globals.append((name, interface, version))
