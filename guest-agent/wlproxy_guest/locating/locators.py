"""Chooses how memory is located on this machine: the only place that knows all ways there are."""

from pathlib import Path

from wlproxy_guest.locating.grant_locator import GrantLocator
from wlproxy_guest.locating.module_locator import ModuleLocator
from wlproxy_guest.xenstore import HYPERVISOR_TYPE, in_xen_domain


def make_locator(kind: Path = HYPERVISOR_TYPE) -> GrantLocator | ModuleLocator:
    """Make the locator for this machine.

    Args:
        kind: which hypervisor it runs on.

    Raises:
        OSError: there is no /proc.
    """
    return GrantLocator() if in_xen_domain(kind) else ModuleLocator()
