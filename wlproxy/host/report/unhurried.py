"""Writes lines to an fd that may take none: a stopped pager, a terminal that was stopped.

A thread writes, and whoever has something to say never waits for it.
"""

import os
import threading
from contextlib import suppress
from queue import Full, Queue
from typing import Final

from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import duplicate

MAX_WAITING: Final = 256
"""Pieces of text: beyond that, what is said is left out."""
THREAD: Final = "wlproxy log"
LAST_SECONDS: Final = 1.0
"""For what waits at the end to be written."""


class Unhurried(Closing):
    """A stream of text, as `logging.StreamHandler` wants it."""

    def __init__(self, fd: int) -> None:
        """Write to an fd that stays its owner's: its number may be another file's one day."""
        self._own = duplicate(fd)
        self._waiting: Queue[str | None] = Queue(MAX_WAITING)
        self._left_out = 0
        # A daemon: where nobody reads, the end of the process does not wait for it.
        self._thread = threading.Thread(
            target=self._write_all, name=THREAD, daemon=True
        )
        self._thread.start()

    def write(self, text: str) -> int:
        """Have a text written, or left out if too much waits already."""
        try:
            if self._left_out:
                self._waiting.put_nowait(
                    f"({self._left_out} lines are left out here)\n"
                )
                self._left_out = 0
            self._waiting.put_nowait(text)
        except Full:
            self._left_out += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: it is written as soon as can be."""

    def close(self) -> None:
        """Have the rest written, if that does not take long."""
        with suppress(Full):
            self._waiting.put_nowait(None)
        self._thread.join(LAST_SECONDS)

    def _write_all(self) -> None:
        with self._own as own:
            while (text := self._waiting.get()) is not None:
                data = text.encode(errors="replace")
                # Whoever read it may have gone: nobody is to feel that.
                with suppress(OSError):
                    while data:
                        data = data[os.write(own.fileno(), data) :]
