"""Waits, with udev's help, until /dev/udmabuf appears or becomes accessible.

A user may follow the proxy's advice while it runs: load the module, or add the rule.  The
proxy should then not have to be restarted.  Opening the device is the job of `udmabuf`.
"""

from pathlib import Path
from typing import Final

import pyudev
import trio

SUBSYSTEM: Final = "misc"
DEVICE: Final = "udmabuf"
UDEV_CONTROL: Final = Path("/run/udev/control")


class DeviceWatch:
    """Watches for events about the device from the moment it is made."""

    def __init__(self) -> None:
        """Begin to listen.

        Raises:
            ImportError: there is no libudev.
            OSError: the kernel does not let us listen.
        """
        # Without udevd only the kernel itself announces devices; with it, only
        # afterwards are they whose the rules say.
        source = "udev" if UDEV_CONTROL.exists() else "kernel"
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
        self._monitor.filter_by(SUBSYSTEM)
        self._monitor.start()

    async def wait(self) -> None:
        """Wait until something about the device has changed."""
        while True:
            await trio.lowlevel.wait_readable(self._monitor.fileno())
            while (device := self._monitor.poll(timeout=0)) is not None:
                if device.sys_name == DEVICE:
                    return
