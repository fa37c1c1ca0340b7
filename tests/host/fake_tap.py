"""A tap that tells a proxy what the test wants, and RAM to tell of."""

import fcntl
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from wlproxy.host.vhost_user.messages import MemoryRegion
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.table import encode
from wlproxy.transport.fds import OwnedFd

PAGE = 4096


def memory(closing: ExitStack, pages: int = 4, seals: int = 7) -> OwnedFd:
    fd = OwnedFd(os.memfd_create("memory-backend-memfd", os.MFD_ALLOW_SEALING))
    closing.enter_context(fd)
    os.ftruncate(fd.fileno(), pages * PAGE)
    fcntl.fcntl(fd.fileno(), 1033, seals)
    return fd


class FakeTap:
    """A tap that says what the test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.settimeout(10)

    def accept(self) -> socket.socket:
        return self.listener.accept()[0]

    def serve(self, *regions: tuple[int, int, OwnedFd]) -> None:
        """Tell one proxy, and hang up."""
        with self.accept() as proxy:
            self.tell(proxy, *regions)

    def close(self) -> None:
        self.listener.close()
        self.path.unlink()

    @staticmethod
    def tell(
        proxy: socket.socket, *regions: tuple[int, int, OwnedFd], pid: int = 7
    ) -> None:
        with Ram() as ram:
            for gpa, pages, file in regions:
                region = MemoryRegion(gpa, pages * PAGE, gpa, 0)
                ram.add(region, file.duplicate())
            packet = encode(pid, ram)
            socket.send_fds(proxy, [packet.data], packet.fds)
