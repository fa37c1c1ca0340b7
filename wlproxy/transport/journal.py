"""Logs to stderr, for a terminal or for systemd's journal.

What is worth a line, and how many lines there may be, is decided by who logs.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import Final, TextIO

PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Least level -> sd-daemon(3) priority; 7 below."""


class JournalFormatter(logging.Formatter):
    """Begins each line with its priority, which the journal takes off again."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        number = next((p for level, p in PRIORITIES if record.levelno >= level), 7)
        lines = super().format(record).splitlines()
        return "\n".join(f"<{number}>{line}" for line in lines)


def start_log(level: str, handler: logging.Handler, terminal: str) -> None:
    """Log everything from a level on.

    Args:
        level: its name.
        handler: writes to stderr.
        terminal: the format of lines, where stderr is not the journal.
    """
    journal = is_journal(sys.stderr)
    handler.setFormatter(JournalFormatter() if journal else logging.Formatter(terminal))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def is_journal(stream: TextIO | None) -> bool:
    """Tell whether a stream goes to systemd's journal: systemd says which file that is."""
    journal = os.environ.get("JOURNAL_STREAM", "")
    if not journal or stream is None:
        return False
    with suppress(OSError, ValueError):
        status = os.fstat(stream.fileno())
        return journal == f"{status.st_dev}:{status.st_ino}"
    return False
