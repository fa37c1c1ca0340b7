"""Limits on what each client may hold, and on what all of them may hold together.

`protocol.quota` counts, and `client` decides what happens to a client that asks for more.
"""

import os
import resource
from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.channel.frames import MAX_FILE_SIZE
from wlproxy.protocol.channel.lanes.bounds import MAX_ALL_STREAMS, MAX_STREAMS

MIB: Final = 1024 * 1024

FEW_MEMORIES: Final = 16
"""What a client may have of them, however many the others have."""


def half_of_ram() -> int:
    """Return half of the guest's RAM in bytes: it can lose that to pins and still work."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def part_of_fds(divisor: int) -> int:
    """Return a share of the fds that we may have open, but at least a few."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((1 << 20 if soft == resource.RLIM_INFINITY else soft) // divisor, 64)


class QuotaError(Exception):
    """A client holds too much; the message says of what."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Quotas, each far above what a plain app needs.

    Attributes:
        clients: apps at once; the host's own limit counts too.
        memories: fds per client that we keep for the host; of more, those that it has
            not asked about for longest are closed.
        memories_total: the same of all clients.
        streams: open streams per client.
        streams_total: open streams of all clients, those that have gone included.
        locations: pinned ranges per client: each takes an fd or more.
        pinned: pinned bytes per client; 0: three quarters of what all may have.
        pinned_total: pinned bytes of all clients.
        file_bytes: bytes per client of files from the host that no message has used.
    """

    clients: int = 256
    memories: int = field(default_factory=lambda: part_of_fds(8))
    memories_total: int = field(default_factory=lambda: part_of_fds(2))
    streams: int = MAX_STREAMS
    streams_total: int = MAX_ALL_STREAMS
    locations: int = field(default_factory=lambda: part_of_fds(8))
    pinned: int = 0
    pinned_total: int = field(default_factory=half_of_ram)
    file_bytes: int = 2 * MAX_FILE_SIZE

    @property
    def pinned_of_one(self) -> int:
        """Bytes that one client may have pinned."""
        return min(self.pinned or self.pinned_total // 4 * 3, self.pinned_total)
