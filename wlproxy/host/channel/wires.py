"""Chooses the wire for an address."""

from pathlib import Path

from wlproxy.host.channel.unix_wire import ConnectingWire, ListeningWire
from wlproxy.host.channel.vsock_wire import HybridVsockWire, VsockWire
from wlproxy.host.channel.wire import Wire
from wlproxy.host.channel_address import (
    ChannelAddress,
    HybridVsock,
    Listen,
    Vsock,
)


def make_wire(address: ChannelAddress, locks: Path | None, name: str) -> Wire:
    """Make the wire of a channel.  Arguments as `Wire`'s."""
    match address:
        case Listen():
            return ListeningWire(address, locks, name)
        case Vsock():
            return VsockWire(address, locks, name)
        case HybridVsock():
            return HybridVsockWire(address, locks, name)
        case Path():
            return ConnectingWire(address, locks, name)
