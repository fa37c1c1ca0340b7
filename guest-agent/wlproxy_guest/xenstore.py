"""XenStore, as far as the agent needs it: which console of this domain is the channel.

A domain's toolstack writes there what devices the domain has, and each channel of `xl.cfg` is a
console with a name (`device/console/N/name`).  Messages are those of Xen's xs_wire.h, over the device
that its driver has for them.
"""

import errno
import os
import struct
from pathlib import Path
from typing import Final

from wlproxy.transport.fds import OwnedFd

HYPERVISOR_TYPE: Final = Path("/sys/hypervisor/type")
DEVICE: Final = Path("/dev/xen/xenbus")
CONSOLES: Final = "device/console"
"""Relative to the domain's own directory."""

DIRECTORY: Final = 1
READ: Final = 2
ERROR: Final = 16
"""XS_DIRECTORY, XS_READ, XS_ERROR (xen/interface/io/xs_wire.h)."""
HEADER: Final = struct.Struct("=IIII")
"""struct xsd_sockmsg: type, number of the request, transaction, bytes that follow."""
MAX_PAYLOAD: Final = 4096
"""XENSTORE_PAYLOAD_MAX."""
MAX_CONSOLES: Final = 64
"""That are looked at; hvc_console has 16."""


def in_xen_domain(kind: Path = HYPERVISOR_TYPE) -> bool:
    """Whether this machine is a domain of Xen's."""
    try:
        return kind.read_text(encoding="ascii", errors="replace").strip() == "xen"
    except OSError:
        return False


def find_console(name: str, device: Path = DEVICE) -> int | None:
    """Find the number of the console of that name; None: there is none.  Blocks for a moment.

    Raises:
        OSError: XenStore cannot be asked, by this user or at all.
    """
    with OwnedFd(os.open(device, os.O_RDWR | os.O_CLOEXEC)) as store:
        try:
            found = _ask(store, DIRECTORY, CONSOLES)
        except FileNotFoundError:
            return None
        for number in console_numbers(found):
            try:
                value = _ask(store, READ, f"{CONSOLES}/{number}/name")
            except FileNotFoundError:
                continue
            if value.rstrip(b"\0") == name.encode():
                return number
    return None


def console_numbers(listing: bytes) -> list[int]:
    """Read which consoles there are, but for the first, which is no channel."""
    numbers = {
        int(each)
        for each in listing.decode("ascii", "replace").split("\0")
        if each.isascii() and each.isdecimal() and len(each) < 4
    }
    return sorted(numbers - {0})[:MAX_CONSOLES]


def encode(kind: int, path: str) -> bytes:
    """Write a request about a path."""
    payload = path.encode() + b"\0"
    return HEADER.pack(kind, 0, 0, len(payload)) + payload


def decode_header(header: bytes, kind: int) -> tuple[bool, int]:
    """Read the header of an answer: whether it is an error, and the bytes that follow.

    Raises:
        OSError: EPROTO, if it answers something else, or is too long.
    """
    if len(header) == HEADER.size:
        answered, _, _, length = HEADER.unpack(header)
        if answered in (kind, ERROR) and length <= MAX_PAYLOAD:
            return answered == ERROR, length
    raise OSError(errno.EPROTO, "XenStore answers something else")


def as_error(payload: bytes) -> OSError:
    """Make an error of what XenStore says: the name of an errno."""
    name = payload.rstrip(b"\0").decode("ascii", "replace")
    number = getattr(errno, name, errno.EIO) if name.isidentifier() else errno.EIO
    return OSError(
        number if isinstance(number, int) else errno.EIO, f"XenStore: {name}"
    )


def _ask(store: OwnedFd, kind: int, path: str) -> bytes:
    os.write(store.fileno(), encode(kind, path))
    failed, length = decode_header(_exactly(store, HEADER.size), kind)
    payload = _exactly(store, length)
    if failed:
        raise as_error(payload)
    return payload


def _exactly(store: OwnedFd, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(store.fileno(), size - len(data))
        if not piece:
            raise OSError(errno.EPROTO, "XenStore hung up")
        data += piece
    return data
