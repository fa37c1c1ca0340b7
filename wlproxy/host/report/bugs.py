"""The last line of defence: reports an exception that nobody expected.

No input of any kind ends the process.  A bug may end one client or one session, which is
decided where it is caught (`conductor`, `server`).  In a task that belongs to neither, it ends
only what the task was doing (`keep_running`).
"""

import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog

MISTAKE: Final = "the proxy on the host has made a mistake; its log says more"
"""What a guest is told."""

PAUSE: Final = 1.0
"""Seconds before a task that met a bug begins anew."""


def report_bug(exc: Exception, whose: str, metrics: Metrics, log: VmLog) -> None:
    """Count a bug, and log it with its traceback.

    Args:
        exc: what was raised.
        whose: whom or what it ends.
        metrics: counted into.
        log: written to; the guest can bring this about as often as it likes.
    """
    metrics.bugs += 1
    lines = "".join(traceback.format_exception(exc)).rstrip()
    text = f"a bug of wlproxy ends {whose}; please report it\n{lines}"
    log.of_client(logging.ERROR, "%s", text)


async def keep_running(
    run: Callable[[], Awaitable[None]], what: str, metrics: Metrics, log: VmLog
) -> None:
    """Run a task that lasts as long as the proxy: after a bug it begins anew.

    Args:
        run: what it does.
        what: the little that a bug ends.
        metrics: counted into.
        log: written to.
    """
    while True:
        try:
            await run()
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            report_bug(exc, what, metrics, log)
        else:
            return
        await trio.sleep(PAUSE)
