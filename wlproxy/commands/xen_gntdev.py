"""`wlproxy xen-gntdev`: opens Xen's gntdev for a proxy that may not."""

from pathlib import Path

import click

from wlproxy.commands.failure import fail
from wlproxy.commands.listening import exit_at_signals, listening_for
from wlproxy.commands.options import LOG_LEVEL
from wlproxy.host.accounts import uid_of
from wlproxy.host.config import MAX_DOMID
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog, set_up_logging
from wlproxy.host.runtime_dir import check_place
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
        with listening_for(
            uid,
            path,
            "cannot make the socket",
            "somebody opens gntdev for this socket already",
        ) as listener:
            exit_at_signals()
            notify("READY=1")
            while True:
                connection, _ = listener.accept()
                with connection:
                    if wrong := lend(connection, granted, {0, uid}):
                        log.warning("%s", wrong)
    except HostError as exc:
        fail(exc)
