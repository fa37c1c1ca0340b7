"""Finds out which domain of Xen's is at the other end of a channel.

The toolstack starts a QEMU for a domain's channels, and tells it by `-xen-domid` whose they are; a vchan's
other end is a `wlproxy xen-vchan --domid`, which talks to no other domain.  Who listens at the channel's
socket the kernel says (SO_PEERCRED); that process's command line says the rest.  It is believed of root's processes and of our own user's only; and then the agent still
has to prove it, by a page of that domain (`grant_pages`).
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from wlproxy.host.config import MAX_DOMID
from wlproxy.host.errors import NotQemuError
from wlproxy.transport.peer import Credentials, peer_credentials

OPTIONS: Final = ("-xen-domid", "--xen-domid")
"""What QEMU is told the domain by (system/vl.c)."""
VCHAN: Final = "xen-vchan"
"""Our own program that joins a channel with a vchan (`commands.xen_vchan`)."""
VCHAN_OPTION: Final = "--domid"
"""What that one is told the domain by."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of Xen's.

    Attributes:
        domid: its number.
        pid: the process at the other end of its channel; 0 if that is not known.
    """

    domid: int
    pid: int = 0


def find_domain(channel: socket.socket, proc: Path = Path("/proc")) -> Domain | None:
    """Ask who is at the other end of a channel; None: it is not Xen's.

    Args:
        channel: connected.
        proc: where the kernel tells of processes.

    Raises:
        NotQemuError: it is said to be, by a process that is not to be believed.
    """
    if channel.family != socket.AF_UNIX:
        return None
    peer = peer_credentials(channel)
    if peer.pid <= 0:
        return None
    try:
        raw = (proc / str(peer.pid) / "cmdline").read_bytes()
    except OSError:
        return None
    domid = parse_domid(raw.decode(errors="replace").rstrip("\0").split("\0"))
    if domid is None:
        return None
    _check_trusted(peer, domid)
    return Domain(domid, peer.pid)


def parse_domid(arguments: Sequence[str]) -> int | None:
    """Read the domain off a command line, QEMU's or ours; the last one counts, as for them."""
    options: Sequence[str] = OPTIONS
    words = list(arguments[1:])
    if VCHAN in words:
        options = (VCHAN_OPTION,)
        # In ours, an option and its value may be one word.
        words = [part for word in words for part in word.split("=", 1)]
    found = None
    for option, value in pairwise(words):
        if option in options:
            found = as_domid(value)
    return found


def as_domid(text: str) -> int | None:
    """Read the number of a domain that is a guest; None: it is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_DOMID))):
        return None
    number = int(text)
    return number if 0 < number <= MAX_DOMID else None


def _check_trusted(peer: Credentials, domid: int) -> None:
    if peer.uid in (0, os.geteuid()):
        return
    raise NotQemuError(
        f"process {peer.pid} at the other end of the channel says that it serves "
        f"Xen's domain {domid}, and is user {peer.uid}'s",
        remedy=f"If it is, say so: --xen-domid {domid}",
    )
