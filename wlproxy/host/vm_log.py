"""Log lines about one VM, none of which its guest can forge, nor have too many of.

What peers say is quoted in messages all over the proxy; here is the one place where that
is made harmless.  What is worth logging, and how much it matters, is not decided here.
"""

import logging
import time
from typing import Any, Final

LINES_AT_ONCE: Final = 200
"""Lines about clients that may be written in a burst: dozens of apps that start."""

LINES_PER_SECOND: Final = 10
"""After that.  An app can connect, or show a surface, thousands of times a second."""

logger = logging.getLogger("wlproxy")


class VmLog(logging.LoggerAdapter[logging.Logger]):
    """Log lines that begin with the VM's name: `[vm] foot(312): ...`."""

    def __init__(self, vm: str) -> None:
        super().__init__(logger, {"vm": vm})
        self._vm = vm
        self._allowed = float(LINES_AT_ONCE)
        self._counted = time.monotonic()
        self._left_out = 0

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        **kwargs: Any,  # noqa: ANN401 - logging's own signature
    ) -> None:
        """Log a message; every line of it after the first is indented."""
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            first, *more = (plain(line) for line in text.split("\n"))
            text = "\n    ".join((f"[{self._vm}] {first}", *more))
            self.logger.log(level, "%s", text, **kwargs)

    def of_client(self, level: int, msg: str, *args: object) -> None:
        """Log what a client of the guest can bring about as often as it likes."""
        if not self.isEnabledFor(level):
            return
        now = time.monotonic()
        earned = (now - self._counted) * LINES_PER_SECOND
        self._allowed = min(self._allowed + earned, LINES_AT_ONCE)
        self._counted = now
        if self._allowed < 1:
            self._left_out += 1
            return
        self._allowed -= 1
        if self._left_out:
            self.warning("%d lines about clients are left out here", self._left_out)
            self._left_out = 0
        self.log(level, msg, *args)


def plain(text: str) -> str:
    """Make a text harmless for a terminal and a log: one line, nothing unprintable."""
    return "".join(char if char.isprintable() else "?" for char in text)
