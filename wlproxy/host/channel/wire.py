"""What all kinds of wires have: one proxy each, and patience until somebody is there."""

import errno
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import trio

from wlproxy.host.channel.lock import ChannelLock
from wlproxy.host.channel_address import ChannelAddress
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.transport.closable import Closing
from wlproxy.transport.fd_stream import FdStream

FIRST_RETRY, LAST_RETRY = 0.1, 5.0
"""Seconds between attempts to connect: doubled from the first to the last."""

NOBODY_THERE: Final = (errno.ENOENT, errno.ECONNREFUSED)
"""What connect(2) says of a Unix socket where nobody listens."""


class NobodyThereError(HostError):
    """There is no other end yet."""


class Wire(Closing):
    """A channel's address, from the moment that a proxy claims it to its end.

    Attributes:
        listens: whether the other end connects, and so may be anybody.
    """

    listens = False

    def __init__(self, address: ChannelAddress, locks: Path | None, name: str) -> None:
        """Do nothing yet.

        Args:
            address: of the channel.
            locks: the directory where proxies have their locks; None: none is taken.
            name: of the VM.
        """
        self.address = address
        self._locks = locks
        self._name = name
        self._claim: AbstractContextManager[object] | None = None

    def claim(self) -> None:
        """Make sure that no other proxy has the channel, until `close`.

        Raises:
            HostError: one has, or it cannot be listened there.
        """
        self._claim = self.lock()
        self._claim.__enter__()

    def close(self) -> None:
        """Let others have it."""
        if self._claim is not None:
            self._claim.__exit__(None, None, None)
        self._claim = None

    def lock(self) -> AbstractContextManager[object]:
        """Take the lock.

        Raises:
            HostError: another proxy has it.
        """
        if self._locks is None:
            return nullcontext()
        return ChannelLock(self._locks, self.address, self._name)

    def held(self) -> AbstractContextManager[object]:
        """Return what holds the lock for one connection, where `claim` could not take it."""
        return nullcontext()

    async def open(self, log: VmLog) -> FdStream:
        """Wait for a connection with whoever is at the other end.

        Raises:
            HostError: there can be none, and waiting would not help.
        """
        raise NotImplementedError

    async def turn_away(self, current: FdStream, log: VmLog) -> None:
        """Hang up on whoever connects while `current` is connected, until cancelled."""


async def patiently(
    connect: Callable[[], Awaitable[FdStream]], address: ChannelAddress, log: VmLog
) -> FdStream:
    """Try to connect for as long as nobody is there.

    Raises:
        HostError: waiting would not help.
    """
    delay = FIRST_RETRY
    waiting = False
    while True:
        try:
            return await connect()
        except NobodyThereError as exc:
            if not waiting:
                log.info("waiting for the VM at %s: %s", address, exc.explanation)
        waiting = True
        await trio.sleep(delay)
        delay = min(2 * delay, LAST_RETRY)
