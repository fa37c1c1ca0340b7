"""Files on their way from the host to an app, such as keymaps and feedback tables.

Each file becomes a memfd of its own, as it would if a compositor had made one for each
client.  Its size is sealed, so that a mapping never ends early.  Its contents are not: a
seal against writing forbids the shared writable mappings through which old toolkits read
keymaps.  This module does not know which message a file belongs to.
"""

import errno
import fcntl
import os
from typing import Final

from wlproxy.protocol.channel.frames import MAX_FILE_SIZE
from wlproxy.protocol.errors import ChannelError
from wlproxy.protocol.quota import Quota
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.quotas import QuotaError

MAX_FILES: Final = 64
"""Files of one client that are begun and not attached to a message yet."""
SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class PendingFiles:
    """The files of one client that have not reached it yet."""

    __slots__ = ("_files", "_quota")

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes in all."""
        self._quota = Quota(limit)
        self._files: dict[int, tuple[OwnedFd, int]] = {}
        """File id -> (memfd, bytes)."""

    def append(self, file_id: int, data: bytes) -> None:
        """Append to a file, which begins here if there is none of that id.

        Raises:
            QuotaError: too many files, or too many bytes.
            OSError: no memory.
            ChannelError: the file grows over MAX_FILE_SIZE.
        """
        fd, size = self._files.get(file_id, (None, 0))
        if size + len(data) > MAX_FILE_SIZE:
            raise ChannelError(f"file {file_id} is over {MAX_FILE_SIZE} bytes")
        if not self._quota.take(len(data)):
            raise QuotaError(f"over {self._quota.limit} bytes of files that wait")
        if fd is None:
            if len(self._files) >= MAX_FILES:
                raise QuotaError(f"over {MAX_FILES} files that wait")
            fd = begin_file()
        self._files[file_id] = (fd, size + len(data))
        if os.pwrite(fd.fileno(), data, size) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def take(self, file_id: int, size: int) -> OwnedFd:
        """Seal a file of `size` bytes and hand it over.

        Its bytes count until `delivered`.

        Raises:
            OSError: it cannot be sealed, or no memfd can be had.
            ChannelError: what was received of it is not `size` bytes.
        """
        fd, received = self._files.get(file_id, (None, 0))
        if received != size:
            raise ChannelError(f"file {file_id}: {received} of {size} bytes came")
        if fd is None:  # an empty one
            fd = begin_file()
        self._files.pop(file_id, None)
        with closed_on_error(fd):
            fcntl.fcntl(fd.fileno(), fcntl.F_ADD_SEALS, SEALS)
        return fd

    def delivered(self, size: int) -> None:
        """Stop counting a file of `size` bytes: the app has it."""
        self._quota.give_back(size)

    def close(self) -> None:
        """Drop them all; again is harmless."""
        while self._files:
            _, (fd, _) = self._files.popitem()
            fd.close()


def begin_file() -> OwnedFd:
    """Make an empty file that can be sealed."""
    flags = os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC
    return OwnedFd(os.memfd_create("wlproxy-file", flags))
