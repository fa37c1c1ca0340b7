"""Judges the options of a QEMU by what its screen costs, before anybody has looked at it.

Only what is written on the command line is judged; nothing is started or read here.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from wlproxy.host.desktop.udmabuf_device import UdmabufLimits, limit_remedy
from wlproxy.host.doctor import SCATTERED_4K_ITEMS, Finding, Verdict

_ON: Final = frozenset({"on", "es", "core", "true", "yes"})
"""What QEMU takes for a yes; `gl=` has more of them."""


def check_blobs(arguments: Sequence[str], limits: UdmabufLimits) -> list[Finding]:
    """Judge whether a virtio-gpu's blobs can be shown.

    Args:
        arguments: of QEMU.
        limits: of its udmabuf driver.
    """
    blobs = display = False
    for option, value in pairwise(arguments):
        kind, *properties = value.split(",")
        settings = dict(each.partition("=")[::2] for each in properties)
        if option.lstrip("-") == "device" and kind.startswith(
            ("virtio-gpu", "virtio-vga")
        ):
            blobs |= settings.get("blob", "off") in _ON
        elif option.lstrip("-") == "display":  # the last one counts
            display = kind == "dbus" and settings.get("gl", "off") in _ON
    if not blobs:
        return []
    subject = "screen (blob=true)"
    if not display:
        return [
            Finding(
                subject,
                Verdict.WARNING,
                "without GL, QEMU sends every picture of the guest's as bytes, all of it",
                "Add gl=es,rendernode=/dev/dri/renderD128 to -display dbus, or leave out "
                "blob=true.",
            )
        ]
    if limits.list_limit < SCATTERED_4K_ITEMS:
        return [
            Finding(
                subject,
                Verdict.WARNING,
                f"a screen in more than {limits.list_limit} pieces of RAM stays black, and 4K "
                f"may be in {SCATTERED_4K_ITEMS}: udmabuf's list_limit",
                limit_remedy(limits, SCATTERED_4K_ITEMS),
            )
        ]
    return [Finding(subject, Verdict.OK, "QEMU hands over the guest's own RAM")]
