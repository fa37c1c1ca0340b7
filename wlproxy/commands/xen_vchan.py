"""`wlproxy xen-vchan`: joins a channel's socket with a vchan of Xen's."""

from pathlib import Path

import click

from wlproxy.commands.failure import fail
from wlproxy.commands.listening import exit_at_signals, listening_for
from wlproxy.commands.options import LOG_LEVEL
from wlproxy.host.accounts import uid_of
from wlproxy.host.config import MAX_DOMID
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import set_up_logging
from wlproxy.host.runtime_dir import check_place
from wlproxy.host.xen.gntdev import open_device
from wlproxy.host.xen.vchan import DomainVchans
from wlproxy.transport.notify import notify
from wlproxy.transport.vchan import Library
from wlproxy.transport.vchan_bridge import Bridge
from wlproxy.transport.xenstore import DEVICE, Store


# Its own name and `--domid` are what `host.xen.domain` tells the domain by.
@click.command("xen-vchan")
@click.option(
    "--domid",
    type=click.IntRange(1, MAX_DOMID),
    required=True,
    help="The domain (`xl domid NAME`).",
)
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    help="Where `wlproxy run --channel` connects, in a directory that only root can write to.",
)
@click.option(
    "--user", required=True, help="Whose proxy may: a name, or a number; and root."
)
@LOG_LEVEL
def xen_vchan(*, domid: int, path: Path, user: str, log_level: str) -> None:
    """Join a channel's socket with a vchan of Xen's, which the guest serves.

    Run it as root, in dom0; `wlproxy-guest-agent xen-vchan` is the other end.  It needs no QEMU and
    no line in xl.cfg, and ends when the domain does.
    """
    set_up_logging(log_level)
    try:
        uid = uid_of(user)
        check_place(path)
        with (
            _vchans(domid) as vchans,
            listening_for(
                uid,
                path,
                "cannot make the channel's socket",
                "somebody serves this socket already",
            ) as listener,
            HostError.explaining("the vchan cannot be served", tried="libxenvchan"),
        ):
            exit_at_signals()
            notify("READY=1")
            Bridge(listener, {0, uid}, vchans).run()
    except HostError as exc:
        fail(exc)


def _vchans(domid: int) -> DomainVchans:
    """Get ready for a domain's vchans.

    Raises:
        HostError: this is not root of dom0, or it lacks something; with the remedy.
    """
    open_device().close()
    try:
        library = Library()
    except OSError as exc:
        raise HostError(
            "libxenvchan cannot be loaded", remedy=str(exc.strerror)
        ) from exc
    with HostError.explaining("XenStore cannot be asked", tried=f"open {DEVICE}"):
        return DomainVchans(domid, library, Store())
