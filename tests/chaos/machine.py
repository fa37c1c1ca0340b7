"""What stands in for QEMU where there is no guest: its RAM, and the channel's socket.

    python3 -m tests.chaos.machine DIRECTORY -machine q35

To the proxy it looks like QEMU: a memfd of QEMU's name and seals, mapped; its machine type
on the command line; and the socket that the channel is on, which is there all the while.
To the agent it looks like a port that hangs up when the host goes: `port` is listened at
only while a proxy is connected.  As with virtio-serial, a proxy is told nothing when the
agent goes, and what it sends then waits.
"""

import fcntl
import mmap
import os
import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import trio

RAM_SIZE = 512 << 20
SEALS = 0x1 | 0x2 | 0x4
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW: those of `memory-backend-memfd`."""
LOOK_AGAIN = 0.02
"""Seconds between looks whether an idle proxy is still there."""


def make_ram() -> tuple[int, mmap.mmap]:
    """Make the memory that the proxy looks for."""
    fd = os.memfd_create("memory-backend-memfd", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, RAM_SIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd, mmap.mmap(fd, RAM_SIZE)


def listen(path: Path) -> trio.SocketListener:
    """Listen at a path, in place of whoever died there."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen()
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


def hung_up(stream: trio.SocketStream) -> bool:
    """Whether nobody is at the other end; what was sent may still be unread."""
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


async def pump(
    source: trio.SocketStream, sink: trio.SocketStream, ended: Callable[[], None]
) -> None:
    """Pass bytes on until either end is gone."""
    try:
        while data := await source.receive_some(65536):
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    ended()


async def join(host: trio.SocketStream, agent: trio.SocketStream) -> None:
    """Be the wire between the two."""
    async with agent, trio.open_nursery() as nursery:
        ended = nursery.cancel_scope.cancel
        nursery.start_soon(pump, host, agent, ended)
        nursery.start_soon(pump, agent, host, ended)


async def watch(host: trio.SocketStream, gone: Callable[[], None]) -> None:
    """Notice that the proxy hangs up, also when nobody reads what it sends."""
    while not hung_up(host):  # noqa: ASYNC110 - nobody tells
        await trio.sleep(LOOK_AGAIN)
    gone()


async def serve_host(host: trio.SocketStream, port: Path) -> None:
    """Let one agent after the other have this proxy."""
    async with host, trio.open_nursery() as nursery:
        nursery.start_soon(watch, host, nursery.cancel_scope.cancel)
        async with listen(port) as listener:
            while True:
                await join(host, await listener.accept())


async def serve(directory: Path) -> None:
    """Be a machine until killed."""
    ram, _mapping = make_ram()
    link = directory / "ram"
    link.unlink(missing_ok=True)
    link.symlink_to(f"/proc/{os.getpid()}/fd/{ram}")
    async with listen(directory / "channel") as listener:
        while True:
            await serve_host(await listener.accept(), directory / "port")


if __name__ == "__main__":
    trio.run(serve, Path(sys.argv[1]))
