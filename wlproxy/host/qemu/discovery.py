"""Finds the QEMU process behind a channel, and the RAM of its guest.

What RAM is, and how it is read, is the business of `ram`.
"""

from pathlib import Path

from wlproxy.host.channel_address import HybridVsock, Listen, Vsock
from wlproxy.host.config import HostConfig
from wlproxy.host.errors import (
    GuestRamError,
    GuestRamUnreadableError,
    HostError,
    NotQemuError,
)
from wlproxy.host.pages import Vmm
from wlproxy.host.qemu.process import is_vmm, machine_of
from wlproxy.host.qemu.ram import GuestRam, open_guest_ram, peer_pid, told_ram
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fd_stream import FdStream


def check_ram_is_told(config: HostConfig) -> None:
    """Check that there is a way to the RAM if the channel does not show one.

    Raises:
        GuestRamError: there is none.
    """
    if not isinstance(config.channel, Vsock | HybridVsock):
        return
    if tap_path(config) is None and config.qemu_pid is None:
        raise GuestRamError(
            f"the RAM of a VM is not found by a vsock ({config.channel}), which does not "
            "say whose process it is",
            remedy="Start `wlproxy ram-tap` before, with the name of this VM, or name "
            "QEMU's process with --qemu-pid.",
        )


def qemu_ram(config: HostConfig, stream: FdStream) -> GuestRam:
    """Find the RAM of the QEMU process behind a channel, or that the tap knows.  Blocks.

    Raises:
        NotQemuError: who is at the other end is not QEMU, or not the one it should be.
        HostError: it cannot be had; with the remedy.
    """
    check_ram_is_told(config)
    listening = isinstance(config.channel, Listen)
    path = tap_path(config)
    if path is not None:
        with TapClient(path) as tap:
            table = tap.receive()
        with closed_on_error(table):
            if listening and table.pid:
                _check_caller(stream, table.pid, "the tap has the RAM of")
        return told_ram(table)
    if config.qemu_pid is not None:
        if listening:
            _check_caller(stream, config.qemu_pid, "--qemu-pid says")
        return open_guest_ram(config.qemu_pid, config.qmp)
    pid = _caller(stream) if listening else peer_pid(stream.socket)
    try:
        return open_guest_ram(pid, config.qmp)
    except GuestRamError as exc:
        # Anybody may connect to us: a QEMU that may not be looked into is another user's.
        others = listening and isinstance(exc, GuestRamUnreadableError)
        if is_vmm(pid) and not others:
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


def _caller(stream: FdStream) -> int:
    """Ask who has connected to us.

    Raises:
        NotQemuError: somebody in another pid namespace.
    """
    try:
        return peer_pid(stream.socket)
    except GuestRamUnreadableError as exc:
        raise NotQemuError(exc.problem, remedy=exc.remedy, tried=exc.tried) from exc


def _check_caller(stream: FdStream, expected: int, why: str) -> None:
    """Check that it is the VM's process that has connected to us.

    Raises:
        NotQemuError: it is another.
    """
    pid = _caller(stream)
    if pid != expected:
        raise NotQemuError(
            f"process {pid} ({name_vmm(pid).program or 'gone'}) has connected, and {why} "
            f"process {expected}"
        )


def name_vmm(pid: int) -> Vmm:
    """Name the program that a process was started from."""
    try:
        return Vmm(pid, machine_of(pid).program)
    except HostError:
        return Vmm(pid, "")
