"""Asks the tap (`host.vhost_user`) where the guest's RAM is, and hears when that changes."""

import errno
import socket
from pathlib import Path
from typing import Final

from wlproxy.host.errors import GuestRamError, GuestRamNotYetError
from wlproxy.host.vhost_user.table import MAX_FILES, MAX_PACKET, Table, decode
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import receive_fds

ANSWER_SECONDS: Final = 1.0
"""For the tap to send its first table; one that does not is asked again, or stopped."""
_REMEDY: Final = (
    "Is `wlproxy ram-tap` running, with the name of this VM?  It is to be started before "
    "the VM, and to be kept running (wlproxy-ram@.service)."
)
_AWAY: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)
"""Nobody listens: not yet, not any more; or whoever does is stopped."""


class TapClient(Closing):
    """A connection to the tap."""

    def __init__(self, path: Path) -> None:
        """Connect.

        Raises:
            GuestRamNotYetError: no tap listens there, or it is stopped.
            GuestRamError: it cannot be connected to, and waiting would not help.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with closed_on_error(self._socket):
            self._socket.settimeout(ANSWER_SECONDS)
            try:
                self._socket.connect(str(path))
            except OSError as exc:
                # A time-out has no number.
                away = exc.errno is None or exc.errno in _AWAY
                kind = GuestRamNotYetError if away else GuestRamError
                raise kind(
                    "there is no tap that could be asked for the guest's RAM",
                    tried=f"connect {path}",
                    errno=exc.errno or errno.ETIMEDOUT,
                    remedy=_REMEDY,
                ) from exc

    def fileno(self) -> int:
        """To wait for the next table."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def receive(self) -> Table:
        """Read a table.  Blocks until there is one.

        Raises:
            GuestRamNotYetError: the tap has hung up, or sends none.
            GuestRamError: what comes is none.
        """
        try:
            data, files, flags = receive_fds(self._socket, MAX_PACKET, MAX_FILES)
        except OSError as exc:
            raise GuestRamNotYetError(
                "the RAM's tap does not answer",
                tried="recvmsg",
                errno=exc.errno or errno.ETIMEDOUT,
                remedy=_REMEDY,
            ) from exc
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for file in files:
                file.close()
            raise GuestRamError(
                "the table of the guest's RAM did not come whole",
                remedy="Has the proxy too few fds? (`ulimit -n`)",
            )
        if not data:
            raise GuestRamNotYetError("the RAM's tap has hung up", remedy=_REMEDY)
        return decode(data, files)
