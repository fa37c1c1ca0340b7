"""The agent of a guest, as QEMU's chardev `qemu-vdagent` talks to it, and a guest that has no more than that.

The machine boots a few bytes, which pass on what comes at one serial port to the other.  At the first is
the chardev, at the second this: it says what spice-vdagent says (spice-protocol, spice/vd_agent.h).
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

PUMP = bytes.fromhex(
    "fa"  # cli
    # ready:
    "ba fd02 ec a820 74f8"  # mov dx, 2fdh; in al, dx; test al, 20h; jz ready
    "ba f802 b052 ee"  # mov dx, 2f8h; mov al, 'R'; out dx, al
    "ba fd02 ec a801 74ea"  # mov dx, 2fdh; in al, dx; test al, 1; jz ready
    "ba f802 ec"  # mov dx, 2f8h; in al, dx
    # first:
    "ba fd03 ec a801"  # mov dx, 3fdh; in al, dx; test al, 1: has something come?
    "74 14"  # jz second
    "ba f803 ec 88c4"  # mov dx, 3f8h; in al, dx; mov ah, al
    "ba fd02 ec a820 74f8"  # mov dx, 2fdh; in al, dx; test al, 20h; jz $-6: until it takes it
    "ba f802 88e0 ee"  # mov dx, 2f8h; mov al, ah; out dx, al
    # second: the same, the other way
    "ba fd02 ec a801"
    "74 dc"  # jz first
    "ba f802 ec 88c4"
    "ba fd03 ec a820 74f8"
    "ba f803 88e0 ee"
    "eb c6"  # jmp first
)
PATIENCE = 30

CHUNK = struct.Struct("<II")
HEADER = struct.Struct("<IIQI")
CLIENT_PORT = PROTOCOL = 1
DATA, CAPABILITIES, GRAB, REQUEST, RELEASE = 4, 6, 7, 8, 9
BY_DEMAND, SELECTIONS, SERIALS = 5, 6, 17
UTF8_TEXT = 1
ANSWER = CHUNK.pack(CLIENT_PORT, 28) + HEADER.pack(PROTOCOL, CAPABILITIES, 0, 8)
"""How QEMU begins to say what it can do."""


class Said(NamedTuple):
    """What QEMU has said: of which clipboard, and what follows that."""

    kind: int
    selection: int
    rest: bytes


def guest_options(directory: Path) -> tuple[str, ...]:
    """Have a machine that is such a guest; its agent is at `directory`/agent."""
    image = directory / "pump.img"
    image.write_bytes(PUMP.ljust(510, b"\0") + b"\x55\xaa" + bytes(1474048))
    return (
        *("-drive", f"if=floppy,format=raw,file={image}"),
        *("-chardev", "qemu-vdagent,id=clipboard,clipboard=on,mouse=off"),
        *("-device", "isa-serial,chardev=clipboard"),
        *("-chardev", f"socket,id=agent,path={directory}/agent,server=on,wait=off"),
        *("-device", "isa-serial,chardev=agent"),
    )


class Agent:
    """The agent.

    Attributes:
        said: what QEMU has said, but for what it can do.
        texts: what it has in its own clipboards, for whoever asks.
        begins: set when it is to say what it can do.
        known: set once QEMU has answered what it can do.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.said: list[Said] = []
        self.texts: dict[int, bytes] = {}
        self.begins, self.known = trio.Event(), trio.Event()
        self._stream = stream
        self._serial = 0

    async def run(self) -> None:
        # The guest says that it is up until it is told something.
        while b"R" not in await self._stream.receive_some(1):
            pass
        await self._stream.send_all(b"G")
        await self.begins.wait()
        await self.announce()
        data = message = b""
        # What QEMU said before is not whole.
        while ANSWER not in data:
            data += await self._stream.receive_some(65536)
        data = data[data.index(ANSWER) :]
        while True:
            while (
                len(data) < CHUNK.size
                or len(data) < CHUNK.size + CHUNK.unpack_from(data)[1]
            ):
                piece = await self._stream.receive_some(65536)
                if not piece:
                    return
                data += piece
            _, size = CHUNK.unpack_from(data)
            message += data[CHUNK.size : CHUNK.size + size]
            data = data[CHUNK.size + size :]
            _, kind, _, length = HEADER.unpack_from(message)
            if len(message) == HEADER.size + length:
                body, message = message[HEADER.size :], b""
                await self._take(kind, body)

    async def announce(self) -> None:
        """Say what it can do, and ask QEMU the same."""
        can = 1 << BY_DEMAND | 1 << SELECTIONS | 1 << SERIALS
        self._serial = 0
        await self._send(CAPABILITIES, struct.pack("<II", 1, can))

    async def copy(self, text: bytes, selection: int = 0) -> None:
        """Have a text in a clipboard, and say so."""
        self.texts[selection] = text
        body = struct.pack("<III", selection, self._serial, UTF8_TEXT)
        self._serial += 1
        await self._send(GRAB, body)

    async def release(self, selection: int = 0) -> None:
        """Have none any more."""
        del self.texts[selection]
        await self._send(RELEASE, struct.pack("<I", selection))

    async def paste(self, selection: int = 0) -> bytes:
        """Ask for the host's text."""
        before = self.pasted(selection)
        await self.ask(selection)
        with trio.fail_after(PATIENCE):
            while len(self.pasted(selection)) == len(before):  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.005)
        return self.pasted(selection)[-1]

    async def ask(self, selection: int = 0) -> None:
        """Ask for the host's text, and do not wait for it."""
        await self._send(REQUEST, struct.pack("<II", selection, UTF8_TEXT))

    def pasted(self, selection: int) -> list[bytes]:
        return [
            each.rest[4:]
            for each in self.said
            if each.kind == DATA and each.selection == selection
        ]

    def heard(self, kind: int) -> list[Said]:
        return [each for each in self.said if each.kind == kind]

    async def _take(self, kind: int, body: bytes) -> None:
        if kind == CAPABILITIES:
            self.known.set()
            return
        said = Said(kind, body[0], body[4:])
        self.said.append(said)
        if kind == GRAB:
            (serial,) = struct.unpack_from("<I", said.rest)
            self._serial = serial + 1
        elif kind == REQUEST:
            text = self.texts.get(said.selection, b"")
            await self._send(DATA, struct.pack("<II", said.selection, UTF8_TEXT) + text)

    async def _send(self, kind: int, body: bytes) -> None:
        message = HEADER.pack(PROTOCOL, kind, 0, len(body)) + body
        for at in range(0, len(message), 2048):
            piece = message[at : at + 2048]
            await self._stream.send_all(CHUNK.pack(CLIENT_PORT, len(piece)) + piece)


@asynccontextmanager
async def agent_of(directory: Path, *, begins: bool = True) -> AsyncIterator[Agent]:
    """The agent of a machine with `guest_options`, once QEMU knows of it if it is to."""
    stream = await trio.open_unix_socket(str(directory / "agent"))
    async with stream, trio.open_nursery() as nursery:
        agent = Agent(stream)
        nursery.start_soon(agent.run)
        if begins:
            agent.begins.set()
            with trio.fail_after(PATIENCE):
                await agent.known.wait()
        yield agent
        nursery.cancel_scope.cancel()
