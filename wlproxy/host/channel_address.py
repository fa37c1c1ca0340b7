"""Where the channel of a VM is, and which side listens there.

`host.channel` connects or listens; here are plain values, and how a user writes them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_U32: Final = 0xFFFF_FFFF
"""VMADDR_CID_ANY and VMADDR_PORT_ANY: any, and so none that one can connect to."""
FIRST_CID: Final = 3
"""The first that a guest can have (vsock(7)): below are hypervisor, this machine, and host."""
LOCAL_CID: Final = 1
"""VMADDR_CID_LOCAL: an agent on this very machine, which tests have."""

_VSOCK: Final = re.compile(r"vsock:([0-9]{1,10}):([0-9]{1,10})")
_HYBRID: Final = re.compile(r"hvsock:(.+):([0-9]{1,10})")


@dataclass(frozen=True, slots=True)
class Listen:
    """A Unix socket where the proxy waits for QEMU.

    Attributes:
        path: of the socket, which is made.
        group: whose members may connect, too; None: none.
    """

    path: Path
    group: str | None = None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Vsock:
    """A port of the guest's, reached by AF_VSOCK; the agent listens there.

    Attributes:
        cid: the guest's context id.
        port: of the agent.
    """

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock:{self.cid}:{self.port}"


@dataclass(frozen=True, slots=True)
class HybridVsock:
    """A port of the guest's, reached by a Unix socket of the VMM's; the agent listens there.

    Attributes:
        path: of the VMM's socket (Firecracker's `uds_path`, cloud-hypervisor's `socket=`).
        port: of the agent.
    """

    path: Path
    port: int

    def __str__(self) -> str:
        return f"hvsock:{self.path}:{self.port}"


ChannelAddress = Path | Listen | Vsock | HybridVsock
"""A path alone is a Unix socket where QEMU listens."""


def parse_channel(text: str) -> Path | Vsock | HybridVsock:
    """Read what `--channel` takes: a path, `vsock:CID:PORT` or `hvsock:PATH:PORT`.

    Raises:
        ValueError: it begins like a vsock, and is none.
    """
    if found := _HYBRID.fullmatch(text):
        return HybridVsock(Path(found[1]), _checked_port(found[2]))
    if found := _VSOCK.fullmatch(text):
        cid = int(found[1])
        if cid != LOCAL_CID and not FIRST_CID <= cid < MAX_U32:
            raise ValueError(f"no guest has the CID {cid}: they begin with {FIRST_CID}")
        return Vsock(cid, _checked_port(found[2]))
    if text.startswith(("vsock:", "hvsock:")):
        raise ValueError(f"{text!r} is neither vsock:CID:PORT nor hvsock:PATH:PORT")
    return Path(text)


def advise(address: ChannelAddress) -> str:
    """Say what to look at if nobody is at the other end."""
    match address:
        case Listen(path=path):
            return (
                f"no QEMU connects to {path}. Does the VM run, with the options of "
                f"`wlproxy qemu-args --listen {path}`, and may it go to that directory?"
            )
        case Vsock(port=port):
            return (
                f"nobody listens at {address}. Does the VM run, with a vsock of that CID "
                f"(vhost-vsock-pci,guest-cid=), and in it `wlproxy-guest-agent --vsock "
                f"{port}`? The agent talks to one host at a time: does another proxy?"
            )
        case HybridVsock(port=port):
            return (
                f"nobody listens at {address}. Does the VM run, with a vsock whose socket "
                f"is there, and in it `wlproxy-guest-agent --vsock {port}`? The agent "
                "talks to one host at a time: does another proxy?"
            )
        case _:
            return (
                f"nobody listens at {address}. Does the VM run, with the options of "
                f"`wlproxy qemu-args --channel {address}`?"
            )


def _checked_port(text: str) -> int:
    port = int(text)
    if not 0 < port < MAX_U32:
        raise ValueError(f"{port} is no port of a vsock")
    return port
