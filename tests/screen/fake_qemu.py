"""QEMU's end of its display's connections, as a test has it: what it says, and what it hears."""

import os
from dataclasses import dataclass
from typing import Any

from wlproxy.protocol.dbus.connection import Outgoing
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    MessageReader,
    encode_message,
)
from wlproxy.protocol.dbus.values import Value
from wlproxy.screen.commands import FileKind
from wlproxy.screen.display import LISTENER, MAPS

LET_IN = b"OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n"
XRGB = 0x20020888
"""pixman's x8r8g8b8."""


@dataclass
class FakeFile:
    """A file that QEMU may send, without one."""

    kind: FileKind = FileKind.MEMORY
    size: int = 1 << 30
    identity: tuple[int, int] = (1, 1)
    closed: bool = False

    def close(self) -> None:
        self.closed = True


def call(
    interface: str,
    member: str,
    signature: str = "",
    *body: Value,
    serial: int = 1,
    flags: int = 0,
) -> tuple[bytes, list[Any]]:
    """Encode a call of the listener: bytes and fds."""
    fields = Fields(
        "/org/qemu/Display1/Listener", interface, member, signature=signature
    )
    message = Message[Any](MessageKind.METHOD_CALL, fields, body, (), serial, flags)
    data, fds = encode_message(message)
    return data, list(fds)


def scanout_map(
    file: Any,
    width: int = 640,
    height: int = 480,
    stride: int = 2560,
    pixman: int = XRGB,
    offset: int = 0,
) -> tuple[bytes, list[Any]]:
    body = (file, offset, width, height, stride, pixman)
    return call(MAPS, "ScanoutMap", "huuuuu", *body)


def update_map(x: int, y: int, width: int, height: int) -> tuple[bytes, list[Any]]:
    return call(MAPS, "UpdateMap", "iiii", x, y, width, height)


def scanout(
    width: int, height: int, stride: int, pixels: bytes, pixman: int = XRGB
) -> tuple[bytes, list[Any]]:
    return call(LISTENER, "Scanout", "uuuuay", width, height, stride, pixman, pixels)


def update(
    part: tuple[int, int, int, int], stride: int, pixels: bytes, pixman: int = XRGB
) -> tuple[bytes, list[Any]]:
    return call(LISTENER, "Update", "iiiiuuay", *part, stride, pixman, pixels)


def memory(contents: bytes) -> int:
    """Make a memfd as QEMU makes them, with no seal but the one that forbids more."""
    number = os.memfd_create("virtio-gpu res", os.MFD_CLOEXEC)
    os.write(number, contents)
    return number


class Heard:
    """What was sent to QEMU, read."""

    def __init__(self) -> None:
        self._reader = MessageReader[Any]()

    def __call__(self, output: list[Outgoing[Any]] | bytes) -> list[Message[Any]]:
        found = []
        for outgoing in (
            [Outgoing[Any](output)] if isinstance(output, bytes) else output
        ):
            data = outgoing.data
            if data.startswith(b"\0AUTH"):
                data = data.partition(b"BEGIN\r\n")[2]
            self._reader.feed(data, outgoing.fds)
            while (message := self._reader.next_message()) is not None:
                found.append(message)
        return found
