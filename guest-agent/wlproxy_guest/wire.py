"""The wire to the host: finds it, waits for a host at its other end, and carries bytes.

Usually the wire is a virtio-serial port.  A port does not end when the host goes away: it
reads as empty and polls as hung up until a host is there again.  No event announces that,
so the agent has to look now and then.  Frames are the business of `link`.
"""

import errno
import fcntl
import logging
import os
import select
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import pyudev
import trio

from wlproxy.protocol.channel.frames import PORT_NAME
from wlproxy.transport.fds import FdState, OwnedFd

SUBSYSTEM: Final = "virtio-ports"
LOOK_AGAIN: Final = 0.25
"""Seconds between looks at a port without a host."""
TRY_AGAIN: Final = 1.0
"""Seconds until a port that could not be opened is tried again."""
PORT_BUFFER: Final = 4096
"""Bytes that a virtio port gives at once: after as many there may be more."""
OUT_OF_MEMORY_PAUSE: Final = 0.1
"""Seconds until what there was no memory for is tried again."""
UDEV_CONTROL: Final = Path("/run/udev/control")

log = logging.getLogger(__name__)


class HostGoneError(Exception):
    """Nobody is at the other end any more."""


class NoWireError(Exception):
    """There is no wire, and there will be none; the message says why."""


class Wire:
    """An open wire with a host at the other end.

    Attributes:
        anybody: whether that may be any user of the host's, who is not to run commands here.
    """

    __slots__ = ("_drained", "_fd", "_unread", "_unsent", "anybody")

    def __init__(self, fd: OwnedFd, *, anybody: bool = False) -> None:
        """Take over `fd`."""
        os.set_blocking(fd.fileno(), False)
        self.anybody = anybody
        self._fd = fd
        self._unsent = b""
        self._unread = b""
        self._drained = False
        """Whether there was nothing left to receive, the last time."""

    async def receive(self, size: int) -> bytes:
        """Receive at least one byte.  A cancelled call has taken nothing.

        Raises:
            HostGoneError: there is nothing more to come.
        """
        fd = self._fd.fileno()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        waited = self._drained
        if waited:
            await wait_until(trio.lowlevel.wait_readable, fd)
        while True:
            try:
                data = os.read(fd, size)
            except BlockingIOError:
                await wait_until(trio.lowlevel.wait_readable, fd)
            except (OSError, MemoryError) as exc:
                await _pause_for_memory(exc)
            else:
                break
            waited = True
        if not data:
            raise HostGoneError("the host hung up")
        self._drained = len(data) < min(size, PORT_BUFFER)
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    def unread(self, data: bytes) -> None:
        """Put back what was received last: it is to be received again."""
        self._unread = data + self._unread

    @property
    def hung_up(self) -> bool:
        """Whether the host has ended the connection, though more may be left to receive."""
        return hung_up(self._fd.fileno())

    @property
    def backlog(self) -> bool:
        """Whether the wire has not taken all that was to be sent."""
        return bool(self._unsent)

    def send_at_once(self, data: bytes) -> bool:
        """Send as much as the wire takes without waiting; tell if that is all.

        The rest is a `backlog`, which `flush` is for; if nobody takes it any more, it is
        that which says so.
        """
        self._unsent += data
        with suppress(OSError, MemoryError):
            self._write(self._fd.fileno())
        return not self._unsent

    async def flush(self) -> None:
        """Send what `send_at_once` did not.  A cancelled call may have sent some of it.

        Raises:
            HostGoneError: nobody takes it.
        """
        fd = self._fd.fileno()
        await trio.lowlevel.checkpoint_if_cancelled()
        at_once = True
        while self._unsent:
            try:
                self._write(fd)
            except BlockingIOError:
                # A port without a host is never writable, yet wakes whoever waits.
                if hung_up(fd):
                    raise HostGoneError("the host hung up") from None
                await wait_until(trio.lowlevel.wait_writable, fd)
                at_once = False
            except (OSError, MemoryError) as exc:
                await _pause_for_memory(exc)
                at_once = False
        if at_once:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _write(self, fd: int) -> None:
        self._unsent = self._unsent[os.write(fd, self._unsent) :]

    def close(self) -> None:
        """Close it; again is harmless."""
        if self._fd.state is FdState.OPEN:
            trio.lowlevel.notify_closing(self._fd.fileno())
            self._fd.close()


class WireSource(Protocol):
    """Where wires come from, one after the other."""

    async def open(self) -> Wire:
        """Wait for a wire with a host.

        Raises:
            NoWireError: there will be none.
        """

    async def turn_away(self, current: Wire) -> None:
        """Hang up on whoever else comes while `current` has its host; then return.

        Most wires have one host by nature.
        """
        await trio.lowlevel.checkpoint()


class Port(WireSource):
    """A character device, by its path or by the name of the virtio port."""

    __slots__ = ("_name", "_path")

    def __init__(self, *, path: str = "", name: str = PORT_NAME) -> None:
        self._path = path
        self._name = name

    def __str__(self) -> str:
        return self._path or f"virtio port {self._name}"

    async def open(self) -> Wire:
        """See `WireSource`."""
        complaint = ""
        while True:
            path = self._path
            try:
                path = path or await wait_for_port(self._name)
                fd = OwnedFd(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            except ImportError as exc:
                raise NoWireError(
                    f"virtio ports are found with libudev, which is not here ({exc});"
                    " install libudev1, or give --port the path of the device"
                ) from exc
            except (OSError, MemoryError, pyudev.DeviceNotFoundError) as exc:
                if complaint != (complaint := explain_open(path or str(self), exc)):
                    log.error("%s", complaint)  # noqa: TRY400 - an answer, not a bug
                await trio.sleep(TRY_AGAIN)
                continue
            if await host_appears(fd):
                return Wire(fd)
            await trio.sleep(LOOK_AGAIN)


class UnixSocket(WireSource):
    """A Unix socket at which the host listens."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __str__(self) -> str:
        return f"unix:{self._path}"

    async def open(self) -> Wire:
        """See `WireSource`."""
        await trio.lowlevel.checkpoint()
        while True:
            # No host there yet, or no fd left for it.
            with (
                suppress(OSError),
                socket.socket(
                    socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
                ) as connecting,
            ):
                connecting.connect(self._path)
                return Wire(OwnedFd(connecting.detach()))
            await trio.sleep(LOOK_AGAIN)


class InheritedFd(WireSource):
    """An fd that was open before we were: one wire, and no second."""

    __slots__ = ("_fd", "_used")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._used = False

    def __str__(self) -> str:
        return f"fd:{self._fd}"

    async def open(self) -> Wire:
        """See `WireSource`.

        Raises:
            NoWireError: it is used up, or never was an fd.
        """
        await trio.lowlevel.checkpoint()
        if self._used:
            raise NoWireError("the inherited fd is used up")
        self._used = True
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
            return Wire(OwnedFd(self._fd))
        except OSError as exc:
            raise NoWireError(f"fd {self._fd}: {exc.strerror}") from exc


def parse_source(text: str) -> WireSource:
    """Read what `--port` takes: a path, `unix:PATH`, `fd:N` or a virtio port's name.

    Raises:
        ValueError: the number is none.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "unix":
        return UnixSocket(rest)
    if colon and kind == "fd":
        return InheritedFd(int(rest))
    if "/" not in text:
        return Port(name=text)
    with suppress(OSError):
        if stat.S_ISSOCK(Path(text).stat().st_mode):
            return UnixSocket(text)
    return Port(path=text)


@cache
def udev() -> pyudev.Context:
    """Load libudev once: looking for it costs processes, files and time.

    Raises:
        ImportError: it is not here.
    """
    return pyudev.Context()


async def wait_until(wait: Callable[[int], Awaitable[None]], fd: int) -> None:
    """Wait by `trio.lowlevel`, or for a while where epoll has no memory for another."""
    try:
        await wait(fd)
    except (OSError, MemoryError):
        await trio.sleep(OUT_OF_MEMORY_PAUSE)


async def _pause_for_memory(exc: OSError | MemoryError) -> None:
    """Wait for memory, if that is what was lacking.

    Raises:
        HostGoneError: it was not.
    """
    if isinstance(exc, OSError) and exc.errno not in (errno.ENOMEM, errno.ENOBUFS):
        raise HostGoneError(str(exc)) from exc
    await trio.sleep(OUT_OF_MEMORY_PAUSE)


def hung_up(fd: int) -> bool:
    """Tell whether nobody is at the other end of an fd just now."""
    poll = select.poll()
    # A vsock whose peer closed says only that there is no more to read.
    poll.register(fd, select.POLLRDHUP)
    return any(
        events & (select.POLLHUP | select.POLLRDHUP) for _, events in poll.poll(0)
    )


async def host_appears(fd: OwnedFd) -> bool:
    """Wait for a host at a port; close the fd and return False if the port goes away."""
    with ExitStack() as unused, suppress(OSError):
        unused.enter_context(fd)
        await trio.lowlevel.checkpoint()
        while hung_up(fd.fileno()):
            # What an earlier host left behind: its session is over.
            os.read(fd.fileno(), 65536)
            await trio.sleep(LOOK_AGAIN)
        unused.pop_all()
        return True
    return False


async def wait_for_port(name: str) -> str:
    """Wait until a virtio port of that name is there; return its device node.

    Raises:
        ImportError: there is no libudev.
        OSError: no fds are left; `MemoryError`, `pyudev.DeviceNotFoundError` likewise.
    """
    await trio.lowlevel.checkpoint()
    context = udev()
    # In a guest without udevd only the kernel itself announces devices.
    source = "udev" if UDEV_CONTROL.exists() else "kernel"
    monitor = pyudev.Monitor.from_netlink(context, source=source)
    monitor.filter_by(SUBSYSTEM)
    monitor.start()
    announced = False
    while True:
        if node := find_port(context, name):
            return node
        if not announced:
            log.warning(
                "no virtio port named %s yet: does QEMU have a virtserialport of that"
                " name? (`wlproxy qemu-args` on the host)",
                name,
            )
            announced = True
        await trio.lowlevel.wait_readable(monitor.fileno())
        while monitor.poll(timeout=0) is not None:
            pass


def find_port(context: pyudev.Context, name: str) -> str | None:
    """Find the device node of the virtio port of that name."""
    for device in context.list_devices(subsystem=SUBSYSTEM):
        if device.attributes.get("name") == name.encode() and device.device_node:
            return str(device.device_node)
    return None


def explain_open(path: str, exc: Exception) -> str:
    """Say why a port could not be opened, and what helps."""
    match getattr(exc, "errno", None):
        case errno.EBUSY:
            return f"{path} is in use: is another agent running?"
        case errno.EACCES | errno.EPERM:
            return f"{path}: no permission; install the udev rule, or run as root"
        case _:
            return f"{path}: {getattr(exc, 'strerror', '') or str(exc) or 'no memory'}"
