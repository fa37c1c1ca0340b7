"""Asks the tap (`host.vhost_user`) where the guest's RAM is, and hears when that changes."""

import socket
from pathlib import Path
from typing import Final

from wlproxy.host.errors import GuestRamError
from wlproxy.host.vhost_user.table import MAX_FILES, MAX_PACKET, Table, decode
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import OwnedFd

ANSWER_SECONDS: Final = 5.0
"""For the tap to send its first table."""


class TapClient(Closing):
    """A connection to the tap."""

    def __init__(self, path: Path) -> None:
        """Connect.

        Raises:
            GuestRamError: no tap listens there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connecting = GuestRamError.explaining(
            "the guest's RAM cannot be asked for",
            tried=f"connect {path}",
            remedy="Start `wlproxy ram-tap` first, with the name of this VM.",
        )
        with closed_on_error(self._socket), connecting:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.connect(str(path))

    def fileno(self) -> int:
        """To wait for the next table."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def receive(self) -> Table | None:
        """Read a table; None if the tap has hung up.  Blocks until there is one.

        Raises:
            GuestRamError: none comes, or what comes is none.
        """
        with GuestRamError.explaining("the RAM's tap does not answer", tried="recvmsg"):
            data, fds, flags, _ = socket.recv_fds(
                self._socket, MAX_PACKET, MAX_FILES, socket.MSG_CMSG_CLOEXEC
            )
        files = [OwnedFd(fd) for fd in fds]
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for file in files:
                file.close()
            raise GuestRamError(
                "the table of the guest's RAM did not come whole",
                remedy="Has the proxy too few fds? (`ulimit -n`)",
            )
        return decode(data, files) if data else None
