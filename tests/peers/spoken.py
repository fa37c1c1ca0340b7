"""Writes Wayland's bytes as text, one line for each message, without losing a byte.

For transcripts that people read and tests compare.  A line says all that the bytes say:
`Conversation` encodes what it has decoded again, by pywayland's tables and with nothing of
`wlproxy.protocol`, and fails if that is not what came.  So equal lines mean equal bytes.
"""

import fcntl
import os
import stat
import struct
import zlib
from collections import deque
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pywayland.protocol
from pywayland.protocol.wayland import WlDisplay
from pywayland.protocol_core.argument import (  # type: ignore[attr-defined]
    ArgumentType,
)
from pywayland.protocol_core.interface import Interface

HEADER = 8
TABLE = 1 << 20
"""Bytes of a file up to which its contents are part of what was said."""


def every_interface() -> dict[str, type[Interface]]:
    """Find all that pywayland knows, by their names in the protocol."""
    found: dict[str, type[Interface]] = {}
    for module in iter_modules(pywayland.protocol.__path__, "pywayland.protocol."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Interface):
                found[getattr(value, "name", "")] = value
    return found


INTERFACES = every_interface()


class Conversation:
    """One connection: what the ids in it mean, and what has come in half."""

    def __init__(self) -> None:
        self._interfaces: dict[int, type[Interface]] = {1: WlDisplay}
        self._unread = {"requests": bytearray(), "events": bytearray()}
        self._fds: dict[str, deque[str]] = {"requests": deque(), "events": deque()}

    def hear(self, kind: str, data: bytes, fds: list[str]) -> list[str]:
        """Take what one side says; returns a line for each message that is complete.

        Args:
            kind: "requests" or "events".
            data: any piece of the stream.
            fds: what came with it, described (`describe`).
        """
        unread = self._unread[kind]
        unread += data
        self._fds[kind] += fds
        lines = []
        while len(unread) >= HEADER:
            object_id, word = struct.unpack_from("=II", unread)
            size = word >> 16
            assert size >= HEADER
            if len(unread) < size:
                break
            body = bytes(unread[HEADER:size])
            del unread[:size]
            lines.append(self._line(kind, object_id, word & 0xFFFF, body))
        return lines

    def end(self, kind: str) -> str:
        """Return a line for one side's hanging up, and what it had begun to say."""
        begun = [self._unread.pop(kind).hex(), *self._fds.pop(kind)]
        return f"(hangs up{', leaving ' if any(begun) else ''}{' '.join(begun)})"

    def nothing_in_half(self) -> None:
        """Check that whoever is still there has said all of what it began to say."""
        assert not any(self._unread.values())
        assert not any(self._fds.values())

    def _line(self, kind: str, object_id: int, opcode: int, body: bytes) -> str:
        interface = self._interfaces[object_id]
        message = getattr(interface, kind)[opcode]
        texts: list[str] = []
        again = b""
        for argument in _arguments(message):
            text, encoded = self._argument(argument, kind, body, len(again), texts)
            texts.append(text)
            again += encoded
        assert again == body, f"{interface.name}.{message.name}: {body.hex()}"
        return f"{self._name(object_id)}.{message.name}({', '.join(texts)})"

    def _argument(
        self, argument: Any, kind: str, body: bytes, at: int, before: list[str]
    ) -> tuple[str, bytes]:
        """Decode one argument; returns its text, and the bytes that the text stands for."""
        if argument.argument_type is ArgumentType.FileDescriptor:
            return self._fds[kind].popleft(), b""
        (number,) = struct.unpack_from("=I", body, at)
        encoded = struct.pack("=I", number)
        match argument.argument_type:
            case ArgumentType.Int:
                (signed,) = struct.unpack("=i", encoded)
                return str(signed), encoded
            case ArgumentType.Fixed:
                (signed,) = struct.unpack("=i", encoded)
                return f"{signed / 256!r}", encoded
            case ArgumentType.String:
                text = body[at + 4 : at + 4 + max(number - 1, 0)]
                rest = b"\0" * (-len(text) % 4 or 4) if number else b""
                return repr(text.decode()) if number else "null", encoded + text + rest
            case ArgumentType.Array:
                array = body[at + 4 : at + 4 + number]
                return f"[{array.hex()}]", encoded + array + b"\0" * (-number % 4)
            case ArgumentType.Object:
                return self._name(number) if number else "null", encoded
            case ArgumentType.NewId:
                # By name where a client says which: two interfaces may have the same
                # one, as xdg_surface has, but only if nobody binds them.
                named = argument.interface or INTERFACES[before[-2].strip("'")]
                self._interfaces[number] = named
                return f"new {self._name(number)}", encoded
            case _:
                return str(number), encoded

    def _name(self, object_id: int) -> str:
        return f"{self._interfaces[object_id].name}#{object_id}"


def _arguments(message: Any) -> list[Any]:
    """Return a message's arguments as they are on the wire.

    A new id that may be of any interface has the interface and its version before it.
    """
    found: list[Any] = []
    for argument in message.arguments:
        if argument.argument_type is ArgumentType.NewId and not argument.interface:
            found += [_Plain(ArgumentType.String), _Plain(ArgumentType.Uint)]
        found.append(argument)
    return found


class _Plain:
    """An argument of which no more is known than its type."""

    interface = None

    def __init__(self, argument_type: Any) -> None:
        self.argument_type = argument_type


def describe(fd: int, *, contents: bool) -> str:
    """Say what an fd is, but for what differs each time, such as its number.

    Args:
        fd: any one; stays open.
        contents: a file's count too, up to `TABLE` bytes of it.
    """
    found = os.fstat(fd)
    if stat.S_ISFIFO(found.st_mode):
        return f"<pipe {_access(fd)}>"
    if not stat.S_ISREG(found.st_mode):
        return f"<{os.readlink(f'/proc/self/fd/{fd}')} {_access(fd)}>"
    said = f"{found.st_size} bytes {_access(fd)}"
    if contents and found.st_size <= TABLE:
        said += f", crc32 {zlib.crc32(os.pread(fd, found.st_size, 0)):08x}"
    return f"<file of {said}>"


def _access(fd: int) -> str:
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return {os.O_RDONLY: "to read", os.O_WRONLY: "to write"}.get(mode, "to read, write")
