"""What the shell tells the core about fds that came from the compositor, as values.

Not here: what came from the guest (`protocol.channel.frames`), and what the core says
in return (`commands`).
"""

from dataclasses import dataclass
from enum import Enum

from wlproxy.relay.commands import Direction
from wlproxy.relay.handles import Handle


class FdKind(Enum):
    """What an fd from the compositor is, as far as the channel cares."""

    FILE = "file"
    """A regular file or a memfd: its contents can be carried."""
    STREAM = "stream"
    """A pipe or a socket: its bytes can be pumped."""
    OTHER = "other"
    """A device, a dma-buf, a file that is too large: cannot be carried."""


@dataclass(frozen=True, slots=True)
class ReceivedFd:
    """An fd that the compositor sent.

    Attributes:
        handle: the shell's name for it.
        kind: what it is.
        size: bytes of a FILE (at most MAX_FILE_SIZE), else 0.
        direction: where the data of a STREAM goes: the compositor sends the write
            end of a pipe to have the guest's app write into it (TO_COMPOSITOR).
            None if it is no STREAM, or one open both ways.
    """

    handle: Handle
    kind: FdKind
    size: int = 0
    direction: Direction | None = None
