"""`wlproxy screen`, and what it has counted: a line of JSON for each SIGUSR1."""

import gc
import json
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import trio

from wlproxy.host.desktop.address import connect_compositor
from wlproxy.screen.connecting import connect_by_monitor
from wlproxy.screen.door import Door
from wlproxy.screen.line import Line
from wlproxy.screen.viewer import Viewer


async def _run(monitor: Path, compositor: Path) -> None:
    line = Line(connect_by_monitor(monitor))
    stream = await connect_compositor(compositor)
    log = logging.LoggerAdapter(logging.getLogger("bench"))
    viewer = Viewer("bench", line, stream, Door.start(), log)
    gc.freeze()  # as the command does

    async def count() -> None:
        with trio.open_signal_receiver(signal.SIGUSR1) as got:
            print("ready", flush=True)
            async for _ in got:
                counts = {**asdict(viewer.counts), "frames": viewer.window.frames}
                print(json.dumps(counts), flush=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run)
        nursery.start_soon(count)
        await viewer.run()


if __name__ == "__main__":
    trio.run(_run, Path(sys.argv[1]), Path(sys.argv[2]))
