"""The last line of defence: what becomes known of an exception that nobody expected.

No input whatever ends the process.  What a bug does end, one client or a session, is
decided where it is caught (`conductor`, `server`).
"""

import logging
import traceback
from typing import Final

from wlproxy.host.metrics import Metrics
from wlproxy.host.vm_log import VmLog

MISTAKE: Final = "the proxy on the host has made a mistake; its log says more"
"""What a guest is told."""


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
