"""What is this fd?  An app passed it; nothing of what it says may be believed.

The answer is made of what the kernel says about the fd itself, never of its contents.
Ids are not given here, and nothing is located.
"""

import fcntl
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wlproxy.protocol.channel.frames import AttachmentFlags, AttachmentKind
from wlproxy_guest.foreign import known_status

_DMABUF_NAME: Final = re.compile(r"^exp_name:\t", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FdDescription:
    """An attachment that has no id yet."""

    kind: AttachmentKind
    flags: AttachmentFlags = AttachmentFlags.NONE
    size: int = 0


def describe_fd(fd: int) -> FdDescription:
    """Tell memory, streams and all else apart.

    Raises:
        OSError: `fd` is not an open fd.
    """
    status = known_status(fd)
    access = fcntl.fcntl(fd, fcntl.F_GETFL)
    if access & os.O_PATH:
        return FdDescription(AttachmentKind.OTHER)
    access &= os.O_ACCMODE
    if stat.S_ISFIFO(status.mode) or stat.S_ISSOCK(status.mode):
        # A pipe's write end is passed so that the other side writes into it.  A socket
        # is both; whoever passes one where Wayland says "fd" wants to be written to.
        reads = access == os.O_RDONLY
        return FdDescription(
            AttachmentKind.STREAM,
            AttachmentFlags.HOLDER_READS if reads else AttachmentFlags.HOLDER_WRITES,
        )
    # A dma-buf's inode has no file type at all.
    dmabuf = is_dmabuf(fd)
    # What the client itself may not read, the host shall not read either.
    if access == os.O_WRONLY or not (dmabuf or stat.S_ISREG(status.mode)):
        return FdDescription(AttachmentKind.OTHER)
    flags = AttachmentFlags.NONE
    if access == os.O_RDWR:
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
    """How many bytes a dma-buf has; what `lseek` is there for.

    Raises:
        OSError: it is none.
    """
    return os.lseek(fd, 0, os.SEEK_END)
