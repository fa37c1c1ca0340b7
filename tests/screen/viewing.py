"""A window of a real machine's screen, without a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from wlproxy.host.desktop.address import connect_compositor
from wlproxy.host.report.vm_log import VmLog
from wlproxy.screen.connecting import connect_by_monitor
from wlproxy.screen.door import Door
from wlproxy.screen.line import Line
from wlproxy.screen.viewer import Viewer


@asynccontextmanager
async def viewing(monitor: Path, compositor: Path) -> AsyncIterator[Viewer]:
    """Show the screen of the QEMU that has this monitor."""
    qemu = await trio.to_thread.run_sync(connect_by_monitor, monitor)
    stream = await connect_compositor(compositor)
    with Line(qemu) as line:
        viewer = Viewer("vm", line, stream, Door.start(), VmLog("vm"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            nursery.start_soon(viewer.run)
            yield viewer
            nursery.cancel_scope.cancel()
