"""Finds the QEMU process behind a channel, and the RAM of its guest.

What RAM is, and how it is read, is the business of `ram`.
"""

from dataclasses import dataclass
from typing import Protocol

from wlproxy.host.config import HostConfig
from wlproxy.host.errors import GuestRamError, HostError, NotQemuError
from wlproxy.host.qemu.process import is_vmm, machine_of
from wlproxy.host.qemu.ram import GuestRam, open_guest_ram, peer_pid
from wlproxy.transport.fd_stream import FdStream


@dataclass(frozen=True, slots=True)
class Qemu:
    """The process whose RAM is used.

    Attributes:
        pid: its number.
        program: the name it was started by; empty if it has gone.
    """

    pid: int
    program: str


class RamProvider(Protocol):
    """Finds the RAM of the guest at the other end of a channel."""

    def __call__(self, stream: FdStream) -> GuestRam:
        """Find it.  Blocks.

        Raises:
            HostError: it cannot be had; with the remedy.
        """


@dataclass(frozen=True, slots=True)
class QemuRam:
    """The usual provider: RAM of the QEMU process that made the socket."""

    config: HostConfig

    def __call__(self, stream: FdStream) -> GuestRam:
        """As `RamProvider`."""
        pid = self.config.qemu_pid
        if pid is not None:
            return open_guest_ram(pid, self.config.qmp)
        pid = peer_pid(stream.socket)
        try:
            return open_guest_ram(pid, self.config.qmp)
        except GuestRamError as exc:
            if is_vmm(pid):
                raise
            raise NotQemuError(
                exc.problem, remedy=exc.remedy, tried=exc.tried, errno=exc.errno
            ) from exc


def name_qemu(pid: int) -> Qemu:
    """Name the program that a process was started from."""
    try:
        return Qemu(pid, machine_of(pid).program)
    except HostError:
        return Qemu(pid, "")
