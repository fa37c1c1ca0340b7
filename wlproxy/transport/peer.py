"""Tells who is at the other end of a Unix socket.  No trio: the tap has none."""

import socket
import struct
from typing import Final, NamedTuple

_UCRED: Final = struct.Struct("iII")
"""struct ucred (unix(7)): pid, uid, gid."""


class Credentials(NamedTuple):
    """Whom the kernel saw connect, or listen.

    Attributes:
        pid: its process; 0 if that is not visible from here (another pid namespace).
        uid: its user, at that time.
        gid: its group, at that time.
    """

    pid: int
    uid: int
    gid: int


def peer_credentials(connected: socket.socket) -> Credentials:
    """Ask the kernel who is at the other end.

    Raises:
        OSError: the socket is not a connected Unix socket.
    """
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Credentials._make(_UCRED.unpack(raw))
