"""The frame by which the host reads a file of the guest's.

It needs the feature READ_MEMORY.  `frames` has all others, and says what letters and numbers mean.
Normative: section 6 of `docs/channel-protocol.md`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """H: makes a stream of a part of a MEMORY, wherever its file's own position is.

    Attributes:
        client_id: whose.
        memory_id: from the attachment; it names nothing after this.
        stream_id: the host's name for the stream, odd.
        offset: first byte.
        length: bytes after which the stream ends, not 0; the file may end before.
    """

    client_id: int
    memory_id: int
    stream_id: int
    offset: int
    length: int
