"""Chooses the page source of a VM: the only place that knows all kinds there are."""

from collections.abc import Callable

from wlproxy.host.config import HostConfig
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice
from wlproxy.host.pages import PageSource
from wlproxy.host.qemu.discovery import qemu_ram, tap_path
from wlproxy.host.qemu.ram_pages import RamPages
from wlproxy.transport.fd_stream import FdStream


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
    return RamPages(qemu_ram(config, stream), udmabuf, tap_path(config))
