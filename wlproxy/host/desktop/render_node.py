"""Finds a DRM device that QEMU can have its GL on, to hand pictures over as dma-bufs."""

import os
import stat
from pathlib import Path
from typing import Final

from wlproxy.host.desktop.udmabuf_device import DEFAULT_DEVICE

DRI: Final = Path("/dev/dri")


def usable_render_node(
    directory: Path = DRI, udmabuf: Path = DEFAULT_DEVICE
) -> Path | None:
    """Return the first render node that this user may use; None: there is none.

    None as well if this user may not use udmabuf, of which QEMU makes its dma-bufs: it would not
    start with `blob=true`.

    Args:
        directory: where DRM devices are.
        udmabuf: the device.
    """
    if not _usable(udmabuf):
        return None
    return next(filter(_usable, sorted(directory.glob("renderD*"))), None)


def _usable(device: Path) -> bool:
    try:
        is_device = stat.S_ISCHR(device.stat().st_mode)
    except OSError:
        return False
    return is_device and os.access(device, os.R_OK | os.W_OK)
