"""The agent's log: lines on stderr, and a limit on each kind of them.

Apps and the host decide how often most things happen, so each kind of line (each template
in the code) has a limit.  What the lines say is decided elsewhere.
"""

import logging
import time
from typing import Final, TextIO

from wlproxy.transport.journal import start_log

FIRST: Final = 10
"""Lines of a kind that are written each `WINDOW`; the others are counted."""
WINDOW: Final = 60.0
"""Seconds."""


class _Kind:
    """The lines of one template in the present window of time."""

    __slots__ = ("began", "held_back", "last", "written")

    def __init__(self, began: float, last: logging.LogRecord) -> None:
        self.began = began
        self.last = last
        self.written = 0
        self.held_back = 0


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes the first lines of each kind, and how many more there were."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`, or stderr."""
        super().__init__(stream)
        self._kinds: dict[tuple[int, str], _Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`; lines for debugging have no limit."""
        now = time.monotonic()
        self._end_windows(now - WINDOW)
        if record.levelno > logging.DEBUG:
            template = record.levelno, str(record.msg)
            if template not in self._kinds:
                self._kinds[template] = _Kind(now, record)
            kind = self._kinds[template]
            if kind.written >= FIRST:
                kind.held_back += 1
                kind.last = record
                return
            kind.written += 1
        super().emit(record)

    def close(self) -> None:
        """Say what was held back, then close."""
        self._end_windows(float("inf"))
        super().close()

    def _end_windows(self, before: float) -> None:
        """End the windows that began before a time, and write what they held back."""
        for template in [k for k, kind in self._kinds.items() if kind.began <= before]:
            kind = self._kinds.pop(template)
            if kind.held_back:
                super().emit(_summary(kind))


def _summary(kind: _Kind) -> logging.LogRecord:
    """Make the line that stands for those held back: the last of them, and how many."""
    values = vars(kind.last) | {"exc_info": None, "exc_text": None, "args": None}
    values["msg"] = f"{kind.last.getMessage()} (and {kind.held_back - 1} more like it)"
    if kind.held_back == 1:
        values["msg"] = kind.last.getMessage()
    return logging.makeLogRecord(values)


def log_to_stderr(level: str) -> None:
    """Write everything from `level` on to stderr."""
    start_log(level, LimitedHandler(), "%(levelname)s: %(message)s")
