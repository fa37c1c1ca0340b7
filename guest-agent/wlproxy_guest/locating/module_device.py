"""What the devices of our kernel modules have in common: how they are opened, and read.

Each module says how its structures look, and which numbers its ioctls have (`gem_locate`,
`gem_grant`).
"""

import errno
import fcntl
import os
import struct
from array import array
from typing import Literal

from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd


def open_device(
    path: str, ioctl: int, layout: struct.Struct, wanted: int
) -> tuple[OwnedFd, int]:
    """Open a device, and ask it for its version.

    Args:
        path: the device's.
        ioctl: the number of the question.
        layout: of the answer: the version, and one more number.
        wanted: the version that it has to have, or a later one.

    Returns:
        The device, and the other number.

    Raises:
        OSError: ENOENT without the module, EACCES without permission; ENOTTY or
            EPROTONOSUPPORT if the device is another, or too old.
    """
    device = OwnedFd(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    with closed_on_error(device):
        request = bytearray(layout.size)
        fcntl.ioctl(device.fileno(), ioctl, request)
        version, other = layout.unpack(request)
        if version < wanted:
            raise OSError(errno.EPROTONOSUPPORT, f"version {version} of the interface")
    return device, other


def read_pairs(
    kept: OwnedFd,
    ioctl: int,
    layout: struct.Struct,
    kind: Literal["I", "Q"],
    count: int,
) -> "array[int]":
    """Read the pairs of numbers that say where memory is: first, second, first, ...

    Args:
        kept: what a module returned when it located or granted the memory.
        ioctl: the number of the question.
        layout: of the question: the address of room for them, their count, reserved.
        kind: of each number, as `array` has it.
        count: how many pairs there are, as the module has said.

    Raises:
        OSError: EPROTO if there are not `count`, after all.
    """
    found = array(kind, [0]) * (2 * count)
    address, _ = found.buffer_info()
    request = bytearray(layout.pack(address, count, 0))
    fcntl.ioctl(kept.fileno(), ioctl, request)
    _, there_are, _ = layout.unpack(request)
    if there_are != count:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    return found
