"""What XenStore tells of this domain: which of its consoles is the channel.

A domain's toolstack writes there what devices the domain has, and each channel of `xl.cfg` is a
console with a name (`device/console/N/name`).
"""

from pathlib import Path
from typing import Final

from wlproxy.transport.xenstore import DEVICE, DIRECTORY, READ, ask, open_store

HYPERVISOR_TYPE: Final = Path("/sys/hypervisor/type")
CONSOLES: Final = "device/console"
"""Relative to the domain's own directory."""
MAX_CONSOLES: Final = 64
"""That are looked at; hvc_console has 16."""


def in_xen_domain(kind: Path = HYPERVISOR_TYPE) -> bool:
    """Whether this machine is a domain of Xen's."""
    try:
        return kind.read_text(encoding="ascii", errors="replace").strip() == "xen"
    except OSError:
        return False


def find_console(name: str, device: Path = DEVICE) -> int | None:
    """Find the number of the console of that name; None: there is none.  Blocks for a moment.

    Raises:
        OSError: XenStore cannot be asked, by this user or at all.
    """
    with open_store(device) as store:
        try:
            found = ask(store, DIRECTORY, CONSOLES)
        except FileNotFoundError:
            return None
        for number in console_numbers(found):
            try:
                value = ask(store, READ, f"{CONSOLES}/{number}/name")
            except FileNotFoundError:
                continue
            if value.rstrip(b"\0") == name.encode():
                return number
    return None


def console_numbers(listing: bytes) -> list[int]:
    """Read which consoles there are, but for the first, which is no channel."""
    numbers = {
        int(each)
        for each in listing.decode("ascii", "replace").split("\0")
        if each.isascii() and each.isdecimal() and len(each) < 4
    }
    return sorted(numbers - {0})[:MAX_CONSOLES]
