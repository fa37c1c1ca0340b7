"""The wire in a domain of Xen's: one more console, whose other end is a socket of QEMU's.

It is a terminal, which passes bytes as they are only once it is *raw*, and it never hangs up: a host is
there when it says something, and gone when it has said nothing for long.  Which host that is, and
where its session begins, the channel's nonces and padding say (`docs/channel-protocol.md`, 1 and 3).
"""

import logging
import math
import os
import re
import termios
import tty
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trio

from wlproxy.protocol.channel.frames import PORT_NAME
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest import wire
from wlproxy_guest.wire import (
    TRY_AGAIN,
    HostGoneError,
    Wire,
    WireSource,
    explain_open,
    wait_until,
)
from wlproxy_guest.xenstore import HYPERVISOR_TYPE, find_console, in_xen_domain

SILENCE: Final = 60.0
"""Seconds without a byte after which a host has gone: one that is there pings each 5."""
USUAL: Final = 1
"""The console that a domain's only channel is, where XenStore is not for us to read."""

_CONSOLE: Final = re.compile(r"/dev/hvc[0-9]+")

log = logging.getLogger(__name__)


class ConsoleWire(Wire):
    """A console with a host at the other end, as long as that says something."""

    __slots__ = ("_heard",)

    def __init__(self, fd: OwnedFd) -> None:
        """Take over `fd`, which is a terminal that is raw."""
        super().__init__(fd)
        self._heard = False

    async def receive(self, size: int) -> bytes:
        """See `Wire`.

        Raises:
            HostGoneError: the host has said nothing for too long, or the device has gone.
        """
        with trio.move_on_after(SILENCE if self._heard else math.inf):
            data = await super().receive(size)
            self._heard = True
            return data
        raise HostGoneError(f"the host has said nothing for {SILENCE:.0f} s")


class XenConsole(WireSource):
    """A console of Xen's, by its path or by the name of the channel in `xl.cfg`."""

    __slots__ = ("_name", "_path", "_silent")

    def __init__(self, *, path: str = "", name: str = PORT_NAME) -> None:
        self._path = path
        self._name = name
        self._silent = False
        """Whether the last wire was given up: the next one begins when somebody speaks."""

    def __str__(self) -> str:
        return self._path or f"Xen's channel {self._name}"

    async def open(self) -> Wire:
        """See `WireSource`.

        The first time at once: a host that has a session with an agent before us is to hear
        that this is another.
        """
        complaint = ""
        while True:
            path = self._path
            try:
                path = path or await self._find()
                fd = open_raw(path)
            except OSError as exc:
                if complaint != (complaint := explain_open(path or str(self), exc)):
                    log.error("%s", complaint)  # noqa: TRY400 - an answer, not a bug
                await trio.sleep(TRY_AGAIN)
                continue
            with ExitStack() as unused:
                unused.enter_context(fd)
                if self._silent:
                    await wait_until(trio.lowlevel.wait_readable, fd.fileno())
                self._silent = True
                unused.pop_all()
                return ConsoleWire(fd)

    async def _find(self) -> str:
        """Find the console of the name, or take the usual one.

        Raises:
            FileNotFoundError: the domain has no channel of that name.
        """
        try:
            number = await trio.to_thread.run_sync(
                find_console, self._name, abandon_on_cancel=True
            )
        except OSError as exc:
            log.info(
                "XenStore does not say which console is %s (%s): it will be hvc%d; --port"
                " names another",
                *(self._name, exc.strerror, USUAL),
            )
            number = USUAL
        if number is None:
            raise FileNotFoundError(
                None,
                "there is none: has the domain's xl.cfg the line of `wlproxy xl-cfg`?",
            )
        return f"/dev/hvc{number}"


def open_raw(path: str) -> OwnedFd:
    """Open a terminal, and have it pass bytes as they are.

    Raises:
        OSError: it cannot be opened, or is no terminal.
    """
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with ExitStack() as unused:
        fd = unused.enter_context(OwnedFd(os.open(path, flags)))
        try:
            tty.setraw(fd.fileno(), termios.TCSANOW)
        except termios.error as exc:
            raise OSError(*exc.args) from exc
        unused.pop_all()
        return fd


def parse_source(text: str, kind: Path = HYPERVISOR_TYPE) -> WireSource:
    """Read what `--port` takes: see `wire.parse_source`.

    In a domain of Xen's a name is that of a channel.

    Raises:
        ValueError: the number is none.
    """
    if _CONSOLE.fullmatch(text):
        return XenConsole(path=text)
    if "/" not in text and ":" not in text and in_xen_domain(kind):
        return XenConsole(name=text)
    return wire.parse_source(text)
