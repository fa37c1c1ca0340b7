"""/dev/udmabuf: dma-bufs of pages of a memfd.

Each of the driver's rules is checked beforehand, because it answers EINVAL to all of
them: an error says which one it was.  Whose pages they are is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wlproxy.host.fds import OwnedFd

DEFAULT_DEVICE = Path("/dev/udmabuf")


class UdmabufItem(NamedTuple):
    """A run of pages: `fd` of a memfd, `offset` and `length` in bytes, page-aligned."""

    fd: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class UdmabufLimits:
    """The driver's limits per dma-buf: items, and bytes."""

    list_limit: int
    size_limit: int


class UdmabufDevice:
    """The device, opened once."""

    def __init__(self, path: Path = DEFAULT_DEVICE) -> None:
        """Open the device.

        Raises:
            UdmabufMissingError: it is not there.
            UdmabufPermissionError: not for this user.
            UdmabufError: it could not be opened for another reason.
        """
        raise NotImplementedError

    def limits(self) -> UdmabufLimits:
        """Read the driver's limits, which root may change at any time."""
        raise NotImplementedError

    def create(self, items: Sequence[UdmabufItem | tuple[int, int, int]]) -> OwnedFd:
        """Make a dma-buf of the items' pages, in this order.

        Raises:
            UdmabufError: or a subclass, which says what rule was broken.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the device.  The dma-bufs live on."""
        raise NotImplementedError
