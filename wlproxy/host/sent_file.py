"""A file on its way to the guest.

How its pieces become frames, and when, is `outgoing`'s.
"""

import os
from dataclasses import dataclass

from wlproxy.transport.fds import OwnedFd


@dataclass(slots=True)
class SentFile:
    """A file on its way to the guest, read as its credit comes.

    Its contents are behind an fd, which this owns, or here.
    """

    file_id: int
    source: OwnedFd | bytes
    size: int
    sent: int = 0

    def read(self, wanted: int) -> bytes:
        """Take that much more of it.

        A file that has become shorter meanwhile is filled up with zeros: the guest was
        promised this size.
        """
        start, self.sent = self.sent, self.sent + wanted
        if isinstance(self.source, bytes):
            return self.source[start : self.sent]
        try:
            contents = os.pread(self.source.fileno(), wanted, start)
        except OSError:  # not open for reading, for one: as good as empty
            contents = b""
        return contents.ljust(wanted, b"\0")

    def close(self) -> None:
        """Give up the fd."""
        if isinstance(self.source, OwnedFd):
            self.source.close()
