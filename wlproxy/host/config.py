"""What the user decided for one run of the proxy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wlproxy.host.channel_address import ChannelAddress
from wlproxy.host.policy_file import PolicySource
from wlproxy.protocol.channel.frames import Feature
from wlproxy.relay.wire.context import RelayConfig

GNTDEV: Final = Path("/dev/xen/gntdev")
"""Where guests' grants are mapped; where it is, a VM may be a domain of Xen's."""
MAX_DOMID: Final = 0x7FEF
"""The last domain of Xen's: below DOMID_FIRST_RESERVED (xen/interface/xen.h)."""
MAX_GRANT_FRAMES: Final = 1 << 14
"""As many frames of a grant table as have references for 32 GiB."""
DEFAULT_GRANT_FRAMES: Final = 64
"""Frames of a domain's grant table, unless `max_grant_frames` in its configuration says more
(Xen's gnttab_max_frames)."""


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Settings of `wlproxy run`.

    Attributes:
        channel: where the channel is, and who listens there.
        name: of the VM: in logs, window titles and the status socket's name.
        relay: what the core is to do.
        display: a WAYLAND_DISPLAY to use instead of the environment's.
        qemu_pid: QEMU's process, if it cannot be told from the socket (libvirt).
        ram_tap: the socket where `wlproxy ram-tap` tells where the RAM is, and is waited
            for; None: QEMU's process is looked into.
        ram_tap_if_there: where a tap would be, which is asked if it is there when the RAM
            is looked for.
        qmp: QEMU's monitor socket, for machines whose RAM map is not known.
        xen_domid: the domain of Xen's that the VM is, if that cannot be told from the
            channel's socket.
        xen_gntdev: the socket of who opens gntdev for us; None: we do.
        xen_grant_frames: of the domain's grant table, at most.
        policy_source: where the policy is from (`relay` has what was read).
        reloads: SIGHUP has the policy read again, rather than the proxy end.
        security_context: have the compositor know whose clients these are, if it can.
        once: end when QEMU closes the channel, rather than wait for its return.
        max_clients: how many apps of the guest are served at once.
        status: where the status socket is to be; None for none.
        exec: let this user's programs have commands started in the guest.
        confine: take from the proxy's process what it has no use for, where that can be.
    """

    channel: ChannelAddress
    name: str = "vm"
    relay: RelayConfig = field(default_factory=RelayConfig)
    display: str | None = None
    qemu_pid: int | None = None
    ram_tap: Path | None = None
    ram_tap_if_there: Path | None = None
    qmp: Path | None = None
    xen_domid: int | None = None
    xen_gntdev: Path | None = None
    xen_grant_frames: int = DEFAULT_GRANT_FRAMES
    policy_source: PolicySource = field(default_factory=PolicySource)
    reloads: bool = False
    security_context: bool = True
    once: bool = False
    max_clients: int = 256
    status: Path | None = None
    exec: bool = True
    confine: bool = True

    @property
    def features(self) -> Feature:
        """What agents are offered of what is not always."""
        return Feature.EXEC if self.exec else Feature.NONE
