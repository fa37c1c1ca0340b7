"""Tells systemd how the service is, by the datagrams of sd_notify(3)."""

import os
import socket
from contextlib import suppress


def notify(*assignments: str) -> None:
    """Send `READY=1`, `STATUS=...` and the like, if a service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract name
    # A manager that does not listen, or not now, misses it, as it does when no fd is
    # left to tell it with: nothing depends on it.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, address)
