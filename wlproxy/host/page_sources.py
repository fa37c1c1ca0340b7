"""Chooses the page source of a VM: the only place that knows all kinds there are."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from wlproxy.host.config import HostConfig
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice
from wlproxy.host.errors import GrantError
from wlproxy.host.pages import PageSource
from wlproxy.host.qemu.discovery import (
    check_ram_is_told,
    name_vmm,
    qemu_ram,
    tap_path,
)
from wlproxy.host.qemu.ram_pages import RamPages
from wlproxy.host.xen.domain import Domain, find_domain
from wlproxy.transport.fd_stream import FdStream

if TYPE_CHECKING:
    from wlproxy.host.xen.grant_pages import GrantPages


def check_pages_are_told(config: HostConfig) -> None:
    """Check that there is a way to the pages if the channel does not show one.

    Raises:
        GuestRamError: there is none.
    """
    if config.xen_domid is None:
        check_ram_is_told(config)


def page_source(
    config: HostConfig,
    udmabuf: Callable[[], UdmabufDevice | None],
    stream: FdStream,
) -> PageSource:
    """Find the pages of the VM behind a channel.  Blocks.

    Args:
        config: the user's.
        udmabuf: /dev/udmabuf as it is when something is to be shown.
        stream: the channel.

    Raises:
        HostError: they cannot be had; with the remedy.
    """
    if config.xen_domid is not None:
        return _granted(config, Domain(config.xen_domid))
    if domain := find_domain(stream.socket):
        return _granted(config, domain)
    if config.xen_gntdev is not None:
        raise GrantError(
            f"who is at {config.channel} does not say which domain of Xen's it serves",
            remedy="Name it with --xen-domid (`xl domid NAME`).",
        )
    return RamPages(qemu_ram(config, stream), udmabuf, tap_path(config))


def _granted(config: HostConfig, domain: Domain) -> "GrantPages":
    # Here, since most VMs are not Xen's, and it takes a while.
    from wlproxy.host.xen.gntdev import Gntdev  # noqa: PLC0415
    from wlproxy.host.xen.grant_pages import GrantPages  # noqa: PLC0415
    from wlproxy.host.xen.lending import LentGrants  # noqa: PLC0415

    lent = config.xen_gntdev
    return GrantPages(
        domain,
        Gntdev(domain.domid) if lent is None else LentGrants(lent),
        name_vmm(domain.pid).program if domain.pid else "",
        config.xen_grant_frames,
    )
