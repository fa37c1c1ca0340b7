"""Memory of ours for what QEMU sends as bytes: mode C, in which every pixel is copied."""

import fcntl
import itertools
import mmap
import os
from typing import Final

from wlproxy.host.errors import HostError
from wlproxy.screen.commands import Layout, Rectangle
from wlproxy.screen.formats import pixel_size
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import OwnedFd

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Canvas(Closing):
    """A picture in a memfd.

    Attributes:
        layout: how it lies there.
        file: the memfd.
        serial: the same for the same canvas.
    """

    _serials = itertools.count()

    def __init__(self, layout: Layout) -> None:
        """Make it.

        Raises:
            HostError: no memory or no fd is left.
        """
        self.layout = layout
        self.serial = next(self._serials)
        making = HostError.explaining("no memory for the screen", tried="memfd_create")
        with making:
            flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
            self.file = OwnedFd(os.memfd_create("wlproxy-screen", flags))
            with closed_on_error(self.file):
                os.ftruncate(self.file.fileno(), layout.end)
                fcntl.fcntl(self.file.fileno(), fcntl.F_ADD_SEALS, _SEALS)
                self._map = mmap.mmap(self.file.fileno(), layout.end)

    def share(self) -> OwnedFd:
        """Return another fd of the memory, for whoever shows it.

        Raises:
            HostError: no fd is left.
        """
        with HostError.explaining("the screen cannot be shown", tried="dup"):
            return self.file.duplicate()

    def draw(self, pixels: bytes) -> None:
        """Draw all of it; `pixels` lie as the layout says."""
        self._map[:] = pixels[: self.layout.end]

    def update(self, part: Rectangle, stride: int, pixels: bytes) -> None:
        """Draw a part of it.

        Args:
            part: which.
            stride: bytes from one row of `pixels` to the next.
            pixels: those of the part.
        """
        size = pixel_size(self.layout.shm_format)
        row = part.width * size
        target = part.y * self.layout.stride + part.x * size
        for source in range(0, stride * part.height, stride):
            self._map[target : target + row] = pixels[source : source + row]
            target += self.layout.stride

    def close(self) -> None:
        """Let go of the memory.  Again: nothing happens."""
        self._map.close()
        self.file.close()
