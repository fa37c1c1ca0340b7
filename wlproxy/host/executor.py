"""Commands become syscalls here, and nowhere else.

`execute` never waits and never calls the core: what must be answered comes back as a
value, which `session` feeds in.  Pixels are copied in their turn, by `copy_some`.  A client that has been closed takes no more commands.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wlproxy.host.client import HostClient
from wlproxy.host.errors import HostError, TooManyStreamsError
from wlproxy.host.fds import HandleTable, OwnedFd
from wlproxy.host.guest_ram import GuestRam
from wlproxy.host.metrics import Metrics
from wlproxy.host.outgoing import Outgoing, fit_text
from wlproxy.host.pixels import Copy, CopyBuffer, PixelCopier
from wlproxy.host.udmabuf import UdmabufDevice, UdmabufItem
from wlproxy.host.vm_log import VmLog
from wlproxy.protocol.channel.frames import (
    MAX_FILE_SIZE,
    ClientClosed,
    CloseReason,
    Frame,
)
from wlproxy.relay.commands import (
    AdoptStream,
    CloseClient,
    CloseHandle,
    Command,
    CopyRows,
    CreateCopyBuffer,
    CreateStream,
    CreateUdmabuf,
    Direction,
    GrantCredit,
    OpenCompositor,
    SendContents,
    SendFile,
    SendFrame,
    SendToCompositor,
    Trace,
)
from wlproxy.relay.handles import Handle, shell_handles
from wlproxy.relay.inputs import FdKind, ReceivedFd

SLOW_ITEMS = 256
"""Longer udmabuf lists are made in a thread: over 5 ms for thousands of items."""


@dataclass(frozen=True, slots=True)
class BufferCreated:
    """Answers `CreateUdmabuf` and `CreateCopyBuffer`."""

    client_id: int
    handle: Handle


@dataclass(frozen=True, slots=True)
class BufferFailed:
    """Answers the same, with an errno and words."""

    client_id: int
    handle: Handle
    error: int
    message: str


@dataclass(frozen=True, slots=True)
class ClientFailed:
    """A command could not be carried out, and its client cannot go on without."""

    client_id: int
    reason: CloseReason
    message: str


@dataclass(frozen=True, slots=True)
class Slow:
    """To be given to `create_slowly`, in the background."""

    command: CreateUdmabuf


Answer = BufferCreated | BufferFailed | ClientFailed


class Executor:
    """Carries out the commands of one session."""

    def __init__(
        self,
        outgoing: Outgoing,
        ram: GuestRam,
        device: UdmabufDevice | None,
        metrics: Metrics,
        log: VmLog,
        run: Callable[[HostClient], None],
    ) -> None:
        """No client yet.

        Args:
            outgoing: where frames go.
            ram: the guest's.
            device: /dev/udmabuf, or None.
            metrics: counted into.
            log: written to.
            run: starts the task of a client, which connects it to the compositor and
                in the end lets go of it.
        """
        self.clients: dict[int, HostClient] = {}
        self.handles = HandleTable()
        self._outgoing = outgoing
        self._ram = ram
        self._device = device
        self._metrics = metrics
        self._log = log
        self._run = run
        self._copier = PixelCopier(ram.map)
        self._names = shell_handles()
        self._udmabufs: dict[Handle, int] = {}
        self._discarded: set[Handle] = set()
        self._creating: set[Handle] = set()

    def execute(self, command: Command) -> Answer | Slow | None:
        """Carry out one command."""
        if isinstance(command, SendFrame):
            self._send_frame(command.frame)
            return None
        client = self.clients.get(command.client_id)
        if isinstance(command, Trace):
            self._trace(command, client)
            return None
        if client is None or client.closed:
            return None
        try:
            return self._execute(command, client)
        except HostError as exc:
            over = isinstance(exc, TooManyStreamsError)
            reason = CloseReason.LIMIT_EXCEEDED if over else CloseReason.FAILED
            return ClientFailed(command.client_id, reason, exc.problem)

    def _execute(  # noqa: C901 - one flat table
        self,
        command: GrantCredit
        | OpenCompositor
        | SendToCompositor
        | CreateUdmabuf
        | CreateCopyBuffer
        | CopyRows
        | CreateStream
        | AdoptStream
        | SendFile
        | SendContents
        | CloseHandle
        | CloseClient,
        client: HostClient,
    ) -> Answer | Slow | None:
        match command:
            case SendToCompositor(data=data, handles=handles):
                fds = [self.handles.get(handle) for handle in handles]
                client.to_compositor.put(data, fds)
            case GrantCredit(amount=amount):
                client.to_compositor.put_grant(amount)
            case CopyRows(handle=handle):
                target = client.copy_buffers[handle]
                self._copier.find(command, target)
                client.to_compositor.put_copy(command, target)
            case CreateUdmabuf():
                return self._create_udmabuf(command)
            case CreateCopyBuffer():
                return self._create_copy_buffer(command, client)
            case CreateStream(stream_id=stream_id, handle=handle):
                end = client.streams.create(stream_id, command.direction)
                self.handles.add(client.client_id, handle, end)
            case AdoptStream(stream_id=stream_id, handle=handle):
                fd = self.handles.take(client.client_id, handle)
                client.streams.adopt(stream_id, fd, command.direction)
            case SendFile(file_id=file_id, handle=handle, size=size):
                fd = self.handles.take(client.client_id, handle)
                client.queue.put_file(file_id, fd, size)
            case SendContents(file_id=file_id, contents=contents):
                client.queue.put_contents(file_id, contents)
            case CloseHandle(handle=handle):
                self._close_handle(client, handle)
            case OpenCompositor(label=label):
                client.label = label or client.label
                self._run(client)
            case CloseClient():
                self._close_client(command, client)
        return None

    def use_device(self, device: UdmabufDevice | None) -> None:
        """Make dma-bufs with this device from now on."""
        self._device = device

    def receive_fds(
        self, client_id: int, fds: Sequence[OwnedFd]
    ) -> tuple[ReceivedFd, ...]:
        """Name the fds that the compositor sent, which this takes over."""
        received = []
        for fd in fds:
            handle = next(self._names)
            self.handles.add(client_id, handle, fd)
            received.append(classify(handle, fd))
        return tuple(received)

    def create_slowly(self, command: CreateUdmabuf) -> OwnedFd | HostError:
        """Make a dma-buf.  Blocks: for a thread."""
        if self._device is None:
            return HostError("no /dev/udmabuf", errno=errno.ENODEV)
        try:
            return self._device.create(
                [
                    UdmabufItem(
                        self._ram.files[item.region].fileno(), item.offset, item.length
                    )
                    for item in command.items
                ]
            )
        except HostError as exc:
            return exc

    def finish_udmabuf(
        self, command: CreateUdmabuf, made: OwnedFd | HostError
    ) -> Answer | None:
        """Take over what `create_slowly` made; None if nobody waits any more."""
        handle = command.handle
        self._creating.discard(handle)
        client = self.clients.get(command.client_id)
        wanted = (
            client is not None and not client.closed and handle not in self._discarded
        )
        self._discarded.discard(handle)
        if isinstance(made, HostError):
            self._metrics.udmabufs_failed += 1
            failed = BufferFailed(
                command.client_id, handle, made.errno or errno.EINVAL, made.problem
            )
            return failed if wanted else None
        self._metrics.udmabufs_created += 1
        if not wanted:
            made.close()
            return None
        self.handles.add(command.client_id, handle, made)
        self._udmabufs[handle] = command.client_id
        self._metrics.udmabufs_alive += 1
        return BufferCreated(command.client_id, handle)

    async def copy_some(self, client: HostClient, copy: Copy) -> int:
        """Carry out a slice of a queued copy; tell how many bytes that were.

        Raises:
            HostError: no memory is left.
        """
        copied = await self._copier.copy_some(copy)
        self._metrics.copied(client.client_id, copied)
        return copied

    def forget_client(self, client: HostClient) -> None:
        """The compositor has let go: close what is left."""
        self.clients.pop(client.client_id, None)
        self._close_handles(client)

    def close(self) -> None:
        """End of the session: close and unmap everything."""
        for client in tuple(self.clients.values()):
            self.forget_client(client)
        self._metrics.udmabufs_alive -= len(self._udmabufs)
        self._udmabufs.clear()
        self.handles.close_all()
        self._copier.close()

    def _create_udmabuf(self, command: CreateUdmabuf) -> Answer | Slow | None:
        self._creating.add(command.handle)
        if len(command.items) > SLOW_ITEMS:
            return Slow(command)
        return self.finish_udmabuf(command, self.create_slowly(command))

    def _create_copy_buffer(
        self, command: CreateCopyBuffer, client: HostClient
    ) -> Answer:
        try:
            made = CopyBuffer(command.size)
        except HostError as exc:
            return BufferFailed(
                client.client_id, command.handle, exc.errno or errno.ENOMEM, exc.problem
            )
        self.handles.add(client.client_id, command.handle, made.fd)
        client.copy_buffers[command.handle] = made
        return BufferCreated(client.client_id, command.handle)

    def _close_handle(self, client: HostClient, handle: Handle) -> None:
        if handle in self._creating:
            self._discarded.add(handle)
            return
        if self._udmabufs.pop(handle, None) is not None:
            self._metrics.udmabufs_alive -= 1
        self.handles.close(client.client_id, handle)
        client.copy_buffers.pop(handle, None)

    def _close_client(self, command: CloseClient, client: HostClient) -> None:
        client.close(command)
        if command.silent:
            client.queue.drop_data()
        else:
            message = fit_text(command.message)
            client.queue.put(ClientClosed(client.client_id, command.reason, message))
        self._close_handles(client)
        if not client.running:
            self._run(client)

    def _close_handles(self, client: HostClient) -> None:
        mine = [
            handle
            for handle, owner in self._udmabufs.items()
            if owner == client.client_id
        ]
        for handle in mine:
            del self._udmabufs[handle]
        self._metrics.udmabufs_alive -= len(mine)
        self.handles.close_client(client.client_id)
        client.copy_buffers.clear()

    def _send_frame(self, frame: Frame) -> None:
        client = self.clients.get(getattr(frame, "client_id", 0))
        if client is None or not client.closed:
            self._outgoing.put(frame)

    def _trace(self, command: Trace, client: HostClient | None) -> None:
        if client is None or command.message.startswith(client.label):
            self._log.of_client(int(command.level), "%s", command.message)
        else:
            self._log.of_client(
                int(command.level), "%s: %s", client.label, command.message
            )


def classify(handle: Handle, fd: OwnedFd) -> ReceivedFd:
    """Say what an fd is, as far as the core needs to know."""
    status = os.fstat(fd.fileno())
    mode = status.st_mode
    direction = _direction(fd)
    # A file to be written, as a host app may give for a paste, has nothing to read.
    pasted_into = stat.S_ISREG(mode) and direction is Direction.TO_COMPOSITOR
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or pasted_into:
        return ReceivedFd(handle, FdKind.STREAM, 0, direction)
    if stat.S_ISREG(mode) and status.st_size <= MAX_FILE_SIZE:
        return ReceivedFd(handle, FdKind.FILE, status.st_size)
    return ReceivedFd(handle, FdKind.OTHER)


def _direction(fd: OwnedFd) -> Direction | None:
    match fcntl.fcntl(fd.fileno(), fcntl.F_GETFL) & os.O_ACCMODE:
        case os.O_WRONLY:
            return Direction.TO_COMPOSITOR
        case os.O_RDONLY:
            return Direction.TO_GUEST
        case _:
            return None
