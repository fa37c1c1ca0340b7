"""Waits until the guest's RAM can be found, and hears of it when some is plugged or unplugged."""

from pathlib import Path
from typing import Final

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

PATIENCE: Final = 3.0
"""Seconds for a QEMU that listens to have its RAM, too."""
LOOK_AGAIN: Final = 0.2
"""Seconds between looks for RAM that is not there yet."""
TAP_RETRY: Final = 1.0
"""Seconds between attempts to connect to a tap that has gone."""


async def find_ram(provide: RamProvider, stream: FdStream, log: VmLog) -> GuestRam:
    """Find the guest's RAM, once it is there.

    A QEMU that has just been started makes its sockets first: it has no RAM yet, or has made the
    file and not mapped it.  One that tells of its RAM does so when the guest has booted.

    Args:
        provide: looks for it.
        stream: the channel to the guest.
        log: told if this takes as long as a guest to boot.

    Raises:
        HostError: it cannot be had; with the remedy.
    """
    deadline = trio.current_time() + PATIENCE
    told = False
    while True:
        try:
            return await trio.to_thread.run_sync(provide, stream)
        except GuestRamNotYetError as exc:
            if not told:
                log.info("waiting for the guest's RAM: %s", exc.explanation)
            told = True
        except GuestRamNotSharedError:
            if trio.current_time() >= deadline:
                raise
        await trio.sleep(LOOK_AGAIN)


async def follow_ram(tap: Path, ram: GuestRam, log: VmLog) -> None:
    """Have the map of the RAM as the tap tells it, until cancelled.

    While there is no tap, the RAM is where it was.
    """
    while True:
        try:
            with await trio.to_thread.run_sync(TapClient, tap) as client:
                while True:
                    await trio.lowlevel.wait_readable(client)
                    table = client.receive()
                    if table is None:
                        break
                    _use(ram, table, log)
        except GuestRamError as exc:
            log.info("the guest's RAM is not followed: %s", exc.explanation)
        await trio.sleep(TAP_RETRY)


def _use(ram: GuestRam, table: Table, log: VmLog) -> None:
    before = ram.memory.size
    if table.pid != ram.pid or not table.regions:
        # The VMM has gone, and its channel ends as well; another one's RAM is not proved.
        table.close()
        return
    try:
        ram.update(table)
    except GuestRamError as exc:
        log.warning("the guest's RAM has changed, and cannot be used: %s", exc)
        return
    if ram.memory.size != before:
        log.info("guest RAM: %d MiB now", ram.memory.size >> 20)
