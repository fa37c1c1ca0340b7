"""`wlproxy ram-tap`: has the VMM tell where the guest's RAM is."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import click

from wlproxy.commands.failure import fail
from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import let_in, listen_at, table_path, vmm_path
from wlproxy.host.vhost_user.tap import Tap
from wlproxy.transport.fds import raise_fd_limit
from wlproxy.transport.notify import notify


@click.command("ram-tap")
@click.option("--name", default="vm", show_default=True, help="Name of the VM.")
@click.option(
    "--socket",
    "vmm",
    type=click.Path(path_type=Path),
    help="Where the VMM connects.  [default: wlproxy-NAME.ram in $XDG_RUNTIME_DIR]",
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
            vmms = up.enter_context(_listening(vmm, socket.SOCK_STREAM))
            if group is not None:
                let_in(vmm, group)
            table = table_path(os.environ, name)
            with HostError.explaining("cannot make a directory", tried=str(table)):
                table.parent.mkdir(mode=0o700, exist_ok=True)
            readers = up.enter_context(_listening(table, socket.SOCK_SEQPACKET))
            tap = up.enter_context(Tap(vmms, readers, _log))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, _stop)
            notify("READY=1")
            while True:
                tap.step()
    except HostError as exc:
        fail(exc)


def _stop(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _log(text: str) -> None:
    with suppress(OSError):  # whoever read it may have gone: the VM is not to feel that
        click.echo(text, err=True)


@contextmanager
def _listening(path: Path, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """Listen at a path, which is removed at the end.

    Raises:
        HostError: another tap does, or the socket cannot be made.
    """
    listener = listen_at(
        path, kind, "cannot make the tap's socket", "a tap of this name runs already"
    )
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)
        listener.close()
