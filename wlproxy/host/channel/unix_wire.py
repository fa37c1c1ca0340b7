"""A Unix socket: QEMU's, or one that the proxy makes and QEMU connects to."""

import errno
import logging
import os
import socket
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from wlproxy.host.channel.wire import (
    NOBODY_THERE,
    NobodyThereError,
    Wire,
    patiently,
)
from wlproxy.host.channel_address import Listen
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.runtime_dir import check_place, let_in, listen_at
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fd_stream import FdStream, connect_unix

OUT_OF_FDS_PAUSE: Final = 0.5
"""Seconds until the next connection is looked at when there was no fd for it."""


class ConnectingWire(Wire):
    """QEMU's socket."""

    def __init__(self, path: Path, locks: Path | None, name: str) -> None:
        super().__init__(path, locks, name)
        self._path = path

    def claim(self) -> None:
        """Do nothing: which socket it is that is at this path is seen once it is there."""

    def held(self) -> AbstractContextManager[object]:
        """Take the lock.

        Raises:
            HostError: another proxy has it.
        """
        return self.lock()

    async def open(self, log: VmLog) -> FdStream:
        """See `Wire`."""
        return await patiently(partial(connect_channel, self._path), self._path, log)


class ListeningWire(Wire):
    """A socket of ours, to which QEMU connects, and comes back (`reconnect`)."""

    listens = True

    def __init__(self, address: Listen, locks: Path | None, name: str) -> None:
        super().__init__(address, locks, name)
        self._path, self._group = address.path, address.group
        self._listener: socket.socket | None = None

    def claim(self) -> None:
        """Make the socket.

        Raises:
            HostError: another proxy has it, or it cannot be made there.
        """
        super().claim()
        with closed_on_error(self):
            check_place(self._path, self._group)
            self._listener = listen_at(
                self._path,
                socket.SOCK_STREAM,
                "cannot make the channel's socket",
                "somebody listens at the channel's socket already",
            )
            self._listener.setblocking(False)  # noqa: FBT003 - as the library has it
            if self._group is not None:
                let_in(self._path, self._group)

    def close(self) -> None:
        """Remove the socket."""
        if self._listener is not None:
            self._path.unlink(missing_ok=True)
            self._listener.close()
        self._listener = None
        super().close()

    async def open(self, log: VmLog) -> FdStream:
        """See `Wire`."""
        log.info("waiting for QEMU to connect to %s", self._path)
        return FdStream(await self._accept(log))

    async def turn_away(self, current: FdStream, log: VmLog) -> None:
        """See `Wire`."""
        while True:
            await trio.lowlevel.wait_readable(self._listening)
            if current.hung_up:  # who comes now may be its successor, and is for `open`
                return
            if (connected := await self._accept_now(log)) is None:
                continue
            connected.close()
            log.of_client(
                logging.WARNING,
                "somebody connects to %s, and is turned away: it is in use",
                self._path,
            )

    @property
    def _listening(self) -> socket.socket:
        assert self._listener is not None, "it is claimed first"
        return self._listener

    async def _accept(self, log: VmLog) -> socket.socket:
        while True:
            await trio.lowlevel.wait_readable(self._listening)
            if (connected := await self._accept_now(log)) is not None:
                return connected

    async def _accept_now(self, log: VmLog) -> socket.socket | None:
        """Accept who is there; None if it has gone, or, after a pause, if no fd is left for it."""
        try:
            return self._listening.accept()[0]
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.ECONNABORTED):
                return None
            log.error("nobody can connect: %s", os.strerror(exc.errno or 0))  # noqa: TRY400
        await trio.sleep(OUT_OF_FDS_PAUSE)
        return None


async def connect_channel(path: Path) -> FdStream:
    """Connect to QEMU's socket.

    Raises:
        NobodyThereError: nobody listens there.
        HostError: it cannot be connected to, and waiting would not help.
    """
    try:
        return await connect_unix(path)
    except OSError as exc:
        kind, number = HostError, exc.errno or 0
        if number in NOBODY_THERE:
            kind = NobodyThereError
        raise kind(
            "cannot connect to the channel",
            tried=f"connect {path}",
            errno=number,
            remedy="It must be the socket of QEMU's chardev (`wlproxy qemu-args` prints "
            "the options), and yours to open. Where libvirt makes it for a QEMU of another "
            "user, as for qemu:///system, it is not: have QEMU connect to the proxy instead "
            "(`wlproxy run --listen`).",
        ) from exc
