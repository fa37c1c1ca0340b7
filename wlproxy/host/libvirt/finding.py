"""Finds channel and RAM of a domain, or says what stands in the way.

What stands in the way is told before it would fail, since the kernel's own words for it (EACCES,
on a file of /proc) do not say what to do.
"""

import grp
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wlproxy.host.channel_address import Listen
from wlproxy.host.errors import GuestRamError, HostError
from wlproxy.host.libvirt.domain import Domain
from wlproxy.host.runtime_dir import table_path


@dataclass(frozen=True, slots=True)
class Found:
    """What a proxy is to be told.

    Attributes:
        channel: where it connects, or listens.
        ram_tap: where the tap tells; None: QEMU's process is looked into.
    """

    channel: Path | Listen
    ram_tap: Path | None


def group_name(gid: int) -> str:
    """Name a group, by its number if it has no name."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def group_to_let_in(domain: Domain) -> str | None:
    """Name the group that its QEMU connects to us as; None: it is this very user."""
    user, group = domain.owner
    return None if user == os.geteuid() else group_name(group)


def tap_command(domain: Domain, name: str, socket: Path) -> str:
    """Write the command that a tap is started by."""
    group = group_to_let_in(domain)
    let_in = f" --group {group}" if group else ""
    return f"wlproxy ram-tap --name {name} --socket {socket}{let_in}"


def is_ours(domain: Domain) -> bool:
    """Tell whether its QEMU runs as this user and group, and so may be looked into."""
    return domain.owner == (os.geteuid(), os.getegid())


def find(domain: Domain, environ: Mapping[str, str], name: str) -> Found:
    """Find channel and RAM.

    Args:
        domain: whose.
        environ: says where the tap of that name tells.
        name: of the VM.

    Raises:
        HostError: they cannot be had as the domain is; with the remedy.
    """
    setup = f"Let wlproxy change it: wlproxy setup {options(domain)}"
    if domain.running:
        setup += " (then shut it down and start it: as it runs it stays as it is)"
    if not domain.is_shared:
        raise GuestRamError(
            f"domain {domain.name} does not share its RAM", remedy=setup
        )
    if domain.root.first("memoryBacking/hugepages") is not None:
        raise GuestRamError(
            f"domain {domain.name} has huge pages, of which no dma-bufs are made",
            remedy="Take <hugepages/> out of its <memoryBacking> (`virsh edit`).",
        )
    _check_label(domain)
    channel = _channel(domain, setup)
    return Found(channel, _tap(domain, environ, name, setup))


def _channel(domain: Domain, setup: str) -> Path | Listen:
    """Say where the channel is.

    Raises:
        HostError: there is none, or it is another user's.
    """
    device = domain.channel
    if device is None:
        raise HostError(f"domain {domain.name} has no channel for us", remedy=setup)
    path = device.get("source", "path")
    if not path:
        raise HostError(
            f"where the channel of domain {domain.name} is, libvirt says when it runs",
            remedy=f"Start it, or have it always at one place: {setup}",
        )
    user, _ = domain.owner
    if device.get("source", "mode") == "connect":
        return Listen(Path(path), group_to_let_in(domain))
    if user != os.geteuid():
        raise HostError(
            f"libvirt makes the channel's socket for QEMU's user alone ({user}), and wlproxy "
            f"runs as {os.geteuid()}, who cannot connect to it",
            tried=f"connect {path}",
            remedy=f"Have QEMU connect to wlproxy instead. {setup}",
        )
    return Path(path)


def _tap(
    domain: Domain, environ: Mapping[str, str], name: str, setup: str
) -> Path | None:
    """Say where the tap tells of the RAM; None if QEMU's process may be looked into.

    Raises:
        HostError: it does not run, or there should be one.
    """
    table = table_path(environ, name)
    taps = domain.taps
    if taps and table.is_socket():
        return table
    if domain.has_own_tap:
        raise GuestRamError(
            f"domain {domain.name} tells a tap where its RAM is, and none runs",
            tried=f"connect {table}",
            remedy=f"Start it, before the VM: {tap_command(domain, name, taps[0])}",
        )
    if domain.is_in_pieces:
        raise GuestRamError(
            f"the RAM of domain {domain.name} is in pieces (NUMA nodes or DIMMs), and where "
            "each of them goes, libvirt's QEMU does not tell us",
            remedy=f"Have a tap told, with --ram-tap. {setup}",
        )
    _check_owner(domain, setup)
    return None


def _check_owner(domain: Domain, setup: str) -> None:
    """Check that QEMU's process may be looked into.

    Raises:
        GuestRamError: it is another user's, or of another group.
    """
    user, group = domain.owner
    if user != os.geteuid():
        raise GuestRamError(
            f"QEMU runs as user {user}, and wlproxy as {os.geteuid()}, which may not look "
            "into its process (being in its group does not help)",
            remedy=f"Have a tap told where the RAM is. {setup}",
        )
    if group != os.getegid():
        raise GuestRamError(
            f"QEMU runs as this user ({user}), but its group is {group} and not "
            f"{os.getegid()}, and the kernel wants both to be the same",
            remedy="In /etc/libvirt/qemu.conf name the group as well as the user: group = "
            f'"+{os.getegid()}", and restart libvirt\'s daemon. Or have a tap told where '
            f"the RAM is. {setup}",
        )


def _check_label(domain: Domain) -> None:
    """Check that a domain that has a label of its own can be started.

    Raises:
        HostError: it cannot, as libvirt keeps its files for the user of all others.
    """
    label = domain.own_label
    if label is None or domain.running:
        return
    raise HostError(
        f"domain {domain.name} has a <seclabel> of its own (user {label[0]}, group "
        f"{label[1]}), who cannot get at the files that libvirt keeps for QEMU's usual user "
        "(/var/lib/libvirt/qemu), so that it does not start",
        remedy="Take the <seclabel model='dac'> out (`virsh edit`), and let wlproxy have the "
        f"channel and the RAM of another user's QEMU: wlproxy setup {options(domain)}",
    )


def options(domain: Domain) -> str:
    """Write which domain it is, for a command."""
    return shlex.join(["--libvirt", domain.name, "--connect", domain.virsh.uri])
