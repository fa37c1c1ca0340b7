"""Hears of it when some of the guest's RAM is plugged or unplugged, and follows that."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from wlproxy.host.errors import GuestRamError
from wlproxy.host.pages import PageUser
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.vhost_user.table import Table
from wlproxy.transport.fds import OwnedFd

TAP_RETRY: Final = 1.0
"""Seconds between attempts to connect to a tap that has gone."""
LET_GO_AGAIN: Final = 10.0
"""Seconds between looks at whether unplugged RAM that was shown still is."""


async def follow_ram(
    tap: Path, ram: GuestRam, log: VmLog, user: Callable[[], PageUser | None]
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
    client: TapClient, ram: GuestRam, user: Callable[[], PageUser | None]
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


async def _use(ram: GuestRam, table: Table, log: VmLog, user: PageUser | None) -> None:
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
