"""What the host could not do: each error says what was tried and the remedy.

Not here: what a peer did wrong (`wlproxy.protocol.errors`).  The command line and the
doctor print these as they are, so the texts are written for the person who can act; they
name processes, files and users of the host.  A guest is told `for_guest` and nothing else.
"""

import errno as errno_names
import os
from collections.abc import Iterator
from contextlib import contextmanager

from wlproxy.protocol.errors import WlproxyError


class HostError(WlproxyError):
    """The host could not: a limit, a permission, a missing device.

    Attributes:
        problem: what is wrong, one sentence.
        remedy: what to do about it; may have several lines, or be empty.
        tried: the system call or file that failed, or "".
        errno: of the failed system call, or 0.
        for_guest: the same for the other side, where it may be told that something is
            wrong and what it can do itself, but nothing about the host.
    """

    for_guest = "the host could not do it; the log of its proxy says why"

    def __init__(
        self,
        problem: str,
        *,
        remedy: str = "",
        tried: str = "",
        errno: int = 0,
        for_guest: str = "",
    ) -> None:
        super().__init__(problem)
        if for_guest:
            self.for_guest = for_guest
        self.problem = problem
        self.remedy = remedy
        self.tried = tried
        self.errno = errno

    @classmethod
    @contextmanager
    def explaining(
        cls, problem: str, *, tried: str, remedy: str = ""
    ) -> Iterator[None]:
        """Raise this in place of an OSError, and with its errno."""
        try:
            yield
        except OSError as exc:
            number = exc.errno or 0
            raise cls(problem, tried=tried, remedy=remedy, errno=number) from exc

    @property
    def explanation(self) -> str:
        """The problem and the system call that showed it, on one line."""
        if self.errno:
            name = errno_names.errorcode.get(self.errno, str(self.errno))
            failure = f"{name}, {os.strerror(self.errno)}"
            return f"{self.problem} ({self.tried or 'system call'}: {failure})"
        return f"{self.problem} ({self.tried})" if self.tried else self.problem

    def __str__(self) -> str:
        return f"{self.explanation}\n{self.remedy}" if self.remedy else self.explanation


class UdmabufError(HostError):
    """A dma-buf of guest pages could not be made."""


class UdmabufMissingError(UdmabufError):
    """There is no /dev/udmabuf."""


class UdmabufPermissionError(UdmabufError):
    """/dev/udmabuf is there, but not for this user."""


class UdmabufListLimitError(UdmabufError):
    """More items than the driver's `list_limit`."""


class UdmabufSizeLimitError(UdmabufError):
    """More bytes than the driver's `size_limit_mb`."""


class UdmabufRangeError(UdmabufError):
    """An item is empty, not whole pages, or outside its file; or there is none."""


class UdmabufSealError(UdmabufError):
    """The memory's seals are not what the driver demands, or it can have none."""


class GuestRamError(HostError):
    """The guest's RAM cannot be had."""

    for_guest = "the host cannot get at this VM's memory; the log of its proxy says why"


class GuestRamUnreadableError(GuestRamError):
    """QEMU's process may not be looked into."""


class NotQemuError(GuestRamError):
    """Whoever made the channel's socket is no QEMU, and has no RAM of a guest."""


class GuestRamNotSharedError(GuestRamError):
    """QEMU has no shared memfd that could be the guest's RAM."""


class GuestRamNotYetError(GuestRamError):
    """The VMM will tell where the RAM is, and has not yet."""


class GuestRamSealError(GuestRamError):
    """The RAM memfd lacks F_SEAL_SHRINK or has F_SEAL_WRITE."""


class GuestRamLayoutError(GuestRamError):
    """How guest-physical addresses map to the RAM files is not known."""


class GuestRamWrongMapError(GuestRamError):
    """The token was not where the map says: the map is not this guest's."""


class GrantError(GuestRamError):
    """Pages that a domain of Xen's grants cannot be had."""


class QmpError(HostError):
    """QEMU's monitor could not be reached or refused a command."""


class NoCompositorError(HostError):
    """The host's Wayland compositor cannot be reached."""

    for_guest = "the host has no compositor at the moment"


class CompositorRefusedError(HostError):
    """The compositor ended one of our own connections, or does not answer on it."""


class SecurityContextError(HostError):
    """The compositor has no wp_security_context_v1, or refused to use it."""

    for_guest = "the host's compositor does not answer"
