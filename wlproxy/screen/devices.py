"""What QEMU's monitor says of a machine's devices, where its display does not."""

from pathlib import Path
from typing import Final

from wlproxy.host.qemu.qmp import QmpClient

TOUCHSCREEN: Final = "virtio-multitouch"
"""How the names of all touchscreens begin that QEMU has."""


def has_touchscreen(path: Path) -> bool:
    """Tell whether a machine has a touchscreen.  Blocks.

    QEMU's display says of every screen that it can be touched.

    Raises:
        QmpError: the monitor cannot be reached.
    """
    with QmpClient(path) as monitor:
        tree = monitor.execute(
            "human-monitor-command", **{"command-line": "info qtree"}
        )
    return isinstance(tree, str) and f"dev: {TOUCHSCREEN}" in tree
