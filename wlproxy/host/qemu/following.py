"""Waits until the guest's RAM can be found, and hears of it when some is plugged or unplugged."""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import trio

from wlproxy.host.errors import (
    GuestRamError,
    GuestRamNotSharedError,
    GuestRamNotYetError,
)
from wlproxy.host.qemu.discovery import RamProvider
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.vhost_user.table import Table
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

PATIENCE: Final = 3.0
"""Seconds for a QEMU that listens to have its RAM, too."""
LOOK_AGAIN: Final = 0.2
"""Seconds between looks for RAM that is not there yet."""
TAP_RETRY: Final = 1.0
"""Seconds between attempts to connect to a tap that has gone."""
LET_GO_AGAIN: Final = 10.0
"""Seconds between looks at whether unplugged RAM that was shown still is."""


class RamUser(Protocol):
    """Who uses the guest's RAM: a session."""

    def ram_shown(self) -> Collection[int]:
        """Which files something is in that is shown, or may be."""

    def ram_changed(self) -> None:
        """Take note that there is another map, and that files may be others."""


async def find_ram(
    provide: RamProvider, stream: FdStream, log: VmLog
) -> GuestRam | None:
    """Find the guest's RAM, once it is there.

    A QEMU that has just been started makes its sockets first: it has no RAM yet, or has made the
    file and not mapped it.  One that tells of its RAM does so when the guest has booted, and whom
    it tells may be away for a moment.

    Args:
        provide: looks for it.
        stream: the channel to the guest.
        log: told what is waited for, once.

    Returns:
        None: QEMU has closed the channel meanwhile.

    Raises:
        HostError: it cannot be had; with the remedy.
    """
    deadline = trio.current_time() + PATIENCE
    told: set[str] = set()
    while not stream.hung_up:
        try:
            return await trio.to_thread.run_sync(provide, stream)
        except GuestRamNotYetError as exc:
            if exc.problem not in told:
                log.info("waiting for the guest's RAM: %s", exc)
            told.add(exc.problem)
        except GuestRamNotSharedError:
            if trio.current_time() >= deadline:
                raise
        await trio.sleep(LOOK_AGAIN)
    log.warning("QEMU has closed the channel before the guest's RAM was found")
    return None


async def follow_ram(
    tap: Path, ram: GuestRam, log: VmLog, user: Callable[[], RamUser | None]
) -> None:
    """Have the map of the RAM as the tap tells it, until cancelled.

    While there is no tap, the RAM is where it was.

    Args:
        tap: where it is asked.
        ram: whose map it is.
        log: told when the tap goes, and when it is back.
        user: who uses the RAM now; None: nobody does.
    """
    away = False
    while True:
        try:
            with await trio.to_thread.run_sync(TapClient, tap) as client:
                while True:
                    table = await _next_table(client, ram, user)
                    if away:
                        log.info("the tap of the guest's RAM is back")
                    away = False
                    await _use(ram, table, log, user())
        except GuestRamError as exc:
            if not away:
                log.warning("plugged RAM will not be noticed until it is back: %s", exc)
            away = True
        await trio.sleep(TAP_RETRY)


async def _next_table(
    client: TapClient, ram: GuestRam, user: Callable[[], RamUser | None]
) -> Table:
    """Wait for a table; meanwhile let go of RAM that was unplugged while it was shown.

    Raises:
        GuestRamError: as `TapClient.receive`.
    """
    while True:
        with trio.move_on_after(LET_GO_AGAIN if ram.unplugged else math.inf):
            await trio.lowlevel.wait_readable(client)
            return client.receive()
        using = user()
        files = ram.drop_unplugged(using.ram_shown() if using else ())
        if files and using:
            using.ram_changed()
        await _close(files)


async def _use(ram: GuestRam, table: Table, log: VmLog, user: RamUser | None) -> None:
    before = ram.memory.size
    if table.pid != ram.pid or not table.regions:
        # The VMM has gone, and its channel ends as well; another one's RAM is not proved.
        await _close(table.files)
        return
    try:
        files = ram.update(table, user.ram_shown() if user else ())
    except GuestRamError as exc:
        log.warning("the guest's RAM has changed, and cannot be used: %s", exc)
        return
    if user:
        user.ram_changed()
    if ram.memory.size != before:
        log.info("guest RAM: %d MiB now", ram.memory.size >> 20)
    await _close(files)


async def _close(files: Sequence[OwnedFd]) -> None:
    """Close files, the last fds of which may take the kernel a second: in a thread."""
    last: list[OwnedFd] = []
    for each in files:
        with suppress(OSError):  # there is no fd left: then it is closed at once
            last.append(each.duplicate())
        # Nobody closes it in a thread while another task holds it.
        each.close()
    if last:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_close_all, last)


def _close_all(files: Sequence[OwnedFd]) -> None:
    for each in files:
        each.close()
