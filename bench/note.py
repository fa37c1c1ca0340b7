"""Notes in the RAM that say whose file a range of it stands for: from `agent` to `proxy`."""

import struct
from dataclasses import dataclass
from typing import Final, Self

MAGIC: Final = b"wlproxy-"
FIELDS: Final = struct.Struct("=8sIIQ")


@dataclass(frozen=True, slots=True)
class Note:
    """Whose memory a range of the RAM stands for.

    Attributes:
        pid: a process that has its file open.
        fd: as what.
        offset: where in the file the range begins.
    """

    pid: int
    fd: int
    offset: int

    def encode(self) -> bytes:
        """Encode it."""
        return FIELDS.pack(MAGIC, self.pid, self.fd, self.offset)

    @classmethod
    def decode(cls, raw: bytes) -> Self | None:
        """Decode one; None: that is none."""
        magic, pid, fd, offset = FIELDS.unpack(raw)
        return cls(pid, fd, offset) if magic == MAGIC else None
