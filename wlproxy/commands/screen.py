"""`wlproxy screen`: shows a machine's own screen as a window."""

import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import trio

from wlproxy.commands.configured import ConfiguredCommand
from wlproxy.commands.failure import fail
from wlproxy.commands.options import CONNECT, DISPLAY, LOG_LEVEL
from wlproxy.host.desktop.address import compositor_path, connect_compositor
from wlproxy.host.desktop.desktop import APP_ID
from wlproxy.host.desktop.security_context import SecurityContext
from wlproxy.host.errors import HostError, QmpError, SecurityContextError
from wlproxy.host.libvirt.finding import vm_name
from wlproxy.host.libvirt.graphics import NotRunningError, open_display
from wlproxy.host.report.vm_log import VmLog, set_up_logging
from wlproxy.host.runtime_dir import check_name, monitor_path
from wlproxy.screen.connecting import adopt, connect_by_monitor
from wlproxy.screen.door import Door
from wlproxy.screen.viewer import QemuEndedError, Viewer
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import raise_fd_limit
from wlproxy.transport.notify import notify

LOOK_AGAIN: Final = 1.0
"""Seconds between two looks for a VM that is not there."""
_SIGNALS: Final = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


@click.command(cls=ConfiguredCommand)
@click.option("--name", help="Name of the VM.  [default: the domain's, or vm]")
@click.option(
    "--libvirt",
    metavar="DOMAIN",
    help="A VM of libvirt's, which has a <graphics type='dbus' p2p='yes'/>.",
)
@CONNECT
@click.option(
    "--qmp",
    type=click.Path(path_type=Path),
    help="QEMU's monitor socket, by which the display is asked for once.  [default: "
    "wlproxy-NAME.qmp in $XDG_RUNTIME_DIR]",
)
@click.option(
    "--fd",
    type=click.IntRange(0),
    help="A socket to QEMU's display that this process was given, instead of a monitor.",
)
@click.option(
    "--console",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which of the machine's screens.",
)
@DISPLAY
@click.option(
    "--security-context/--no-security-context",
    default=True,
    help="Have the compositor apply its own policy for sandboxed clients, too, where "
    "it has one.  [default: security-context]",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for a VM that is not there, or that has ended, instead of ending.",
)
@LOG_LEVEL
def screen(  # noqa: PLR0913 - one parameter per option
    *,
    name: str | None,
    libvirt: str | None,
    connect: str | None,
    qmp: Path | None,
    fd: int | None,
    console: int,
    display: str | None,
    security_context: bool,
    wait: bool,
    log_level: str,
) -> None:
    """Show a machine's own screen as a window: firmware, boot menu, console, desktop.

    It needs no agent in the guest, and no guest at all, but a QEMU that was started for it
    (`wlproxy qemu-args --screen`).  Ctrl+Alt+G gives all keys to the guest, and takes them
    back.
    """
    set_up_logging(log_level)
    raise_fd_limit()
    _check_ways(qmp, fd, libvirt, connect, wait=wait)
    # Ctrl+Z: what QEMU has to say would pile up there, and the VM would wait for answers.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        name = check_name(name or (vm_name(libvirt) if libvirt else "vm"))
        log = VmLog(name)
        where = compositor_path(os.environ, display)

        def find() -> socket.socket:
            if fd is not None:
                return adopt(fd)
            if libvirt is not None:
                return open_display(libvirt, connect, os.environ)
            return connect_by_monitor(qmp or monitor_path(os.environ, name))

        def show(qemu: socket.socket) -> None:
            with qemu:
                context = _context(where, name, log) if security_context else None
                # What is there now stays: collections need not look at it.
                gc.freeze()
                trio.run(_show, name, qemu, console, where, context, log)

        if wait:
            _show_again(lambda: show(_found(find, log)), log)
        else:
            show(find())
    except HostError as exc:
        fail(exc)


def _check_ways(
    qmp: Path | None,
    fd: int | None,
    libvirt: str | None,
    connect: str | None,
    *,
    wait: bool,
) -> None:
    """Check that options that are given go together.

    Raises:
        click.UsageError: they do not.
    """
    if sum(way is not None for way in (qmp, fd, libvirt)) > 1:
        raise click.UsageError("only one of --qmp, --fd and --libvirt")
    if connect is not None and libvirt is None:
        raise click.UsageError("--connect is for --libvirt")
    if wait and fd is not None:
        raise click.UsageError("--wait is not for --fd, which ends with its QEMU")


def _show_again(show: Callable[[], None], log: VmLog) -> None:
    """Show a screen, and that of the next QEMU, until the window is closed.

    Raises:
        HostError: as `show`, but that QEMU has ended.
    """
    while True:
        try:
            show()
        except QemuEndedError as exc:
            log.info("%s", exc.explanation)
        else:
            return


def _found(find: Callable[[], socket.socket], log: VmLog) -> socket.socket:
    """Wait until there is a QEMU.

    Raises:
        HostError: there is one that has no screen for us.
    """
    said = ""
    while True:
        try:
            return find()
        except (NotRunningError, QmpError) as exc:
            if said != exc.explanation:
                said = exc.explanation
                log.info("waiting: %s", said)
        time.sleep(LOOK_AGAIN)


def _context(where: Path, name: str, log: VmLog) -> SecurityContext | None:
    """Have the compositor know whose window this is, if it cares.

    Raises:
        NoCompositorError: nobody listens there.
    """
    try:
        return SecurityContext(where, APP_ID, name)
    except SecurityContextError as exc:
        log.info("no security context: %s", exc.explanation)
        return None


async def _show(
    name: str,
    qemu: socket.socket,
    console: int,
    where: Path,
    context: SecurityContext | None,
    log: VmLog,
) -> None:
    """Show the window until it is closed, or a signal ends it.

    Raises:
        HostError: there is no compositor, or the window cannot go on.
    """
    compositor = await _connect(where, context)
    viewer = Viewer(name, qemu, compositor, Door.start(), log, console)
    failure: HostError | None = None
    with trio.open_signal_receiver(*_SIGNALS) as got:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - ends with the window

            async def wait_signal() -> None:
                async for _ in got:
                    nursery.cancel_scope.cancel()

            async def wait_ready() -> None:
                await viewer.ready.wait()
                notify("READY=1")

            nursery.start_soon(wait_signal)
            nursery.start_soon(wait_ready)
            try:
                log.info("%s", await viewer.run())
            except HostError as exc:
                failure = exc
            nursery.cancel_scope.cancel()
    if failure is not None:  # out here, so that it is in no group of exceptions
        raise failure


async def _connect(where: Path, context: SecurityContext | None) -> FdStream:
    """Connect to the compositor; a context is for this one connection.

    Raises:
        NoCompositorError: nobody listens there.
    """
    if context is None:
        return await connect_compositor(where)
    with context:
        return await connect_compositor(context.path)
