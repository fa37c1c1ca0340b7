"""`wlproxy-guest-agent xen-vchan`: joins the agent with a vchan of Xen's, which it serves.

It runs as root, since whoever may write to XenStore may do anything to this domain; the agent is an ordinary
user, whose `--port` is the socket here.  The other end is `wlproxy xen-vchan`, in the host's domain.
"""

import logging
import os
import pwd
import socket
from contextlib import closing
from pathlib import Path
from typing import Final

from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.notify import notify
from wlproxy.transport.vchan import NODE, Library, LibraryVchan
from wlproxy.transport.vchan_bridge import Bridge
from wlproxy.transport.xenstore import Store

SOCKET: Final = Path("/run/wlproxy-vchan/socket")
USER: Final = "wlproxy"
MODE: Final = 0o600
REMEDY: Final = "modprobe -a xen-gntalloc xen-evtchn"

log = logging.getLogger(__name__)


class OwnVchans:
    """The vchans that this domain serves, one after the other (see `transport.vchan_bridge.Source`)."""

    def __init__(self, domid: int, library: Library) -> None:
        """Make none yet.

        Args:
            domid: for which domain.
            library: makes them.
        """
        self._domid = domid
        self._library = library

    def open(self) -> LibraryVchan:
        """See `Source`: the host may map it, now or later.

        Raises:
            OSError: no pages can be granted, or no event channel be had.
        """
        try:
            return self._library.serve(self._domid, NODE)
        except OSError as exc:
            text = f"{exc.strerror} for domain {self._domid}; as root: {REMEDY}"
            raise OSError(exc.errno, text) from exc

    def fileno(self) -> int:
        """See `Source`."""
        return -1

    def look(self) -> None:
        """See `Source`."""


def serve(path: Path, user: str, domid: int) -> str:
    """Join whoever connects with a vchan, until told to stop; return what failed.

    Args:
        path: of the socket.
        user: who may connect, besides root.
        domid: the domain at the other end.
    """
    try:
        uid = pwd.getpwnam(user).pw_uid
        library = Library()
        # What one that was killed has left leads nowhere, or to another grant.
        Store().remove(NODE)
        with closing(listen(path, uid)) as listener:
            log.info("the agent connects to %s, domain %d by a vchan", path, domid)
            notify("READY=1")
            try:
                Bridge(listener, {0, uid}, OwnVchans(domid, library)).run()
            finally:
                path.unlink(missing_ok=True)
    except KeyError:
        return f"there is no user {user}"
    except OSError as exc:
        return f"no vchan can be had: {exc}"


def listen(path: Path, uid: int) -> socket.socket:
    """Listen at a path, for a user.

    Raises:
        OSError: that cannot be.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with closed_on_error(listener):
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(MODE)
        os.chown(path, uid, -1)
        listener.listen()
    return listener
