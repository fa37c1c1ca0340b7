"""wlproxy's proxy on the agent's own kernel: the real one, but for /dev/udmabuf.

    python -m bench.proxy run ...

In the place of a dma-buf of an app's pages it has the app's own file, which `bench.agent` tells it
of: the same pages, and as a `wl_shm` pool the same to the compositor.  So this is mode A, without
what the udmabuf driver takes when a buffer is shown for the first time.
"""

import os
from collections.abc import Sequence

from bench.note import FIELDS, Note
from wlproxy import cli
from wlproxy.host.desktop import desktop
from wlproxy.host.desktop.udmabuf_device import (
    UdmabufDevice,
    UdmabufItem,
    UdmabufLimits,
)
from wlproxy.host.errors import UdmabufError
from wlproxy.transport.fds import OwnedFd, duplicate


class LentFiles(UdmabufDevice):
    """Stands in for the device."""

    def __init__(self) -> None:
        """Nothing is opened."""

    def limits(self) -> UdmabufLimits:
        """Generous ones."""
        return UdmabufLimits(1 << 16, 1 << 30)

    def create(self, items: Sequence[UdmabufItem | tuple[int, int, int]]) -> OwnedFd:
        """Open the app's file; for the probe, whose memory is no app's, that.

        Raises:
            UdmabufError: it is not one that begins where the buffer does.
        """
        fd, offset, _ = items[0]
        note = Note.decode(os.pread(fd, FIELDS.size, offset))
        if note is None:
            return duplicate(fd)
        if len(items) > 1 or note.offset:
            raise UdmabufError("buffers of the benchmark begin with their files")
        path = f"/proc/{note.pid}/fd/{note.fd}"
        return OwnedFd(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def close(self) -> None:
        """Nothing is open."""


if __name__ == "__main__":
    assert "UdmabufDevice" in vars(desktop)  # else nothing is replaced
    vars(desktop)["UdmabufDevice"] = LentFiles
    cli.main()
