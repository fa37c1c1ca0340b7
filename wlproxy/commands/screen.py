"""`wlproxy screen`: shows a machine's own screen as a window."""

import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Final

import click
import trio

from wlproxy.commands.configured import ConfiguredCommand, policy_source
from wlproxy.commands.failure import fail
from wlproxy.commands.options import CONNECT, DISPLAY, LOG_LEVEL
from wlproxy.commands.program import has_terminal
from wlproxy.host.desktop.address import compositor_path, connect_compositor
from wlproxy.host.desktop.desktop import APP_ID
from wlproxy.host.desktop.security_context import SecurityContext
from wlproxy.host.errors import HostError, QmpError, SecurityContextError
from wlproxy.host.libvirt.graphics import NotRunningError, open_display
from wlproxy.host.policy_file import PolicySource
from wlproxy.host.policy_keeper import PolicyKeeper
from wlproxy.host.report.vm_log import VmLog, set_up_logging
from wlproxy.host.runtime_dir import check_name, monitor_path, status_path, vm_name
from wlproxy.relay.policy_tree import Policy
from wlproxy.screen.connecting import adopt, connect_by_monitor
from wlproxy.screen.devices import has_touchscreen
from wlproxy.screen.door import Door
from wlproxy.screen.heads import CutOffError, Heads, Options
from wlproxy.screen.line import Line
from wlproxy.screen.report import Scene, answer_policy, report
from wlproxy.screen.sharing import Sharing
from wlproxy.screen.viewer import QemuEndedError
from wlproxy.transport.fds import raise_fd_limit
from wlproxy.transport.notify import notify

LOOK_AGAIN: Final = 1.0
"""Seconds between two looks for a VM that is not there."""
_SIGNALS: Final = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
_GROUPS: Final = "clipboard", "primary"
"""What a policy says that matters here."""
_Qemu = tuple[socket.socket, bool]
"""A socket to its display, and whether the guest can be touched."""


class _Rule:
    """What may be copied and pasted, for as long as this program runs: through the ends of QEMUs, too.

    Attributes:
        keeper: knows the policy.
        sharing: goes by it.
        reloads: SIGHUP has it read again, rather than all end.
    """

    def __init__(self, source: PolicySource, log: VmLog) -> None:
        """Read it.

        Raises:
            HostError: the file cannot be read, or is wrong.
        """
        # There are no apps that could keep anything.
        self.keeper = PolicyKeeper(
            source, self._obey, lambda _name: 0, lambda: 0, log, _GROUPS
        )
        self.sharing = Sharing(self.keeper.policy, time.monotonic)
        self._begun = False
        self.reloads = not has_terminal()
        if self.reloads:  # while there is no QEMU, nothing need follow of it
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def begin(self) -> None:
        """There is a QEMU: since the last one, the file may have come to say something else."""
        if self._begun:
            self.keeper.reload()
        self._begun = True

    def _obey(self, policy: Policy) -> None:
        self.sharing.obey(policy)


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
    help="Which of the machine's screens.  [default: all, in a window each]",
)
@click.option(
    "--touch/--no-touch",
    default=None,
    help="Whether the guest has a touchscreen; else a finger is its pointer.  [default: "
    "what the monitor says; without one, no-touch]",
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
@click.pass_context
def screen(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    /,
    *,
    name: str | None,
    libvirt: str | None,
    connect: str | None,
    qmp: Path | None,
    fd: int | None,
    console: int | None,
    touch: bool | None,
    display: str | None,
    security_context: bool,
    wait: bool,
    log_level: str,
) -> None:
    """Show a machine's own screen as a window: firmware, boot menu, console, desktop.

    It needs no agent in the guest, and no guest at all, but a QEMU that was started for it
    (`wlproxy qemu-args --screen`).  Ctrl+Alt+G gives all keys to the guest, and takes them
    back; Ctrl+Alt+F does so with the window as large as the monitor.

    The VM's policy says what may be copied and pasted, as for its apps.  `wlproxy reload` has it read
    again.  So does SIGHUP, unless this was started from a terminal, which sends it when it is closed.
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
        rule = _Rule(policy_source(ctx, name), log)

        def find() -> _Qemu:
            if fd is not None:
                return adopt(fd), bool(touch)
            if libvirt is not None:
                return open_display(libvirt, connect, os.environ), bool(touch)
            monitor = qmp or monitor_path(os.environ, name)
            touches = has_touchscreen(monitor) if touch is None else touch
            return connect_by_monitor(monitor), touches

        def show(found: _Qemu) -> None:
            qemu, touches = found
            options = Options(console, rule.sharing, touches=touches)
            rule.begin()
            with qemu:
                context = _context(where, name, log) if security_context else None
                # What is there now stays: collections need not look at it.
                gc.freeze()
                trio.run(_show, name, qemu, options, where, context, rule, log)

        again: list[type[HostError]] = [] if fd is not None else [CutOffError]
        if wait:
            again.append(QemuEndedError)
        _show_again(
            lambda: show(_found(find, log) if wait else find()), tuple(again), log
        )
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


def _show_again(
    show: Callable[[], None], again: tuple[type[HostError], ...], log: VmLog
) -> None:
    """Show a screen until the window is closed.

    Args:
        show: does it once.
        again: after what it is shown again, if there is a QEMU.
        log: written to.

    Raises:
        HostError: as `show`, but for `again`.
    """
    while True:
        try:
            show()
        except again as exc:
            log.info("%s", exc.explanation)
        else:
            return


def _found(find: Callable[[], _Qemu], log: VmLog) -> _Qemu:
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
    options: Options,
    where: Path,
    context: SecurityContext | None,
    rule: _Rule,
    log: VmLog,
) -> None:
    """Show the windows until they are closed, or a signal ends it.

    Raises:
        HostError: there is no compositor, or a window cannot go on.
    """
    with context or nullcontext(), Line(qemu) as line:
        socket_path = context.path if context else where
        connect = partial(connect_compositor, socket_path)
        heads = Heads(name, line, connect, Door.start, log, options)
        failure: HostError | None = None
        stopped = False
        with trio.open_signal_receiver(*_SIGNALS) as got:
            async with trio.open_nursery() as nursery:  # noqa: TID251 - ends with the windows

                async def wait_signal() -> None:
                    nonlocal stopped
                    async for number in got:
                        if number == signal.SIGHUP and rule.reloads:
                            rule.keeper.reload()
                            continue
                        stopped = True
                        nursery.cancel_scope.cancel()

                async def wait_ready() -> None:
                    await heads.ready.wait()
                    notify("READY=1")

                scene = Scene(name, where, isolated=context is not None)
                try:
                    place = status_path(os.environ, name)
                except HostError as exc:  # nobody can ask, then
                    log.warning("no status: %s", exc.explanation)
                else:
                    nursery.start_soon(report, place, scene, heads.viewers)
                    nursery.start_soon(answer_policy, place, rule.keeper)
                nursery.start_soon(wait_signal)
                nursery.start_soon(wait_ready)
                try:
                    await heads.run()
                except HostError as exc:
                    failure = exc
                nursery.cancel_scope.cancel()
    # Out here, so that it is in no group of exceptions.  Not if we were told to end at the
    # same time: whoever waits for the next QEMU would wait on.
    if failure is not None and not stopped:
        raise failure
