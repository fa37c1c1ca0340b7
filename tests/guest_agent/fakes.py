"""The agent's surroundings, for its tests: a host, apps, and guest memory."""

import array
import os
import socket
import struct
from collections import deque
from contextlib import ExitStack
from typing import TypeVar

import trio
import trio.testing

from wlproxy.protocol.channel.frames import (
    NONCE_SIZE,
    VERSION_MAJOR,
    VERSION_MINOR,
    ClientOpened,
    Extent,
    Feature,
    Frame,
    Hello,
    HelloAck,
    Ping,
    Pong,
    Side,
)
from wlproxy.protocol.channel.session import Session
from wlproxy.transport.closable import Closing
from wlproxy_guest.locating.page_locator import PinnedRange, check_range

F = TypeVar("F", bound=Frame)
WINDOW = 64 * 1024
PAGE = 4096
PATIENCE = 30
"""Seconds, for what takes milliseconds on a machine at rest."""


def adopt(closing: ExitStack, fd: int) -> int:
    """Have an fd closed when the test ends."""
    closing.callback(os.close, fd)
    return fd


def scatter(fd: int, size: int) -> None:
    """Fill a file of whole pages so that neighbours in it are none in memory."""
    pages = range(0, size, PAGE)
    for offset in [*pages[::2], *pages[1::2]]:
        os.pwrite(fd, b"\x5a" * PAGE, offset)


def hello(
    number: int = 1, *, version: int = VERSION_MAJOR, max_clients: int = 100
) -> Hello:
    return Hello(
        nonce=number.to_bytes(NONCE_SIZE, "big"),
        version=(version, VERSION_MINOR),
        features=Feature.LOCATE_MEMFD
        | Feature.LOCATE_DMABUF
        | Feature.IMPLICIT_LINEAR
        | Feature.READ_MEMORY,
        client_window=WINDOW,
        stream_window=WINDOW,
        max_clients=max_clients,
    )


class FakeHost:
    """The host's end of a wire, by the real codec; frames are asked for by type."""

    def __init__(self, connected: socket.socket) -> None:
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
        self.session = Session(Side.HOST)
        self.frames: deque[Frame] = deque()

    async def start(self, greeting: Hello) -> HelloAck:
        await self.stream.send_all(self.session.start(greeting))
        return await self.expect(HelloAck)

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            await self.stream.send_all(self.session.encode(frame))

    async def expect(self, kind: type[F]) -> F:
        """Take the first frame of a type; the others stay where they are."""
        with trio.fail_after(PATIENCE):
            while True:
                for frame in self.frames:
                    if isinstance(frame, kind):
                        self.frames.remove(frame)
                        return frame
                await self.receive()

    async def receive(self) -> None:
        data = await self.stream.receive_some(65536)
        assert data, "the agent hung up"
        self.session.feed(data)
        while (frame := self.session.next_frame()) is not None:
            self.frames.append(frame)

    async def settle(self) -> list[Frame]:
        """Return what came before the answer to a question asked now."""
        await self.send(Ping(1))
        await self.expect(Pong)
        frames = list(self.frames)
        self.frames.clear()
        return frames

    async def silence(self) -> list[Frame]:
        """Collect what comes until the agent's tasks have nothing more to do."""
        await trio.testing.wait_all_tasks_blocked()
        return await self.settle()


class App(Closing):
    """An app's connection, fds and all."""

    def __init__(self, connected: trio.socket.SocketType) -> None:
        self.socket = connected

    def close(self) -> None:
        self.socket.close()

    async def send(self, data: bytes, *fds: int) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        with trio.fail_after(PATIENCE):
            await self.socket.sendmsg([data], [rights] if fds else [])

    async def receive(self, size: int = 65536) -> tuple[bytes, list[int]]:
        with trio.fail_after(PATIENCE):
            data, ancillary, _, _ = await self.socket.recvmsg(size, 4096)
        fds = array.array("i")
        for _, _, content in ancillary:
            fds.frombytes(content)
        return data, list(fds)


class FilePin:
    def __init__(self, locator: "FileOffsetLocator") -> None:
        self.locator = locator
        locator.pinned += 1

    def close(self) -> None:
        self.locator.pinned -= 1


class FileOffsetLocator:
    """Locates an app's file as if it were the guest's memory."""

    token_gpa = 0x10000

    def __init__(self) -> None:
        self.features = Feature.LOCATE_MEMFD
        self.pinned = 0
        self.scattered = False
        self.tokens: list[bytes] = []

    def find_features(self) -> Feature:
        return self.features

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        check_range(offset, length, os.fstat(fd).st_size)
        first = offset // PAGE * PAGE
        end = -(-(offset + length) // PAGE) * PAGE
        step = 1 if self.scattered and not collapse_above else (end - first) // PAGE
        return PinnedRange(
            tuple(Extent(gpa, step * PAGE) for gpa in range(first, end, step * PAGE)),
            FilePin(self),
            pinned=end - first,
        )

    def place_token(self, token: bytes) -> PinnedRange:
        self.tokens.append(token)
        return PinnedRange((Extent(self.token_gpa, PAGE),), FilePin(self), pinned=PAGE)


async def opened(host: FakeHost) -> int:
    return (await host.expect(ClientOpened)).client_id


async def told(app: App) -> str:
    """What an app is told with `wl_display.error`, and no more, before its end."""
    event, _ = await app.receive()
    assert await app.receive() == (b"", [])
    return parse_error(event)[1]


def parse_error(event: bytes) -> tuple[int, str]:
    """Decode `wl_display.error` into code and message."""
    sender, size_opcode, about, code, length = struct.unpack_from("=IIIII", event)
    assert (sender, about, size_opcode) == (1, 1, len(event) << 16)
    return code, event[20 : 20 + length - 1].decode()
