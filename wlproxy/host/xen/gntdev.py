"""/dev/xen/gntdev: makes fds of pages that another domain has granted to ours.

Each fd is fresh, and has the grants of one buffer from its offset 0 on.  Nothing is mapped here:
the pages are mapped when somebody calls mmap(2), and that only once in the life of the fd, all of
them together.  Xen decides then whether the domain has granted them; a reference that it has not
makes mmap(2) fail (EINVAL), not the ioctl.

Whoever holds such a fd may have more mapped by it, of any domain that grants to ours
(`docs/security.md`).
"""

import errno
import fcntl
import mmap
import os
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from wlproxy.host.config import GNTDEV
from wlproxy.host.errors import GrantError
from wlproxy.protocol.channel.extents import GRANT_SIZE
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd

LIMIT_PARAMETER: Final = Path("/sys/module/xen_gntdev/parameters/limit")
DEFAULT_LIMIT: Final = 64 * 1024
"""Pages of a fd; drivers/xen/gntdev.c has it as a module parameter."""
AT_ONCE: Final = 512
"""Pages that the driver finds room for in under a millisecond."""
MAX_LIMIT: Final = 1 << 20
"""Pages of a fd that we would ask for, whatever the driver allows: 4 GiB."""

# include/uapi/xen/gntdev.h
MAP_GRANT_REF: Final = 0x184700
"""_IOC(_IOC_NONE, 'G', 0, sizeof(struct ioctl_gntdev_map_grant_ref))"""
MAP_FIELDS: Final = struct.Struct("=IIQ")
"""struct ioctl_gntdev_map_grant_ref: count, padding, index (out); the references follow."""

FIRST_REF: Final = 8
"""Lower ones are Xen's own (GNTTAB_NR_RESERVED_ENTRIES, xen/interface/grant_table.h)."""
MAX_REF: Final = (1 << 32) - 1

Run = tuple[int, int]
"""Grant references that follow each other: the first, and how many."""

_REMEDY_MISSING: Final = (
    "Is this a domain of Xen's, and the one that the guest grants its pages to? Then, as root:\n"
    "  modprobe xen-gntdev"
)
_REMEDY_PERMISSION: Final = (
    "Let a process of root's open it for this domain alone, and name its socket with "
    "--xen-gntdev:\n"
    "  wlproxy xen-gntdev --domid N --user {user} --socket PATH"
)


class Granted(Protocol):
    """Makes fds of pages that one domain has granted.

    Attributes:
        at_once: pages of a fd that is made in no time; more are for a thread.
    """

    at_once: int

    def open(self, runs: Sequence[Run]) -> OwnedFd:
        """Make a fd of pages, in this order.  Blocks for a moment.

        Raises:
            GrantError: it cannot be made; with the remedy.
        """

    def limit(self) -> int:
        """Say how many pages a fd may have.

        Raises:
            GrantError: no fd can be made at all; with the remedy.
        """


class Gntdev(Granted):
    """The device, opened anew for each fd."""

    __slots__ = ("_domid", "_path", "at_once")

    def __init__(self, domid: int, path: Path = GNTDEV) -> None:
        """Open nothing yet.

        Args:
            domid: whose grants.
            path: of the device.
        """
        self.at_once = AT_ONCE
        self._domid = domid
        self._path = path

    def open(self, runs: Sequence[Run]) -> OwnedFd:
        """See `Granted`."""
        fd = open_device(self._path)
        with closed_on_error(fd):
            map_grants(fd.fileno(), self._domid, runs)
        return fd

    def limit(self) -> int:
        """See `Granted`."""
        open_device(self._path).close()
        return read_limit()


def open_device(path: Path = GNTDEV) -> OwnedFd:
    """Open the device: a fresh fd, without pages.

    Raises:
        GrantError: it is not there, or not for this user; with the remedy.
    """
    try:
        return OwnedFd(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        number = exc.errno or 0
        remedies = {
            errno.ENOENT: _REMEDY_MISSING,
            errno.ENODEV: _REMEDY_MISSING,
            errno.ENXIO: _REMEDY_MISSING,
            errno.EACCES: _REMEDY_PERMISSION.format(user=os.geteuid()),
            errno.EPERM: _REMEDY_PERMISSION.format(user=os.geteuid()),
            errno.EMFILE: "Raise `ulimit -n` (LimitNOFILE= in a systemd unit).",
        }
        raise GrantError(
            f"{path} cannot be opened",
            tried=f"open {path}",
            errno=number,
            remedy=remedies.get(number, ""),
        ) from exc


def map_grants(device: int, domid: int, runs: Sequence[Run]) -> None:
    """Have a fresh fd of the device stand for pages, from offset 0 on.

    Raises:
        GrantError: the driver refuses.
    """
    argument = map_argument(domid, runs)
    with GrantError.explaining(
        "the driver takes no grants", tried="IOCTL_GNTDEV_MAP_GRANT_REF"
    ):
        fcntl.ioctl(device, MAP_GRANT_REF, argument)
    _, _, index = MAP_FIELDS.unpack_from(argument)
    if index:
        raise GrantError(f"a fresh fd of gntdev has its pages at {index:#x}, not at 0")


def map_argument(domid: int, runs: Sequence[Run]) -> bytearray:
    """Make the argument of the ioctl, which takes each reference with its domain.

    Raises:
        GrantError: there are no references, or some that no domain has.
    """
    check_runs(runs)
    words = array("I")
    for first, count in runs:
        pairs = array("I", (domid, 0)) * count
        pairs[1::2] = array("I", range(first, first + count))
        words += pairs
    argument = bytearray(MAP_FIELDS.pack(len(words) // 2, 0, 0))
    argument += memoryview(words).cast("B")
    return argument


def check_runs(runs: Sequence[Run], limit: int = MAX_LIMIT) -> int:
    """Check runs of references; return how many pages they are.

    Raises:
        GrantError: they are none, too many, or no domain has them.
    """
    total = 0
    for first, count in runs:
        if count <= 0 or first < FIRST_REF or first + count - 1 > MAX_REF:
            raise GrantError(
                f"{count} grants from {first} on are none that a domain has",
                errno=errno.EINVAL,
            )
        total += count
    if not 0 < total <= limit:
        raise GrantError(
            f"{total} grants in a fd, and gntdev's limit is {limit}",
            errno=errno.EINVAL,
        )
    return total


def map_pages(fd: OwnedFd, pages: int) -> mmap.mmap:
    """Map all that a fd stands for, read-only: the one time that it can be.

    Raises:
        GrantError: the domain has not granted all of it, or not any more.
    """
    with GrantError.explaining(
        "the guest has not granted these pages to us", tried="mmap of gntdev"
    ):
        length = pages * GRANT_SIZE
        return mmap.mmap(fd.fileno(), length, mmap.MAP_SHARED, mmap.PROT_READ)


def read_limit(path: Path = LIMIT_PARAMETER) -> int:
    """Read how many pages a fd may have, which root may change at any time."""
    try:
        limit = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return DEFAULT_LIMIT
    return min(limit, MAX_LIMIT) if limit > 0 else DEFAULT_LIMIT
