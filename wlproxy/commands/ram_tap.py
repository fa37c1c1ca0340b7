"""`wlproxy ram-tap`: has the VMM tell where the guest's RAM is."""

import logging
import os
import socket
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import click

from wlproxy.commands.configured import ConfiguredCommand
from wlproxy.commands.failure import fail
from wlproxy.commands.listening import exit_at_signals, listening
from wlproxy.host.errors import HostError
from wlproxy.host.report.unhurried import Unhurried
from wlproxy.host.report.vm_log import VmLog, set_up_logging
from wlproxy.host.runtime_dir import (
    check_place,
    let_in,
    table_path,
    vmm_path,
)
from wlproxy.host.vhost_user.tap import Tap
from wlproxy.transport.fds import raise_fd_limit
from wlproxy.transport.notify import notify

SAID: Final = ("cannot make the tap's socket", "a tap of this name runs already")
"""If either cannot be listened at."""


@click.command("ram-tap", cls=ConfiguredCommand)
@click.option("--name", default="vm", show_default=True, help="Name of the VM.")
@click.option(
    "--socket",
    "vmm",
    type=click.Path(path_type=Path),
    help="Where the VMM connects, in a directory that nobody else can write to.  [default: "
    "wlproxy-NAME.ram in $XDG_RUNTIME_DIR]",
)
@click.option(
    "--group",
    help="Let this group connect there, too: the one that QEMU runs as under libvirt's "
    "qemu:///system.",
)
def ram_tap(*, name: str, vmm: Path | None, group: str | None) -> None:
    """Have the VMM tell where the guest's RAM is, whoever runs it.

    Start it before the VM, which connects to it with a device of its own (`wlproxy qemu-args
    --ram-tap`); it outlives `wlproxy run`, and tells it.
    """
    raise_fd_limit()
    try:
        with ExitStack() as up:
            vmm = vmm or vmm_path(os.environ, name)
            check_place(vmm, group)
            vmms = up.enter_context(listening(vmm, socket.SOCK_STREAM, *SAID))
            if group is not None:
                let_in(vmm, group)
            table = table_path(os.environ, name)
            with HostError.explaining("cannot make a directory", tried=str(table)):
                table.parent.mkdir(mode=0o700, exist_ok=True)
            readers = up.enter_context(listening(table, socket.SOCK_SEQPACKET, *SAID))
            # Never so much that a VMM could fill a disk, and without waiting.
            set_up_logging("info", up.enter_context(Unhurried(sys.stderr.fileno())))
            log = partial(VmLog(name).of_client, logging.INFO, "%s")
            tap = up.enter_context(Tap(vmms, readers, log))
            exit_at_signals()
            notify("READY=1")
            while True:
                tap.step()
    except HostError as exc:
        fail(exc)
