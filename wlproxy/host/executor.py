"""Commands become syscalls here, and nowhere else.

`execute` never waits and never calls the core: what must be answered comes back as a
value, which `conductor` feeds in.  Pixels are copied in their turn, by `copy_some`.  A
client that has been closed takes no more commands.
"""

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from wlproxy.host.client import HostClient
from wlproxy.host.desktop.udmabuf import UdmabufDevice, UdmabufItem
from wlproxy.host.errors import HostError
from wlproxy.host.handle_table import HandleTable
from wlproxy.host.outgoing import Outgoing, fit_text
from wlproxy.host.pixels import Copy, CopyBuffer, PixelCopier
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.streams import Streams
from wlproxy.protocol.channel.frames import (
    MAX_FILE_SIZE,
    ClientClosed,
    CloseReason,
)
from wlproxy.protocol.errors import ChannelError
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
from wlproxy.relay.inputs import (
    BufferCreated,
    BufferFailed,
    ClientFailed,
    FdKind,
    ReceivedFd,
)
from wlproxy.transport.fds import OwnedFd

CANNOT = "the host could not do what this app needs; the log of its proxy says more"
"""What a guest is told of what the host could not do: errors tell of the host."""

SLOW_ITEMS = 256
"""Longer udmabuf lists are made in a thread: over 5 ms for thousands of items."""


@dataclass(frozen=True, slots=True)
class Slow:
    """To be given to `create_slowly`, in the background."""

    command: CreateUdmabuf


Answer = BufferCreated | BufferFailed


class Executor:
    """Carries out the commands of one session."""

    def __init__(
        self,
        outgoing: Outgoing,
        streams: Streams,
        ram: GuestRam,
        device: UdmabufDevice | None,
        metrics: Metrics,
        log: VmLog,
        run: Callable[[HostClient], None],
    ) -> None:
        """No client yet.

        Args:
            outgoing: where frames go.
            streams: the session's pipes.
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
        self._streams = streams
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

    def execute(self, command: Command) -> Answer | ClientFailed | Slow | None:
        """Carry out one command."""
        client_id = client_of(command)
        client = self.clients.get(client_id)
        if isinstance(command, Trace):
            self._trace(command, client)
            return None
        if client is None or client.closed:
            return None
        try:
            return self._execute(command, client)
        except HostError as exc:
            self._log.of_client(logging.WARNING, "%s: %s", client.label, exc)
            return ClientFailed(client_id, CloseReason.FAILED, CANNOT)

    def close_client(self, command: CloseClient) -> None:
        """End a client, whatever the core knows of it.  Again: nothing happens."""
        client = self.clients.get(command.client_id)
        if client is None or client.closed:
            return
        try:
            with suppress(ChannelError):  # who broke its windows has its data for it
                client.pass_on(self._streams, wait=False)
            client.close(command)
            self._streams.client_left(client.client_id)
            for stream_id in client.unclaimed:
                self._streams.refuse(client.client_id, stream_id)
            if command.silent:
                client.queue.drop_data()
            else:
                message = fit_text(command.message)
                client.queue.put(
                    ClientClosed(client.client_id, command.reason, message)
                )
            self._close_handles(client)
        finally:
            if not client.running:
                self._run(client)

    def _execute(  # noqa: C901, PLR0912 - one flat table
        self,
        command: SendFrame
        | GrantCredit
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
            case SendFrame(frame=frame):
                self._outgoing.put(frame)
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
            case CreateStream():
                self._create_stream(command, client)
            case AdoptStream(stream_id=stream_id, handle=handle):
                fd = self.handles.take(client.client_id, handle)
                self._streams.adopt(client.client_id, stream_id, fd, command.direction)
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
                self.close_client(command)
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
                        self._ram.files[item.file].fileno(), item.offset, item.length
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
        client.to_compositor.drop()  # it may have ended without having been closed
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

    def _create_stream(self, command: CreateStream, client: HostClient) -> None:
        client.unclaimed.discard(command.stream_id)
        end = self._streams.create(
            client.client_id,
            command.stream_id,
            command.direction,
            usable=command.usable,
        )
        self.handles.add(client.client_id, command.handle, end)

    def _close_handle(self, client: HostClient, handle: Handle) -> None:
        if handle in self._creating:
            self._discarded.add(handle)
            return
        if self._udmabufs.pop(handle, None) is not None:
            self._metrics.udmabufs_alive -= 1
        self.handles.close(client.client_id, handle)
        client.copy_buffers.pop(handle, None)

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

    def _trace(self, command: Trace, client: HostClient | None) -> None:
        if client is None or command.message.startswith(client.label):
            self._log.of_client(int(command.level), "%s", command.message)
        else:
            self._log.of_client(
                int(command.level), "%s: %s", client.label, command.message
            )


def client_of(command: Command) -> int:
    """Say whose a command is; 0: nobody's."""
    if isinstance(command, SendFrame):
        return getattr(command.frame, "client_id", 0)
    return command.client_id


def classify(handle: Handle, fd: OwnedFd) -> ReceivedFd:
    """State what can be seen of an fd, for what its message does not say."""
    status = os.fstat(fd.fileno())
    mode = status.st_mode
    direction = _direction(fd)
    # A file that is only to be written has nothing to read.
    write_only = direction is Direction.TO_COMPOSITOR and stat.S_ISREG(mode)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or write_only:
        return ReceivedFd(handle, FdKind.STREAM, 0, direction)
    if stat.S_ISREG(mode) and status.st_size <= MAX_FILE_SIZE:
        return ReceivedFd(handle, FdKind.FILE, status.st_size)
    return ReceivedFd(handle, FdKind.OTHER, 0, direction)


def _direction(fd: OwnedFd) -> Direction | None:
    match fcntl.fcntl(fd.fileno(), fcntl.F_GETFL) & os.O_ACCMODE:
        case os.O_WRONLY:
            return Direction.TO_COMPOSITOR
        case os.O_RDONLY:
            return Direction.TO_GUEST
        case _:
            return None
