"""What the shell tells the core about fds that came from the compositor, as values.

Not here: what came from the guest (`protocol.channel.frames`), and what the core says
in return (`commands`).
"""

from dataclasses import dataclass
from enum import Enum

from wlproxy.relay.commands import Direction
from wlproxy.relay.handles import Handle


class FdKind(Enum):
    """What an fd from the compositor looks like; what it is for, its message says."""

    FILE = "file"
    """A regular file or a memfd: its contents can be carried."""
    STREAM = "stream"
    """A pipe, a socket, a file that is only open for writing."""
    OTHER = "other"
    """A terminal, a device, a dma-buf, a file that is too large."""


@dataclass(frozen=True, slots=True)
class ReceivedFd:
    """An fd that the compositor sent.

    Attributes:
        handle: the shell's name for it.
        kind: what it is.
        size: bytes of a FILE (at most MAX_FILE_SIZE), else 0.
        direction: the only way in which data can go through it: the write end of a
            pipe is for the guest's app to write into (TO_COMPOSITOR).  None if it is
            open both ways.
    """

    handle: Handle
    kind: FdKind
    size: int = 0
    direction: Direction | None = None
