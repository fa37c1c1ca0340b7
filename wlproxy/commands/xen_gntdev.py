"""`wlproxy xen-gntdev`: opens Xen's gntdev for a proxy that may not."""

import os
import pwd
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

import click

from wlproxy.commands.failure import fail
from wlproxy.commands.options import LOG_LEVEL
from wlproxy.host.config import MAX_DOMID
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog, set_up_logging
from wlproxy.host.runtime_dir import check_place, listen_at
from wlproxy.host.xen.gntdev import Gntdev
from wlproxy.host.xen.lending import lend
from wlproxy.transport.notify import notify


@click.command("xen-gntdev")
@click.option(
    "--domid",
    type=click.IntRange(1, MAX_DOMID),
    required=True,
    help="The domain, whose grants alone are mapped (`xl domid NAME`).",
)
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    help="Where `wlproxy run --xen-gntdev` asks, in a directory that only root can write to.",
)
@click.option(
    "--user", required=True, help="Whose proxy may ask: a name, or a number; and root."
)
@LOG_LEVEL
def xen_gntdev(*, domid: int, path: Path, user: str, log_level: str) -> None:
    """Open Xen's gntdev for a proxy that may not, and for one domain's grants.

    Run it as root.  It makes a fd of the pages that a proxy asks for, and passes that on; a proxy
    serves without it if its user may open /dev/xen/gntdev.
    """
    set_up_logging(log_level)
    log = VmLog(f"domain {domid}")
    try:
        uid = uid_of(user)
        check_place(path)
        granted = Gntdev(domid)
        log.info("at most %d pages in a fd", granted.limit())
        listener = listen_at(
            path,
            socket.SOCK_STREAM,
            "cannot make the socket",
            "somebody opens gntdev for this socket already",
        )
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _stop)
        try:
            with HostError.explaining("cannot let the user in", tried=f"chown {path}"):
                os.chown(path, uid, -1)
            notify("READY=1")
            while True:
                connection, _ = listener.accept()
                with connection:
                    if wrong := lend(connection, granted, {0, uid}):
                        log.warning("%s", wrong)
        finally:
            path.unlink(missing_ok=True)
            listener.close()
    except HostError as exc:
        fail(exc)


def _stop(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def uid_of(user: str) -> int:
    """Find a user's number.

    Raises:
        HostError: there is no such user.
    """
    if user.isascii() and user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise HostError(f"there is no user {user}") from None
