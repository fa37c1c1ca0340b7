"""Lets only one proxy use a channel.

QEMU accepts one connection at a time, and leaves whoever connects second without an answer for
ever; so does the agent at a vsock.  So a proxy first locks a file that is named after the
channel.  The kernel drops the lock when the process ends, however that happens.  The next
proxy sweeps up the file.
"""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from wlproxy.host.channel_address import (
    ChannelAddress,
    HybridVsock,
    Listen,
    Vsock,
)
from wlproxy.host.errors import HostError
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import OwnedFd

_PREFIX: Final = "channel-"
_SUFFIX: Final = ".lock"
_MAX_NOTE: Final = 200


class ChannelLock(Closing):
    """Held for as long as the proxy has the channel."""

    def __init__(self, directory: Path, channel: ChannelAddress, name: str) -> None:
        """Take the lock.

        Args:
            directory: this user's own, where all proxies have their locks.
            channel: the one to lock.
            name: of the VM, for whoever is refused.

        Raises:
            HostError: another proxy has it.
        """
        self._path: Path | None = None
        self._file: OwnedFd | None = None
        try:
            path = directory / f"{_PREFIX}{_identity(channel)}{_SUFFIX}"
            _sweep(directory)
            self._file = _lock(path)
        except OSError:
            # No place for it, or the socket is gone already: then it guards nothing.
            return
        if self._file is None:
            raise HostError(
                f"another proxy has this channel: {_note(path)}",
                tried=str(channel),
                remedy="A VM talks to one at a time. Stop the other one, or give each "
                "VM a channel of its own.",
            )
        self._path = path
        os.write(self._file.fileno(), f"{name}, process {os.getpid()}".encode())

    def close(self) -> None:
        """Release the lock.  Again: nothing happens."""
        if self._file is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
        self._path = self._file = None


def _identity(channel: ChannelAddress) -> str:
    """Name a channel, whichever path leads to it.

    Raises:
        OSError: there is no such socket.
    """
    match channel:
        case Listen(path=path):
            return _place(path)
        case HybridVsock(path=path, port=port):
            return f"{_place(path)}-{port}"
        case Vsock(cid=cid, port=port):
            return f"vsock-{cid}-{port}"
        case Path():
            status = channel.stat()
            return f"{status.st_dev:x}-{status.st_ino:x}"


def _place(path: Path) -> str:
    """Name a path, whose socket may not be there yet."""
    place = str(path.parent.resolve() / path.name)
    return f"at-{hashlib.sha256(place.encode()).hexdigest()[:32]}"


def _lock(path: Path) -> OwnedFd | None:
    """Make and lock a file; None if somebody else holds the lock."""
    while True:
        file = OwnedFd(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closed_on_error(file):
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
            ours = os.fstat(file.fileno())
            os.ftruncate(file.fileno(), 0)
            if path.exists() and os.path.samestat(ours, path.stat()):
                return file
        file.close()  # its owner removed it meanwhile: once more


def _sweep(directory: Path) -> None:
    """Remove the files that killed proxies left behind."""
    for path in directory.glob(f"{_PREFIX}*{_SUFFIX}"):
        left = _lock(path)
        if left is not None:
            path.unlink(missing_ok=True)
            left.close()


def _note(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:_MAX_NOTE]
    except OSError:
        return "unknown"
