"""Finds the QEMU process behind a channel, and the RAM of its guest.

What RAM is, and how it is read, is the business of `ram`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wlproxy.host.config import HostConfig
from wlproxy.host.errors import GuestRamError, HostError, NotQemuError
from wlproxy.host.qemu.process import is_vmm, machine_of
from wlproxy.host.qemu.ram import GuestRam, open_guest_ram, peer_pid, told_ram
from wlproxy.host.qemu.tapped import TapClient
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


RamProvider = Callable[[FdStream], GuestRam]
"""Finds the RAM of the guest at the other end of a channel.  Blocks; HostError says why not."""


def qemu_ram(config: HostConfig, stream: FdStream) -> GuestRam:
    """Find the RAM of the QEMU process that made the socket, or that the tap knows.  Blocks.

    Raises:
        HostError: it cannot be had; with the remedy.
    """
    path = tap_path(config)
    if path is not None:
        with TapClient(path) as tap:
            table = tap.receive()
        return told_ram(table)
    if config.qemu_pid is not None:
        return open_guest_ram(config.qemu_pid, config.qmp)
    pid = peer_pid(stream.socket)
    try:
        return open_guest_ram(pid, config.qmp)
    except GuestRamError as exc:
        if is_vmm(pid):
            raise
        raise NotQemuError(
            exc.problem, remedy=exc.remedy, tried=exc.tried, errno=exc.errno
        ) from exc


def tap_path(config: HostConfig) -> Path | None:
    """Say where the tap of this VM's RAM is to be asked; None: there is none."""
    if config.ram_tap is not None:
        return config.ram_tap
    path = config.ram_tap_if_there
    return path if path is not None and path.is_socket() else None


def name_qemu(pid: int) -> Qemu:
    """Name the program that a process was started from."""
    try:
        return Qemu(pid, machine_of(pid).program)
    except HostError:
        return Qemu(pid, "")
