"""/dev/udmabuf: makes dma-bufs from the pages of a memfd.

The driver answers EINVAL whichever of its rules is broken.  The errors raised here say which
rule it was.  Whose pages they are is not known here.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from wlproxy.host.errors import (
    UdmabufError,
    UdmabufListLimitError,
    UdmabufMissingError,
    UdmabufPermissionError,
    UdmabufRangeError,
    UdmabufSealError,
    UdmabufSizeLimitError,
)
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd

DEFAULT_DEVICE: Final = Path("/dev/udmabuf")
MODULES: Final = ("udmabuf", "udmabuf_compat")
"""Who may be behind the device: the driver that is part of Linux, and the one in
kernel/udmabuf for kernels built without it, which does not load beside the other."""

SYS_MODULES: Final = Path("/sys/module")

DEFAULT_LIST_LIMIT: Final = 1024
DEFAULT_SIZE_LIMIT: Final = 64 << 20
GENEROUS_LIST_LIMIT: Final = 65536
"""What to raise it to: 256 MiB in single pages; the list itself is 1.5 MiB."""
GENEROUS_SIZE_LIMIT: Final = 256 << 20
"""Likewise: an 8K frame of 4 bytes a pixel is 127 MiB."""
PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")

# include/uapi/linux/udmabuf.h, fcntl.h
_CREATE: Final = 0x40187542
"""_IOW('u', 0x42, struct udmabuf_create)"""
_CREATE_LIST: Final = 0x40087543
"""_IOW('u', 0x43, struct udmabuf_create_list)"""
_CLOEXEC: Final = 1
_CREATE_FIELDS: Final = struct.Struct("=IIQQ")
"""struct udmabuf_create: memfd, flags, offset, size."""
_LIST_FIELDS: Final = struct.Struct("=II")
"""struct udmabuf_create_list: flags, count; the items follow."""
_ITEM_FIELDS: Final = struct.Struct("=IIQQ")
"""struct udmabuf_create_item: memfd, padding, offset, size."""
F_SEAL_FUTURE_WRITE: Final = 0x10

_REMEDY_MISSING: Final = (
    "Load the driver, as root:\n"
    "  modprobe udmabuf\n"
    "For a kernel without CONFIG_UDMABUF (Debian 12's), install the one in kernel/udmabuf "
    "of wlproxy's sources, and:\n"
    "  modprobe udmabuf_compat"
)
_REMEDY_PERMISSION: Final = (
    "Let your session use it, as root:\n"
    """  echo 'KERNEL=="udmabuf", GROUP="kvm", MODE="0660", TAG+="uaccess"' \\\n"""
    "    > /etc/udev/rules.d/70-udmabuf.rules\n"
    "  udevadm control --reload && udevadm trigger --name-match=udmabuf"
)


class UdmabufItem(NamedTuple):
    """A run of pages: `fd` of a memfd, `offset` and `length` in bytes, page-aligned."""

    fd: int
    offset: int
    length: int


Items = Sequence[tuple[int, int, int]]
"""Runs of pages, as of `UdmabufItem`."""


@dataclass(frozen=True, slots=True)
class UdmabufLimits:
    """The driver's limits per dma-buf: items, and bytes."""

    list_limit: int
    size_limit: int


def find_parameters() -> Path:
    """Find the parameters of the driver that is loaded, whichever it is.

    Returns:
        Their directory; that of the driver of Linux where there is neither.
    """
    candidates = [SYS_MODULES / name / "parameters" for name in MODULES]
    return next((path for path in candidates if path.is_dir()), candidates[0])


def read_limits() -> UdmabufLimits:
    """Read the driver's limits, which root may change at any time.

    Its defaults, where it does not tell.
    """
    directory = find_parameters()
    megabytes = _parameter(directory / "size_limit_mb", DEFAULT_SIZE_LIMIT >> 20)
    list_limit = _parameter(directory / "list_limit", DEFAULT_LIST_LIMIT)
    return UdmabufLimits(list_limit, megabytes << 20)


class UdmabufDevice(Closing):
    """The device, opened once."""

    def __init__(self, path: Path = DEFAULT_DEVICE) -> None:
        """Open the device.

        Raises:
            UdmabufMissingError: it is not there.
            UdmabufPermissionError: not for this user.
            UdmabufError: it could not be opened for another reason.
        """
        try:
            self._fd = OwnedFd(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as exc:
            raise _open_error(path, exc.errno or 0) from exc

    def limits(self) -> UdmabufLimits:
        """Read the driver's limits, which root may change at any time."""
        return read_limits()

    def create(self, items: Items) -> OwnedFd:
        """Make a dma-buf of the items' pages, in this order.

        Takes time in proportion to the pages: tens of milliseconds for thousands of
        items.

        Raises:
            UdmabufError: or a subclass, which says what rule was broken.
        """
        if not items:
            raise UdmabufRangeError("a udmabuf of no pages was asked for")
        try:
            return OwnedFd(self._ioctl(items))
        except OSError as exc:
            # Checked after the refusal and not before the call: a frame must not pay
            # for it, and what the driver itself checks cannot change in between.
            error = (
                explain_refusal(items, self.limits())
                if exc.errno == errno.EINVAL
                else None
            )
            raise error or _create_error(exc.errno or 0) from exc

    def close(self) -> None:
        """Close the device.  The dma-bufs live on."""
        self._fd.close()

    def _ioctl(self, items: Items) -> int:
        # A mutable buffer: of any other kind, ioctl() takes 1024 bytes at most.
        if len(items) == 1:
            fd, offset, length = items[0]
            request = _CREATE
            argument = bytearray(_CREATE_FIELDS.pack(fd, _CLOEXEC, offset, length))
        else:
            request = _CREATE_LIST
            argument = bytearray(_LIST_FIELDS.pack(_CLOEXEC, len(items)))
            for fd, offset, length in items:
                argument += _ITEM_FIELDS.pack(fd, 0, offset, length)
        number: int = fcntl.ioctl(self._fd.fileno(), request, argument)
        return number


def explain_refusal(items: Items, limits: UdmabufLimits) -> UdmabufError | None:
    """Find the driver's rule that these items break; None if they keep all of them."""
    if len(items) > limits.list_limit:
        return UdmabufListLimitError(
            f"{len(items)} separate runs of pages, and udmabuf's list_limit is "
            f"{limits.list_limit}",
            remedy=limit_remedy(limits, items=len(items)),
        )
    size = sum(length for _, _, length in items)
    if size > limits.size_limit:
        return UdmabufSizeLimitError(
            f"{size} bytes, and udmabuf's size_limit_mb is {limits.size_limit >> 20}",
            remedy=limit_remedy(limits, size=size),
        )
    for fd in {fd for fd, _, _ in items}:
        if error := seal_error(fd):
            return error
    return _range_error(items)


def seal_error(fd: int) -> UdmabufSealError | None:
    """Say what is wrong with the seals of a memfd, or None if udmabuf takes it."""
    try:
        seals: int = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as exc:
        return UdmabufSealError(
            "the memory is not a memfd, and udmabuf takes nothing else",
            tried="F_GET_SEALS",
            errno=exc.errno or 0,
        )
    if not seals & fcntl.F_SEAL_SHRINK:
        return UdmabufSealError("the memfd is not sealed with F_SEAL_SHRINK")
    if seals & (fcntl.F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
        return UdmabufSealError("the memfd is sealed with F_SEAL_WRITE")
    return None


def limit_remedy(limits: UdmabufLimits, items: int = 0, size: int = 0) -> str:
    """Say how to raise the limits, at once and for good.

    Always both, since both stand in one file: what raises one must not lower the other.

    Args:
        limits: those in force; none of them is lowered.
        items: what list_limit has to be at least.
        size: bytes that size_limit_mb has to allow.
    """
    parameters = find_parameters()
    module = parameters.parent.name
    size_limit = max(GENEROUS_SIZE_LIMIT, limits.size_limit, size)
    values = {
        "list_limit": max(GENEROUS_LIST_LIMIT, limits.list_limit, items),
        "size_limit_mb": -(-size_limit >> 20),
    }
    options = " ".join(f"{name}={value}" for name, value in values.items())
    lines = [
        "Raise the limits, as root:",
        *(f"  echo {value} > {parameters}/{name}" for name, value in values.items()),
        f"  echo 'options {module} {options}' > /etc/modprobe.d/{module}.conf",
    ]
    if module == MODULES[0]:
        built_in = " ".join(f"{module}.{name}={values[name]}" for name in values)
        lines.append(
            f"Where it is built into the kernel, instead of the last, add {built_in} to "
            "the kernel's command line."
        )
    return "\n".join(lines)


def _range_error(items: Items) -> UdmabufRangeError | None:
    sizes = {fd: os.fstat(fd).st_size for fd in {fd for fd, _, _ in items}}
    for fd, offset, length in items:
        if not length or (offset | length) % PAGE_SIZE:
            return UdmabufRangeError(
                f"{length} bytes at {offset} are not whole pages of {PAGE_SIZE}"
            )
        if offset + length > sizes[fd]:
            return UdmabufRangeError(
                f"{length} bytes at {offset} are not inside a file of {sizes[fd]}"
            )
    return None


def _open_error(path: Path, code: int) -> UdmabufError:
    tried = f"open {path}"
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return UdmabufMissingError(
            f"there is no {path}", tried=tried, errno=code, remedy=_REMEDY_MISSING
        )
    if code in (errno.EACCES, errno.EPERM):
        return UdmabufPermissionError(
            f"{path} is not for this user",
            tried=tried,
            errno=code,
            remedy=_REMEDY_PERMISSION,
        )
    return UdmabufError(f"{path} cannot be opened", tried=tried, errno=code)


def _create_error(code: int) -> UdmabufError:
    remedies = {
        errno.EMFILE: "Raise `ulimit -n` (LimitNOFILE= in a systemd unit).",
        errno.ENOTTY: "This is not udmabuf's device.",
    }
    return UdmabufError(
        "the driver made no dma-buf",
        tried="UDMABUF_CREATE",
        errno=code,
        remedy=remedies.get(code, ""),
    )


def _parameter(path: Path, default: int) -> int:
    try:
        value = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return default
    return value if value > 0 else default
