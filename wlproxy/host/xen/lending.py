"""Fds of granted pages from another process, so that the proxy need not open gntdev.

A process of root's (`wlproxy xen-gntdev`) serves one domain and one user.  A connection is for one
question:

    u32 count                       how many runs of references follow; 0: only say the limit
    count times: u32 first, u32 n   references that follow each other

and one answer, with the fd if there is one:

    u32 errno                       0: done
    u32 limit                       pages of a fd, at most

Numbers have the machine's byte order.  What the fd itself can be used for, beyond the pages it has, nobody
can limit (`docs/security.md`).
"""

import errno
import socket
import struct
import time
from array import array
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from wlproxy.host.errors import GrantError
from wlproxy.host.xen.gntdev import Granted, Run, check_runs
from wlproxy.transport.fds import OwnedFd, receive_fds
from wlproxy.transport.peer import peer_credentials

COUNT: Final = struct.Struct("=I")
ANSWER: Final = struct.Struct("=II")
SECONDS: Final = 5.0
"""For a question to come, or an answer to be taken: whoever else asks has to wait.  As long a
proxy waits for its answer, in all."""
MAX_RUNS: Final = 1 << 16
"""In one question, which is half a MiB then."""
_REMEDY: Final = (
    "Is it running? As root, for the domain that the VM is now:\n"
    "  wlproxy xen-gntdev --domid N --user USER --socket PATH"
)


class LentGrants(Granted):
    """Asks that process."""

    __slots__ = ("_path", "at_once")

    def __init__(self, path: Path) -> None:
        """Ask nothing yet.

        Args:
            path: of its socket.
        """
        self.at_once = 0  # it may be busy
        self._path = path

    def open(self, runs: Sequence[Run]) -> OwnedFd:
        """See `Granted`."""
        check_runs(runs)
        fd, _ = self._ask(runs)
        if fd is None:
            raise GrantError("the process that opens gntdev sent no fd", remedy=_REMEDY)
        return fd

    def limit(self) -> int:
        """See `Granted`."""
        fd, limit = self._ask(())
        if fd is not None:
            fd.close()
        return limit

    def _ask(self, runs: Sequence[Run]) -> tuple[OwnedFd | None, int]:
        asking = GrantError.explaining(
            "the process that opens gntdev for us does not answer",
            tried=f"{self._path}",
            remedy=_REMEDY,
        )
        deadline = time.monotonic() + SECONDS
        with asking, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_left(deadline))
            connection.connect(str(self._path))
            connection.settimeout(_left(deadline))
            connection.sendall(encode_question(runs))
            connection.settimeout(_left(deadline))
            data, fds, _ = receive_fds(connection, ANSWER.size, 1, socket.MSG_WAITALL)
        with ExitStack() as received:
            for fd in fds:
                received.enter_context(fd)
            limit = decode_answer(data)
            received.pop_all()
        return fds[0] if fds else None, limit


def lend(connection: socket.socket, granted: Granted, users: Collection[int]) -> str:
    """Answer one connection's question; say what was wrong, or nothing.  Blocks for a while.

    Args:
        connection: accepted; stays the caller's.
        granted: makes the fds.
        users: who may ask.
    """
    peer = peer_credentials(connection)
    if peer.uid not in users:
        return f"process {peer.pid} of user {peer.uid} may not ask"
    try:
        runs = _receive(connection)
        connection.settimeout(SECONDS)
        if not runs:
            connection.sendall(ANSWER.pack(0, granted.limit()))
            return ""
        limit = granted.limit()
        check_runs(runs, limit)
        with granted.open(runs) as fd:
            socket.send_fds(connection, [ANSWER.pack(0, limit)], [fd.fileno()])
    except GrantError as exc:
        return _refuse(connection, exc)
    except OSError as exc:  # who asks has gone, or takes too long
        return f"process {peer.pid}: {exc}"
    return ""


def _refuse(connection: socket.socket, why: GrantError) -> str:
    with suppress(OSError):
        connection.sendall(ANSWER.pack(why.errno or errno.EINVAL, 0))
    return why.explanation


def encode_question(runs: Sequence[Run]) -> bytes:
    """Write a question.

    Raises:
        GrantError: there are too many runs for one.
    """
    if len(runs) > MAX_RUNS:
        raise GrantError(f"{len(runs)} runs of grants in a fd, limit {MAX_RUNS}")
    words = array("I", (len(runs),))
    for run in runs:
        words.extend(run)
    return words.tobytes()


def decode_runs(data: bytes) -> list[Run]:
    """Read the runs of a question.

    Raises:
        GrantError: they are not whole.
    """
    if len(data) % 8:
        raise GrantError("half a run of grants", errno=errno.EINVAL)
    words = iter(array("I", data))
    return list(zip(words, words, strict=True))


def decode_answer(data: bytes) -> int:
    """Read an answer: the limit.

    Raises:
        GrantError: it is none, or says that there is no fd.
    """
    if len(data) != ANSWER.size:
        raise GrantError("the process that opens gntdev hung up", remedy=_REMEDY)
    number, limit = ANSWER.unpack(data)
    if number:
        raise GrantError(
            "the process that opens gntdev for us could not make a fd",
            tried="IOCTL_GNTDEV_MAP_GRANT_REF",
            errno=number,
        )
    return int(limit)


def _receive(connection: socket.socket) -> list[Run]:
    """Receive a question.

    Raises:
        GrantError: it is none.
        OSError: it does not come.
    """
    deadline = time.monotonic() + SECONDS
    (count,) = COUNT.unpack(_exactly(connection, COUNT.size, deadline))
    if count > MAX_RUNS:
        raise GrantError(f"{count} runs of grants in a fd", errno=errno.EINVAL)
    return decode_runs(_exactly(connection, 8 * count, deadline))


def _left(deadline: float) -> float:
    """Say how many seconds are left; never 0, with which a socket would not wait at all."""
    return max(deadline - time.monotonic(), 0.001)


def _exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Receive so many bytes.

    Raises:
        GrantError: whoever asks hangs up before.
        OSError: they do not come in time.
    """
    data = bytearray()
    while len(data) < size:
        # A second for each piece, and no more pieces than a question needs.
        connection.settimeout(_left(deadline))
        piece = connection.recv(size - len(data))
        if not piece:
            raise GrantError("who asked has hung up", errno=errno.EINVAL)
        data += piece
    return bytes(data)
