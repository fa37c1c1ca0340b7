"""Asks QEMU's monitor where each piece of RAM is in the guest.

This is a small synchronous client: the proxy asks once, at start, and an asyncio library has
no place under trio.  QEMU gives the two maps only as text for people; that text has been the
same from 6.1 to 10.0.
"""

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wlproxy.host.errors import QmpError
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.peer import peer_credentials

TIMEOUT: Final = 10.0
"""Seconds that QEMU may take over an answer."""
MAX_ANSWER: Final = 16 << 20
"""Bytes of an answer: the map of a machine with hundreds of devices is under 1 MiB."""

_RAM_LINE: Final = re.compile(
    r"\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\): (\S+)(?: @([0-9a-f]{16}))?"
)
_BLOCK_LINE: Final = re.compile(
    r"\s*(\S+)\s+\d+ [KMG]iB" + r"\s+0x([0-9a-f]+)" * 4 + r"\s+r[wo]\s*"
)


@dataclass(frozen=True, slots=True)
class MappedRam:
    """A piece of the guest's address space that is RAM.

    Attributes:
        gpa: guest-physical address of its first byte.
        length: bytes.
        block: name of the RAM block behind it.
        offset: first byte in that block.
    """

    gpa: int
    length: int
    block: str
    offset: int


@dataclass(frozen=True, slots=True)
class RamBlock:
    """A piece of QEMU's own memory.

    Attributes:
        name: as in `MappedRam`.
        hva: where it is in QEMU's address space.
        length: bytes.
    """

    name: str
    hva: int
    length: int


class QmpClient(Closing):
    """A connection to a monitor.  Blocks."""

    def __init__(self, path: Path) -> None:
        """Connect and leave negotiation mode.

        Raises:
            QmpError: nobody listens there, it is busy, or it is not a monitor.
        """
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lines = self._socket.makefile("rb")
        no_answer = QmpError.explaining(
            f"no answer from QEMU's monitor at {path}",
            tried=f"connect {path}",
            remedy="Start QEMU with -qmp unix:PATH,server=on,wait=off. A monitor "
            "serves one connection at a time; libvirt keeps its own busy.",
        )
        with closed_on_error(self), no_answer:
            self._socket.settimeout(TIMEOUT)
            self._socket.connect(str(path))
            self._negotiate()

    @property
    def pid(self) -> int:
        """The process that made the monitor's socket: QEMU's, unless another one gave it to it."""
        return peer_credentials(self._socket).pid

    def execute(self, command: str, **arguments: str) -> object:
        """Run a command and return its answer.

        Raises:
            QmpError: QEMU refuses it, or does not answer.
        """
        request = {"execute": command, "arguments": arguments}
        problem = f"QEMU's monitor at {self._path} broke off"
        with QmpError.explaining(problem, tried=command):
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        return self._answer(command)

    def pass_fd(self, name: str, fd: int) -> None:
        """Give QEMU a duplicate of an fd, which other commands then call `name`.

        Raises:
            QmpError: as `execute`.
        """
        request = {"execute": "getfd", "arguments": {"fdname": name}}
        data = json.dumps(request).encode() + b"\n"
        problem = f"QEMU's monitor at {self._path} broke off"
        with QmpError.explaining(problem, tried="getfd"):
            # The fd comes with the first byte; the rest of so few is never left over.
            socket.send_fds(self._socket, [data], [fd])
        self._answer("getfd")

    def monitor(self, line: str) -> str:
        """Run a command of the monitor for people and return its text.

        Raises:
            QmpError: as `execute`.
        """
        text = self.execute("human-monitor-command", **{"command-line": line})
        if not isinstance(text, str):
            raise QmpError(f"QEMU answers `{line}` with no text")
        return text

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._socket.close()

    def _negotiate(self) -> None:
        greeting = self._receive()
        while "event" in greeting:  # what the last one to ask has not read
            greeting = self._receive()
        if "QMP" not in greeting:
            raise QmpError(f"{self._path} is not a QEMU monitor (QMP)")
        self.execute("qmp_capabilities")

    def _answer(self, command: str) -> object:
        """Wait for a command's answer.

        Raises:
            QmpError: QEMU refuses it, or does not answer.
        """
        problem = f"QEMU's monitor at {self._path} broke off"
        with QmpError.explaining(problem, tried=command):
            answer = self._receive()
            while "event" in answer:
                answer = self._receive()
        if "return" not in answer:
            raise QmpError(f"QEMU refuses {command}: {answer.get('error')}")
        return answer["return"]

    def _receive(self) -> dict[str, object]:
        line = self._lines.readline(MAX_ANSWER)
        if not line.endswith(b"\n"):
            raise QmpError(f"QEMU's monitor at {self._path} broke off")
        try:
            answer = json.loads(line)
        except ValueError as exc:
            raise QmpError(f"{self._path} does not speak JSON: {exc}") from exc
        if not isinstance(answer, dict):
            raise QmpError(f"{self._path} does not speak QMP")
        return answer


def parse_memory_map(text: str) -> list[MappedRam]:
    """Find the RAM in what `info mtree -f` prints.

    Raises:
        QmpError: the address space that the guest's CPUs see is not there.
    """
    for view in text.replace("\r", "").split("FlatView #"):
        if re.search(r'^ AS "memory", ', view, re.MULTILINE):
            return [
                MappedRam(
                    gpa=(first := int(match[1], 16)),
                    length=int(match[2], 16) + 1 - first,
                    block=match[3],
                    offset=int(match[4] or "0", 16),
                )
                for line in view.splitlines()
                if (match := _RAM_LINE.match(line))
            ]
    raise QmpError("QEMU's memory map cannot be read", tried="info mtree -f")


def parse_ram_blocks(text: str) -> list[RamBlock]:
    """Find the blocks in what `info ramblock` prints.

    Raises:
        QmpError: the table is not as QEMU 6.1 and later print it.
    """
    blocks = [
        RamBlock(name=match[1], hva=int(match[5], 16), length=int(match[4], 16))
        for line in text.replace("\r", "").splitlines()
        if (match := _BLOCK_LINE.fullmatch(line))
    ]
    if not blocks:
        raise QmpError("QEMU's RAM blocks cannot be read", tried="info ramblock")
    return blocks
