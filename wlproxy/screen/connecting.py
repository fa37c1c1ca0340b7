"""How one gets to QEMU's display: sockets, and whose they are."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

from wlproxy.host.errors import HostError, QmpError
from wlproxy.host.qemu.qmp import QmpClient
from wlproxy.protocol.dbus.auth import client_half
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import OwnedFd

_CREDENTIALS: Final = struct.Struct("iII")
"""`struct ucred`: process, user, group."""

_FD_NAME: Final = "wlproxy-screen"

_REMEDY: Final = (
    "Start QEMU with the options that `wlproxy qemu-args --screen` prints. Its module for "
    "that is ui-dbus.so (Debian: qemu-system-modules-opengl)."
)


class NoScreenError(HostError):
    """The machine's screen cannot be had."""


def connect_by_monitor(path: Path) -> socket.socket:
    """Have QEMU's monitor take one end of a socket for its display; return ours.

    Whoever was connected to the display before is not any more.  Blocks.

    Raises:
        QmpError: the monitor cannot be reached.
        NoScreenError: QEMU has no display of that kind.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    # The monitor serves one at a time: hung up as soon as it can be.
    with closed_on_error(ours), theirs, QmpClient(path) as monitor:
        monitor.pass_fd(_FD_NAME, theirs.fileno())
        display = {"protocol": "@dbus-display", "fdname": _FD_NAME}
        try:
            monitor.execute("add_client", **display)
        except QmpError as exc:
            raise NoScreenError(
                f"this QEMU has no display for us: {exc.problem}",
                tried="add_client @dbus-display",
                remedy=_REMEDY,
            ) from exc
    return ours


def adopt(number: int) -> socket.socket:
    """Take over a socket to QEMU's display that was passed to this process.

    Raises:
        NoScreenError: it is no socket.
    """
    adopting = NoScreenError.explaining(
        f"fd {number} is no socket to a display", tried="getsockopt SO_PEERCRED"
    )
    with adopting:
        sock = socket.socket(fileno=number)
        with closed_on_error(sock):
            sock.set_inheritable(False)
            owner(sock)
    return sock


def owner(sock: socket.socket) -> int:
    """Tell whose a socket is to the other end: whoever made the pair, not who has it.

    Raises:
        OSError: it is no Unix socket.
    """
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(found)[1]
    return user


def listener_pair() -> tuple[socket.socket, OwnedFd]:
    """Make a socket for QEMU to call at: our end, and QEMU's.

    What a client says first is in it already, since QEMU waits for that and does nothing
    else meanwhile.

    Raises:
        NoScreenError: there are too many fds.
    """
    with NoScreenError.explaining("no socket can be made", tried="socketpair"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        qemus = OwnedFd(theirs.detach())
        with closed_on_error(ours, qemus):
            ours.sendall(client_half(os.getuid()))
    return ours, qemus
