"""Finds out what kind of fd an app has passed, without believing the app.

The kernel's word about the fd decides, never the contents of the file.  What the fd is
meant for is the host's to know.  This module neither assigns ids nor locates memory.
"""

import fcntl
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wlproxy.protocol.channel.frames import AttachmentFlags, AttachmentKind
from wlproxy_guest.hanging_files import FileStatus, known_status

_DMABUF_NAME: Final = re.compile(r"^exp_name:\t", re.MULTILINE)
_WAYS: Final = {
    os.O_RDONLY: AttachmentFlags.HOLDER_READS,
    os.O_WRONLY: AttachmentFlags.HOLDER_WRITES,
    os.O_RDWR: AttachmentFlags.HOLDER_READS | AttachmentFlags.HOLDER_WRITES,
}
"""What whoever is given an fd can do with it, by how it is open."""


@dataclass(frozen=True, slots=True)
class FdDescription:
    """An attachment that has no id yet."""

    kind: AttachmentKind
    flags: AttachmentFlags = AttachmentFlags.NONE
    size: int = 0


def describe_fd(fd: int) -> FdDescription:
    """Tell memory and pipes from everything else.

    Raises:
        OSError: `fd` is not an open fd.
    """
    status = known_status(fd)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_PATH:
        return FdDescription(AttachmentKind.OTHER)
    access = flags & os.O_ACCMODE
    # A dma-buf's inode has no file type at all.
    dmabuf = is_dmabuf(fd)
    # What the client itself may not read, the host shall not read either.
    if access != os.O_WRONLY and (dmabuf or stat.S_ISREG(status.mode)):
        return _describe_memory(fd, status, writable=access == os.O_RDWR, dmabuf=dmabuf)
    ways = _WAYS[access]
    # A pipe's write end is passed so that the other side writes into it.
    if stat.S_ISFIFO(status.mode) and access != os.O_RDWR:
        return FdDescription(AttachmentKind.STREAM, ways)
    return FdDescription(AttachmentKind.OTHER, ways)


def _describe_memory(
    fd: int, status: FileStatus, *, writable: bool, dmabuf: bool
) -> FdDescription:
    flags = AttachmentFlags.NONE
    if writable:
        flags |= AttachmentFlags.MEMORY_WRITABLE
    if dmabuf:
        flags |= AttachmentFlags.MEMORY_DMABUF
    size = dmabuf_size(fd) if dmabuf else status.size
    return FdDescription(AttachmentKind.MEMORY, flags, size)


def is_dmabuf(fd: int) -> bool:
    """Whether an fd is a dma-buf, of whatever exporter.

    Its link alone is no proof: a file may be called `/dmabuf:`, too.
    """
    if not os.readlink(f"/proc/self/fd/{fd}").startswith("/dmabuf"):
        return False
    facts = Path(f"/proc/self/fdinfo/{fd}").read_text(errors="replace")
    return _DMABUF_NAME.search(facts) is not None


def dmabuf_size(fd: int) -> int:
    """Return the size of a dma-buf in bytes, which `lseek` tells.

    Raises:
        OSError: it is none.
    """
    return os.lseek(fd, 0, os.SEEK_END)
