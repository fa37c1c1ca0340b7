"""Finds who has QEMU's display: the processes at the other ends of QEMU's sockets that have no name.

A display's connection is a pair of sockets that somebody made and gave QEMU one of; all other sockets of QEMU's were bound
or connected to a path, at one of their ends.  The kernel tells which ends belong together (sock_diag(7)), and
/proc who holds them.  A process of another user's is not seen.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP."""
_DONE, _ERROR = 3, 2
_ANY_STATE: Final = 0xFFFFFFFF
_SHOW_NAME, _SHOW_PEER = 1, 4
_NAME, _PEER = 0, 2
"""Kinds of attributes (linux/unix_diag.h)."""
_HEADER: Final = struct.Struct("=IHHII")
"""`struct nlmsghdr`: length, type, flags, sequence, port."""
_REQUEST: Final = struct.Struct("=BBHIIIII")
"""`struct unix_diag_req`: family, protocol, padding, states, inode, what to show, cookie."""
_MESSAGE: Final = struct.Struct("=BBBBIII")
"""`struct unix_diag_msg`: family, type, state, padding, inode, cookie."""
_ATTRIBUTE: Final = struct.Struct("=HH")
"""`struct nlattr`: length, type."""
_WORD: Final = struct.Struct("=I")
_PIECE: Final = 1 << 16
_SECONDS: Final = 2.0
_SHOWN: Final = 200
"""Letters of a command line."""


class End(NamedTuple):
    """A Unix socket.

    Attributes:
        peer: the inode of that at its other end; 0: it is not connected.
        named: whether it is bound to a path, or was accepted at one.
    """

    peer: int
    named: bool


class Holder(NamedTuple):
    """A process.

    Attributes:
        pid: its number.
        command: how it was started.
    """

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def holders(qemu: int) -> list[Holder]:
    """Find who has a display's connection to a QEMU.

    Args:
        qemu: its process.

    Returns:
        Those that can be seen, without those that another one of them has started (a viewer's doormen).

    Raises:
        OSError: nothing can be found out.
    """
    ends = unix_sockets()
    wanted = {
        ends[inode].peer
        for inode in sockets_of(qemu)
        if inode in ends and unnamed_pair(ends, inode)
    }
    found = [pid for pid in _pids() if pid != qemu and wanted & set(_sockets_seen(pid))]
    return [Holder(pid, _command(pid)) for pid in found if _parent(pid) not in found]


def unnamed_pair(ends: Mapping[int, End], inode: int) -> bool:
    """Whether neither of two ends has a name."""
    end = ends[inode]
    peer = ends.get(end.peer)
    return peer is not None and not (end.named or peer.named)


def unix_sockets() -> dict[int, End]:
    """Ask the kernel for all Unix sockets, by their inodes.

    Raises:
        OSError: it does not tell.
    """
    asked = _REQUEST.pack(
        socket.AF_UNIX, 0, 0, _ANY_STATE, 0, _SHOW_NAME | _SHOW_PEER, 0, 0
    )
    length = _HEADER.size + len(asked)
    header = _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    found: dict[int, End] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as ask:
        ask.settimeout(_SECONDS)
        ask.send(header + asked)
        while True:
            for kind, body in _messages(ask.recv(_PIECE)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    (number,) = struct.unpack_from("=i", body)
                    raise OSError(-number, os.strerror(-number))
                inode = _MESSAGE.unpack_from(body)[4]
                found[inode] = _end(body[_MESSAGE.size :])


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each message of a datagram."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[max(_aligned(length), _HEADER.size) :]


def _end(attributes: bytes) -> End:
    peer, named = 0, False
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        value = attributes[_ATTRIBUTE.size : length]
        if kind == _PEER and len(value) == _WORD.size:
            (peer,) = _WORD.unpack(value)
        named |= kind == _NAME
        attributes = attributes[max(_aligned(length), _ATTRIBUTE.size) :]
    return End(peer, named)


def _aligned(length: int) -> int:
    return length + 3 & ~3


def sockets_of(pid: int) -> set[int]:
    """Find the inodes of a process's sockets.

    Raises:
        OSError: there is no such process, or we may not look.
    """
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            target = os.readlink(link)
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    return found


def _sockets_seen(pid: int) -> set[int]:
    try:
        return sockets_of(pid)
    except OSError:
        return set()


def _pids() -> Iterator[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            yield int(path.name)


def _parent(pid: int) -> int:
    try:
        # After the name, which may have anything in it: state, and the parent.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[1])
    except (OSError, IndexError):
        return 0


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return "which has just ended"
    shown = words.replace(b"\0", b" ").decode(errors="replace")[:_SHOWN]
    return "".join(each if each.isprintable() else "?" for each in shown)
