"""Moves texts through pipes: to and from apps of the host's, which may take their time or never answer."""

import os
from collections.abc import Callable
from typing import Final

import trio

from wlproxy.screen.commands import Fd
from wlproxy.transport.fds import OwnedFd

READ_SECONDS: Final = 3.0
"""For an app to write what it has copied."""
WRITE_SECONDS: Final = 30.0
"""For an app to read what it pastes."""
MAX_TRANSFERS: Final = 32
"""Texts on their way at once."""
PIECE: Final = 65536

Done = Callable[[bytes], None]


class Transfers:
    """The transfers of one window."""

    def __init__(self, nursery: trio.Nursery, settle: Callable[[], None]) -> None:
        """There are none yet.

        Args:
            nursery: runs them.
            settle: is called when something has come.
        """
        self._nursery = nursery
        self._settle = settle
        self._count = 0
        self._closed = False

    def close(self) -> None:
        """Begin none any more."""
        self._closed = True

    def read(self, most: int, done: Done) -> OwnedFd | None:
        """Make a pipe, and read it to its end; see `selections`."""
        if self._full:
            return None
        try:
            ours, theirs = map(OwnedFd, os.pipe2(os.O_CLOEXEC))
        except OSError:  # no fd is left: the next one may have more luck
            return None
        self._count += 1
        self._nursery.start_soon(self._read, ours, most, done)
        return theirs

    def write(self, file: Fd, text: bytes) -> None:
        """Write a text; the file is held for that, and released thereafter."""
        assert isinstance(file, OwnedFd)
        try:
            if not text or self._full:
                return
            try:
                own = file.duplicate()
            except OSError:
                return
            self._count += 1
            self._nursery.start_soon(self._write, own, text)
        finally:
            file.release()

    @property
    def _full(self) -> bool:
        return self._closed or self._count >= MAX_TRANSFERS

    async def _read(self, ours: OwnedFd, most: int, done: Done) -> None:
        data = b""
        try:
            with trio.move_on_after(READ_SECONDS) as scope:
                async with trio.lowlevel.FdStream(ours.detach()) as stream:
                    while len(data) <= most and (
                        piece := await stream.receive_some(PIECE)
                    ):
                        data += piece
            if scope.cancelled_caught or len(data) > most:
                data = b""
        except trio.BrokenResourceError:
            data = b""
        finally:
            self._count -= 1
        done(data)
        self._settle()

    async def _write(self, own: OwnedFd, text: bytes) -> None:
        try:
            with trio.move_on_after(WRITE_SECONDS):
                async with trio.lowlevel.FdStream(own.detach()) as stream:
                    await stream.send_all(text)
        except (trio.BrokenResourceError, OSError):
            pass  # whoever pastes has had enough, or cannot be written to
        finally:
            self._count -= 1
