"""QEMU's end of its display's connections, as a test has it: what it says, and what it hears."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from wlproxy.protocol.dbus.auth import client_half
from wlproxy.protocol.dbus.connection import PROPERTIES, Outgoing
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    MessageReader,
    encode_message,
)
from wlproxy.protocol.dbus.values import Value, Variant
from wlproxy.screen.commands import FileKind
from wlproxy.screen.console import CONSOLE
from wlproxy.screen.display import DMABUF2, MAPS
from wlproxy.screen.doorman import LISTENER
from wlproxy.screen.machine import VM
from wlproxy.screen.qemu_clipboard import CLIPBOARD, TEXT
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

LET_IN = b"OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n"
SERIAL = 1
"""The one that every call has, unless a test says otherwise."""
XRGB = 0x20020888
"""pixman's x8r8g8b8."""
XR24, AR24 = 0x34325258, 0x34325241
"""The same, and with alpha, as DRM calls them."""


@dataclass
class FakeFile:
    """A file that QEMU may send, without one."""

    kind: FileKind = FileKind.MEMORY
    size: int = 1 << 30
    identity: tuple[int, int] = (1, 1)
    closed: bool = False
    holds: int = 0
    mappable: bool = True

    def hold(self) -> None:
        self.holds += 1

    def release(self) -> None:
        self.holds -= 1

    def close(self) -> None:
        self.closed = True


def call(
    interface: str,
    member: str,
    signature: str = "",
    *body: Value,
    serial: int = SERIAL,
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


def scanout_dmabuf(
    file: Any,
    width: int = 640,
    height: int = 480,
    stride: int = 2560,
    fourcc: int = XR24,
    modifier: int = 0,
    *,
    y0_top: bool = False,
) -> tuple[bytes, list[Any]]:
    body = (file, width, height, stride, fourcc, modifier, y0_top)
    return call(LISTENER, "ScanoutDMABUF", "huuuutb", *body)


def scanout_dmabuf2(
    files: list[Any],
    part: tuple[int, int, int, int],
    whole: tuple[int, int],
    offsets: list[int],
    strides: list[int],
    fourcc: int = XR24,
    modifier: int = 0,
    *,
    count: int | None = None,
    y0_top: bool = False,
) -> tuple[bytes, list[Any]]:
    planes = (offsets, strides, len(offsets) if count is None else count)
    body: tuple[Any, ...] = (files, *part, *planes, fourcc, *whole, modifier, y0_top)
    return call(DMABUF2, "ScanoutDMABUF2", "ahuuuuauauuuuutb", *body)


def update_dmabuf(x: int, y: int, width: int, height: int) -> tuple[bytes, list[Any]]:
    return call(LISTENER, "UpdateDMABUF", "iiii", x, y, width, height)


def scanout(
    width: int, height: int, stride: int, pixels: bytes, pixman: int = XRGB
) -> tuple[bytes, list[Any]]:
    return call(LISTENER, "Scanout", "uuuuay", width, height, stride, pixman, pixels)


def update(
    part: tuple[int, int, int, int], stride: int, pixels: bytes, pixman: int = XRGB
) -> tuple[bytes, list[Any]]:
    return call(LISTENER, "Update", "iiiiuuay", *part, stride, pixman, pixels)


def memory(contents: bytes) -> OwnedFd:
    """Make a memfd as QEMU makes them, with no seal but the one that forbids more."""
    file = OwnedFd(os.memfd_create("virtio-gpu res", os.MFD_CLOEXEC))
    os.write(file.fileno(), contents)
    return file


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


class FakeQemu:
    """QEMU's end of the sockets, under trio.

    Attributes:
        calls: what it was called for, but for its properties.
        answers: what its own calls were answered.
        listeners: how often it was asked to call.
        listener: where it calls now.
        absolute: whether its pointer can be put somewhere.
        consoles: how many screens it has.
        kind: what it says that each is.
        head: which of its device's it says that each is.
        pasted: what its guest has copied; None if it does not answer.
        refuses: methods that it answers with an error.
        mute: methods that it does not answer.
        speaks: set unless it is to answer nothing at all.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.main = FdStream(sock)
        self.calls: list[Message[Any]] = []
        self.answers: list[Message[Any]] = []
        self.listeners = 0
        self.listener: FdStream | None = None
        self.listener_gone = False
        self.absolute = True
        self.consoles, self.kind, self.head = 1, "Graphic", 0
        self.refuses: dict[str, str] = {}
        self.mute: tuple[str, ...] = ()
        self.pasted: bytes | None = b""
        self.speaks = trio.Event()
        self.speaks.set()

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                with suppress(trio.BrokenResourceError):  # whoever called has gone
                    await self._serve()
        finally:
            self.close()

    def close(self) -> None:
        self.main.close()
        self.hang_up()

    def hang_up(self) -> None:
        if self.listener is not None:
            self.listener.close()

    async def say(self, *sent: tuple[bytes, list[Any]]) -> None:
        """Call the listener; fds are `OwnedFd`s, which are closed then."""
        assert self.listener is not None
        for data, fds in sent:
            await self.listener.send(data, fds)
            for fd in fds:
                fd.close()

    async def signal(self, interface: str, **properties: Value) -> None:
        path = "/org/qemu/Display1/Console_0"
        fields = Fields(path, PROPERTIES, "PropertiesChanged", signature="sa{sv}as")
        body: tuple[Value, ...] = (interface, properties, [])
        await self.send(Message(MessageKind.SIGNAL, fields, body, (), 1))

    def heard(self, *members: str) -> list[tuple[str, tuple[Any, ...]]]:
        """Which of these methods were called, and with what."""
        return [
            (call.fields.member, call.body)
            for call in self.calls
            if not members or call.fields.member in members
        ]

    async def _serve(self) -> None:
        greeting = b""
        while not greeting.endswith(b"BEGIN\r\n"):
            data, _ = await self.main.receive()
            if not data:
                return
            greeting += data
        await self.speaks.wait()
        await self.main.send(LET_IN)
        reader = MessageReader[Any]()
        while True:
            try:
                data, fds = await self.main.receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            reader.feed(data, fds)
            while (message := reader.next_message()) is not None:
                await self._called(message)

    async def _called(self, call: Message[Any]) -> None:
        member = call.fields.member
        reply: tuple[Value, ...] = ()
        signature = ""
        if member == "GetAll":
            signature, reply = "a{sv}", (self._properties(*call.body),)
        else:
            self.calls.append(call)
        if member in self.mute:
            return
        if member in self.refuses:
            fields = Fields(error_name="a.b", reply_to=call.serial, signature="s")
            body = (self.refuses[member],)
            await self.send(Message(MessageKind.ERROR, fields, body, (), 1))
            for fd in call.fds:
                fd.close()
            return
        if member == "RegisterListener":
            (fd,) = call.fds
            stream = FdStream(socket.socket(fileno=fd.detach()))
            self._nursery.start_soon(self._listened_to, stream)
        if call.fields.interface == CLIPBOARD and member == "Request":
            if self.pasted is None:
                return
            signature, reply = "say", (TEXT, self.pasted)
        if call.wants_reply:
            fields = Fields(reply_to=call.serial, signature=signature)
            await self.send(Message(MessageKind.METHOD_RETURN, fields, reply, (), 1))

    def _properties(self, interface: str) -> dict[str, Value]:
        if interface == VM:
            return {"ConsoleIDs": Variant("au", list(range(self.consoles)))}
        if interface == CONSOLE:
            return {"Type": Variant("s", self.kind), "Head": Variant("u", self.head)}
        return {"IsAbsolute": Variant("b", self.absolute)}

    async def _listened_to(self, stream: FdStream) -> None:
        """Read answers.  The client's half of the beginning is there already."""
        greeting, _ = await stream.receive()
        assert greeting == client_half(os.getuid())
        try:
            await stream.send(LET_IN)
        except trio.BrokenResourceError:  # who wanted to be called has gone
            stream.close()
            return
        self.listeners += 1
        self.listener, self.listener_gone = stream, False
        reader = MessageReader[Any]()
        async with stream:
            with trio.CancelScope() as self.stop_reading:
                await self._read_answers(stream, reader)
            if self.stop_reading.cancelled_caught:
                await trio.sleep_forever()

    async def _read_answers(self, stream: FdStream, reader: MessageReader[Any]) -> None:
        try:
            while (received := await stream.receive())[0]:
                reader.feed(*received)
                while (message := reader.next_message()) is not None:
                    self.answers.append(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.listener_gone = stream is self.listener

    async def send(self, message: Message[Any]) -> None:
        await self.main.send(encode_message(message)[0])
