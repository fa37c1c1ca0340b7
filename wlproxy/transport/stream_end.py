"""Reads from or writes to an fd that somebody passed, without changing it for others.

Everybody who holds an open file shares it, and O_NONBLOCK is a property of the open file.
So setting it on an fd that was passed to us would also set it for the program that passed
it, and leave an app's terminal broken.  Nothing is changed that can be left alone:

* A pipe or a terminal is opened anew through /proc, which gives us an open file of our own.
  Another user's pipe, where that is not allowed, is used with RWF_NOWAIT.
* On a socket each call asks not to wait (MSG_DONTWAIT).
* Files and /dev/null, which never wait, are used from a thread.
* So is what remains: other users' pipes that have a name, or on a kernel before 6.5, and other
  users' terminals.  They are asked first whether there is something to do.  Somebody who
  shares them may have done it by then, but then it is only the thread that waits.
"""

import ctypes
import errno
import fcntl
import os
import select
import socket
import stat
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import ClassVar, Final, TypeVar

import trio

from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import OwnedFd

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")

MAX_THREADS: Final = 16
"""Threads at once that read or write files, and as many again for what is shared: who
shares it can have them wait, and shall not hold up the files."""

MAX_HANGING: Final = 96
"""Threads in all, those included that nobody waits for any more: one of a server that does not
answer hangs for as long as that does, and nothing can end it."""

_UNLIMITED: Final = trio.CapacityLimiter(1 << 30)
_NULL_DEVICES: Final = frozenset(os.makedev(1, minor) for minor in (3, 5, 7))
"""null, zero, full: devices of which reading and writing does nothing."""
_PTMX: Final = os.makedev(5, 2)
"""The other side of a terminal.  Opened anew it would be another terminal."""
_KERNEL_FILES: Final = frozenset(
    (
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x73636673,  # securityfs
        0xF97CFF8C,  # selinux
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x62656570,  # configfs
        0xCAFE4A11,  # bpf
        0xDE5E81E4,  # efivarfs
    )
)
"""File systems (statfs `f_type`) in which writing asks for a deed of the kernel's, and may
be judged by who writes: that must not be us."""
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class StreamEnd(Closing, ABC):
    """One end of a stream, which we own and read from or write to.

    What an end is decides how it is used without changing it for others: see its kinds below.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: OwnedFd) -> None:
        """Made by `adopt_end` and `make_pipe`."""
        self._fd = fd

    @abstractmethod
    async def read(self, size: int) -> bytes:
        """Read at least one byte; none at the end.  A cancelled call has taken nothing.

        Always a checkpoint.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    async def _write(self, data: memoryview) -> int:
        """Write at least one byte; return how many.  Always a checkpoint."""

    @abstractmethod
    async def _wait_broken(self) -> None:
        """Wait until nothing reads any more."""

    async def write_chunks(
        self,
        next_chunk: Callable[[], Awaitable[bytes | None]],
        written: Callable[[int], None],
    ) -> bool:
        """Write until there is no more to write; False if nobody reads any more.

        The latter is noticed while there is nothing to write, too.

        Args:
            next_chunk: waits for what to write next; None is the end.
            written: told how many bytes of it have been.
        """
        reader_gone = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal reader_gone
            try:
                await self._wait_broken()
            except OSError:  # nothing left to watch with: the next byte will tell
                return
            reader_gone = True
            scope.cancel()

        # Both end with the call.
        async with trio.open_nursery() as nursery:  # noqa: TID251
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                while (chunk := await next_chunk()) is not None:
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[await self._write(rest) :]
                    written(len(chunk))
            except OSError:  # EPIPE, or a full disk: for the sender it is the same
                reader_gone = True
            nursery.cancel_scope.cancel()
        return not reader_gone

    def close(self) -> None:
        """Close it; again is harmless."""
        self._fd.close()


def make_pipe(*, we_write: bool) -> tuple[StreamEnd, OwnedFd]:
    """Make a pipe; return our end, and the one to be passed on, which is the caller's.

    Raises:
        OSError: there are too many fds.
    """
    reader, writer = map(OwnedFd, os.pipe2(os.O_CLOEXEC))
    ours, theirs = (writer, reader) if we_write else (reader, writer)
    os.set_blocking(ours.fileno(), False)  # the two ends are two open files
    return _Polled(ours, os.read, os.write), theirs


def adopt_end(fd: OwnedFd, *, we_write: bool, offset: int | None = None) -> StreamEnd:
    """Take over an fd that somebody passed; it is taken over even if this fails.

    Args:
        fd: of a pipe, a file, a terminal, a socket.
        we_write: to it; else we read.
        offset: the byte of a file from which to read, wherever its own position is, which
            stays; None: from there.

    Raises:
        OSError: it is not open that way, or nothing that can be used as a stream.
    """
    with closed_on_error(fd):
        return _adopt(fd, we_write=we_write, offset=offset)


def _adopt(owned: OwnedFd, *, we_write: bool, offset: int | None) -> StreamEnd:
    fd = owned.fileno()
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    useless = os.O_RDONLY if we_write else os.O_WRONLY
    if flags & os.O_PATH or flags & os.O_ACCMODE == useless:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    status = os.fstat(fd)
    if offset is not None:
        if not stat.S_ISREG(status.st_mode) or _is_kernel_file(fd):
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        return _Part(owned, offset)
    if stat.S_ISSOCK(status.st_mode):
        return _Polled(owned, _receive, _send)
    if _knows_no_waiting(fd, status):
        return _Threaded(owned)
    terminal = os.isatty(fd) and status.st_rdev != _PTMX
    if not terminal and not stat.S_ISFIFO(status.st_mode):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    with suppress(OSError):
        return _reopen(owned, we_write=we_write)
    if _knows_nowait(fd):
        return _Polled(owned, _read_nowait, _write_nowait)
    return _Shared(owned)


def _reopen(fd: OwnedFd, *, we_write: bool) -> StreamEnd:
    """Replace an fd by one of our own open file; if that fails, it stays as it was."""
    way = os.O_WRONLY if we_write else os.O_RDONLY
    flags = way | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    ours = OwnedFd(os.open(f"/proc/self/fd/{fd.fileno()}", flags))
    fd.close()
    return _Polled(ours, os.read, os.write)


def _knows_no_waiting(fd: int, status: os.stat_result) -> bool:
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev in _NULL_DEVICES
    return stat.S_ISREG(status.st_mode) and not _is_kernel_file(fd)


def _is_kernel_file(fd: int) -> bool:
    statfs = (ctypes.c_long * 32)()  # f_type comes first; the rest is shorter than that
    if _LIBC.fstatfs(fd, ctypes.byref(statfs)):
        return True
    return statfs[0] & 0xFFFFFFFF in _KERNEL_FILES


def _knows_nowait(fd: int) -> bool:
    """Tell whether RWF_NOWAIT works here: the kernel has it only for pipes without a name."""
    return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:") and _pipes_do()


@cache
def _pipes_do() -> bool:
    reader, writer = map(OwnedFd, os.pipe2(os.O_CLOEXEC))
    with reader, writer:
        try:
            _read_nowait(reader.fileno(), 1)
        except OSError as exc:
            return exc.errno == errno.EAGAIN
    return False


def _read_nowait(fd: int, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: os.preadv(fd, [buffer], -1, os.RWF_NOWAIT)])


def _write_nowait(fd: int, data: memoryview) -> int:
    return os.pwritev(fd, [data], -1, os.RWF_NOWAIT)


def _receive(fd: int, size: int) -> bytes:
    borrowed = socket.socket(fileno=fd)
    try:
        return borrowed.recv(size, socket.MSG_DONTWAIT)
    finally:
        borrowed.detach()


def _send(fd: int, data: memoryview) -> int:
    borrowed = socket.socket(fileno=fd)
    try:
        return borrowed.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    finally:
        borrowed.detach()


class _Polled(StreamEnd):
    """An end that the kernel polls for us; calls on it do not wait."""

    __slots__ = ("_read_some", "_write_some")

    def __init__(
        self,
        fd: OwnedFd,
        read: Callable[[int, int], bytes],
        write: Callable[[int, memoryview], int],
    ) -> None:
        super().__init__(fd)
        self._read_some = read
        self._write_some = write

    async def read(self, size: int) -> bytes:
        return await self._call(self._read_some, size, trio.lowlevel.wait_readable)

    async def _write(self, data: memoryview) -> int:
        return await self._call(self._write_some, data, trio.lowlevel.wait_writable)

    async def _wait_broken(self) -> None:
        await _wait_broken(self._fd.fileno())

    async def _call(
        self,
        operation: Callable[[int, ArgumentT], ResultT],
        argument: ArgumentT,
        wait: Callable[[int], Awaitable[None]],
    ) -> ResultT:
        number = self._fd.fileno()
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            with suppress(BlockingIOError):
                result = operation(number, argument)
                break
            await wait(number)
            waited = True
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return result


async def _wait_broken(fd: int) -> None:
    """Wait until nothing reads any more."""
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        # Never readable; what wakes us is the error, which is always told.
        await trio.lowlevel.wait_readable(fd)
        return
    # What it has to read must not wake us, so that it needs an epoll of its own.
    with select.epoll() as errors:
        errors.register(fd, 0)
        await trio.lowlevel.wait_readable(errors.fileno())


_Limiters = trio.lowlevel.RunVar[trio.CapacityLimiter]
"""One limiter for each run of trio: ends may be adopted in a thread, which has none."""


class _Threaded(StreamEnd):
    """An end that can only be waited for in a thread: the kernel cannot poll it."""

    __slots__ = ()
    _limiters: ClassVar = _Limiters("wlproxy files")

    async def read(self, size: int) -> bytes:
        return await self._call(lambda own: os.read(own, size))

    async def _write(self, data: memoryview) -> int:
        return await self._call(lambda own: os.write(own, data))

    async def _wait_broken(self) -> None:
        await trio.sleep_forever()

    async def _call(self, operation: Callable[[int], ResultT]) -> ResultT:
        limiter = self._limiter()
        await limiter.acquire_on_behalf_of(self)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if _UNLIMITED.borrowed_tokens >= MAX_HANGING:
                raise OSError(errno.EAGAIN, "too many threads hang in files")
            # The thread has an fd of its own, since it may outlast us, and the number
            # would be somebody else's by then.
            own = self._fd.duplicate()
            try:
                return await trio.to_thread.run_sync(
                    _use, operation, own, abandon_on_cancel=True, limiter=_UNLIMITED
                )
            except (RuntimeError, MemoryError) as exc:  # there is no thread to close it
                own.close()
                raise OSError(errno.EAGAIN, "no thread can be started") from exc
        finally:
            limiter.release_on_behalf_of(self)

    def _limiter(self) -> trio.CapacityLimiter:
        try:
            return self._limiters.get()
        except LookupError:
            self._limiters.set(trio.CapacityLimiter(MAX_THREADS))
            return self._limiters.get()


class _Part(_Threaded):
    """A file that is read from some byte on, and whose own position nobody moves."""

    __slots__ = ("_offset",)

    def __init__(self, fd: OwnedFd, offset: int) -> None:
        super().__init__(fd)
        self._offset = offset

    async def read(self, size: int) -> bytes:
        offset = self._offset
        data = await self._call(lambda own: os.pread(own, size, offset))
        self._offset += len(data)
        return data


class _Shared(_Threaded):
    """An end that somebody else may empty or fill between our look and our call."""

    __slots__ = ()
    _limiters: ClassVar = _Limiters("wlproxy shared ends")

    async def read(self, size: int) -> bytes:
        await trio.lowlevel.wait_readable(self._fd.fileno())
        return await super().read(size)

    async def _write(self, data: memoryview) -> int:
        await trio.lowlevel.wait_writable(self._fd.fileno())
        return await super()._write(data[: select.PIPE_BUF])

    async def _wait_broken(self) -> None:
        await _wait_broken(self._fd.fileno())


def _use(operation: Callable[[int], ResultT], own: OwnedFd) -> ResultT:
    with own:
        return operation(own.fileno())
