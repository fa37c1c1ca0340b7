"""Logs lines about one VM, which its guest can neither forge nor flood.

Messages all over the proxy quote what peers say; this is the one place where such text is made
harmless.  What is worth logging, and at which level, is decided elsewhere.
"""

import logging
import math
import re
import time
from typing import Any, Final, Protocol

from wlproxy.transport.journal import start_log

LINES_AT_ONCE: Final = 200
"""Lines about clients that may be written in a burst: dozens of apps that start."""

LINES_PER_SECOND: Final = 10
"""After that.  An app can connect, or show a surface, thousands of times a second."""

WARN_AGAIN: Final = 60.0
"""Seconds for which a client's warning is not repeated, but for other numbers in it."""

MAX_WARNED: Final = 256
"""Warnings that are remembered for that."""

FORMAT: Final = "%(asctime)s %(levelname)-7s %(message)s"

logger = logging.getLogger("wlproxy")


class Writable(Protocol):
    """A stream of text that a handler of logging's can use."""

    def write(self, text: str, /) -> object:
        """Write a text, or see to it that it is written."""

    def flush(self) -> object:
        """Have what was written leave."""


def set_up_logging(level: str, stream: Writable | None = None) -> None:
    """Log to stderr from this level on, formatted for a terminal or for the journal.

    Args:
        level: its name.
        stream: writes to stderr, if that is not to be waited for.
    """
    start_log(level, logging.StreamHandler(stream), FORMAT)


class VmLog(logging.LoggerAdapter[logging.Logger]):
    """Log lines that begin with the VM's name: `[vm] foot(312): ...`."""

    def __init__(self, vm: str) -> None:
        super().__init__(logger, {"vm": vm})
        self._vm = vm
        self._allowed = float(LINES_AT_ONCE)
        self._counted = time.monotonic()
        self._left_out = 0
        self._warned: dict[str, float] = {}

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
        """Log something that a guest's client can cause as often as it likes."""
        if not self.isEnabledFor(level):
            return
        now = time.monotonic()
        if level == logging.WARNING and self._warned_of(msg, args, now):
            self._left_out += 1
            return
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

    def _warned_of(self, msg: str, args: tuple[object, ...], now: float) -> bool:
        """Tell whether the same warning, apart from numbers, was logged just now."""
        kind = re.sub(r"\d+", "#", msg % args if args else msg)
        if now - self._warned.get(kind, -math.inf) < WARN_AGAIN:
            return True
        self._warned.pop(kind, None)
        self._warned[kind] = now
        if len(self._warned) > MAX_WARNED:
            del self._warned[next(iter(self._warned))]
        return False


def plain(text: str) -> str:
    """Make a text harmless for a terminal and a log: one line, nothing unprintable."""
    return "".join(char if char.isprintable() else "?" for char in text)
