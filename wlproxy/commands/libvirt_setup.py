"""`wlproxy setup --libvirt`: changes a VM of libvirt's so that wlproxy works with it."""

import difflib
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from wlproxy.commands.failure import fail
from wlproxy.commands.offering import offer
from wlproxy.host.channel_address import Listen
from wlproxy.host.config_file import ConfigFile, default_path
from wlproxy.host.errors import HostError
from wlproxy.host.libvirt.domain import Domain, parse_domain, read_domain
from wlproxy.host.libvirt.finding import (
    group_to_let_in,
    is_ours,
    options,
    tap_command,
)
from wlproxy.host.libvirt.setup import Wanted, adapt
from wlproxy.host.libvirt.virsh import find_libvirt
from wlproxy.host.repairs import INSTALLED_UNITS, Repair
from wlproxy.host.runtime_dir import channel_path, check_name, vm_name, vmm_path

RULES: Final = Path("/etc/apparmor.d/abstractions/libvirt-qemu.d/wlproxy-sockets")
"""What AppArmor's profile of each VM includes; the Debian package has it, too."""
LISTEN_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1
SERVICE: Final = "wlproxy.service"
"""Serves all VMs that have a table in the configuration file."""


def set_up_domain(
    domain: str,
    *,
    connect: str | None,
    name: str | None,
    ram_tap: bool | None,
    directory: Path | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Give a VM of libvirt's shared RAM, and a channel.

    Shows what changes in its XML, asks, and has libvirt define it.  Then it offers, one after the
    other, the commands that are needed on this host.
    """
    try:
        virsh = find_libvirt(domain, connect, os.environ)
        found = read_domain(virsh, domain)
        name = check_name(name or vm_name(domain))
        secret = ("--inactive", "--security-info")  # else passwords would be lost
        before = virsh.ask("dumpxml", "--domain", domain, *secret)
        stopped = replace(found, root=parse_domain(before))
        wanted = _wanted(stopped, name, ram_tap=ram_tap, directory=directory)
        after = adapt(before, wanted)
        if after == before:
            click.echo(f"{domain} has all that it needs.")
        else:
            click.echo("".join(_difference(before, after)), nl=False)
            if not yes and not dry_run:
                click.confirm(f"Define {domain} so?", abort=True)
            if not dry_run:
                virsh.ask("define", "/dev/stdin", given=after)
                click.echo(f"{domain} is defined.")
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    except HostError as exc:
        fail(exc)
    for repair in host_repairs(found, name, wanted):
        offer(repair, yes=yes, dry_run=dry_run)
    try:
        served = _have_served(found, name, wanted, yes=yes, dry_run=dry_run)
    except HostError as exc:
        fail(exc)
    for step in _steps(found, name, wanted, changed=after != before, served=served):
        click.echo(step)


def _have_served(
    domain: Domain, name: str, wanted: Wanted, *, yes: bool, dry_run: bool
) -> bool:
    """Offer a service for a VM that has none; tell whether it has one now.

    Raises:
        HostError: the configuration file is wrong, or the service does not serve.
    """
    if is_served(name, os.environ):
        return True
    service = service_repair(domain, name, wanted, os.environ)
    if service is None or not offer(service, yes=yes, dry_run=dry_run):
        return False
    if not listens(wanted):
        raise HostError(
            f"the service does not listen for {domain.name} yet, so that it cannot start",
            remedy=f"Its log says more: journalctl --user -u {SERVICE}",
        )
    return True


def _wanted(
    domain: Domain, name: str, *, ram_tap: bool | None, directory: Path | None
) -> Wanted:
    """Say what the domain is to have; where it has a channel that will do, that."""
    channel: Path | Listen
    if is_ours(domain) and directory is None:
        channel = channel_path(os.environ, name)
        tap = vmm_path(os.environ, name)
    else:
        directory = directory or Path(f"/var/lib/wlproxy-{name}")
        channel, tap = Listen(directory / "channel"), directory / "ram"
    device = domain.channel
    if device is not None and (path := device.get("source", "path")):
        if device.get("source", "mode") == "connect":
            channel = Listen(Path(path))
        elif is_ours(domain):
            channel = Path(path)
    if domain.has_own_tap:
        tap = domain.taps[0]
    elif ram_tap is None:
        grows = domain.root.first("maxMemory") is not None
        ram_tap = not is_ours(domain) or domain.is_in_pieces or grows
    return Wanted(channel, tap if ram_tap or domain.has_own_tap else None)


def _difference(before: str, after: str) -> Iterator[str]:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return difflib.unified_diff(old, new, "as it is", "for wlproxy", n=2)


def listens(wanted: Wanted, seconds: float = LISTEN_SECONDS) -> bool:
    """Wait until a service that has just been started has the sockets that QEMU connects to.

    libvirt starts no VM before they are there, and the service is up a moment before its VMs are.
    """
    sockets = [] if wanted.ram_tap is None else [wanted.ram_tap]
    if isinstance(wanted.channel, Listen):
        sockets.append(wanted.channel.path)
    deadline = time.monotonic() + seconds
    while not all(each.is_socket() for each in sockets):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def host_repairs(
    domain: Domain, name: str, wanted: Wanted, rules: Path = RULES
) -> Iterator[Repair]:
    """Say what root has to do on this host for a VM that runs as another user.

    Args:
        domain: whose.
        name: of the VM.
        wanted: what the domain is to have.
        rules: what AppArmor's profile of a VM includes.
    """
    subject = f"libvirt, {name}"
    if isinstance(wanted.channel, Listen):
        directory = wanted.channel.path.parent
        if not directory.is_dir():
            yield Repair(
                subject,
                "QEMU is another user, and is to connect to sockets of yours",
                "Make a directory for them that only you can write to:",
                f"install -d -o {os.geteuid()} -m 0755 {shlex.quote(str(directory))}\n",
                as_root=True,
            )
    listens = isinstance(wanted.channel, Listen) or wanted.ram_tap is not None
    if "apparmor" in domain.confinement and listens and not rules.exists():
        yield Repair(
            subject,
            "AppArmor confines the VM",
            "Let it connect to these sockets, from its next start on:",
            f"mkdir -p {rules.parent}\n"
            f"echo '/var/lib/wlproxy-*/{{channel,ram}} rw,' > {rules}\n",
            as_root=True,
        )


def is_served(name: str, environ: Mapping[str, str]) -> bool:
    """Tell whether the configuration file has a table for a VM, which is whoever's wrote it.

    Raises:
        HostError: the file is wrong.
    """
    path = default_path(environ)
    return path.exists() and name in ConfigFile.read(path).vms


def service_repair(
    domain: Domain,
    name: str,
    wanted: Wanted,
    environ: Mapping[str, str],
    installed: tuple[Path, ...] = INSTALLED_UNITS,
) -> Repair | None:
    """Offer to have the user's systemd serve a VM; None: there is no systemd, or no unit."""
    runtime = Path(environ.get("XDG_RUNTIME_DIR", "/nowhere"))
    if not (runtime / "systemd").is_dir():
        return None
    if not any((each / SERVICE).exists() for each in installed):
        return None
    path = default_path(environ)
    lines = [
        f"mkdir -p {shlex.quote(str(path.parent))}",
        f"cat >> {shlex.quote(str(path))} <<'END'",
        "",
        *_table(domain, name, wanted),
        "END",
    ]
    if environ.get("WAYLAND_DISPLAY"):
        # Most desktops have done so; those that have not would have it wait for ever.
        lines.append("systemctl --user import-environment WAYLAND_DISPLAY")
    lines += [
        f"systemctl --user enable {SERVICE}",
        f"systemctl --user reload-or-restart {SERVICE}",
    ]
    return Repair(
        f"service, {name}",
        "nothing starts wlproxy for it with your session",
        "Have your systemd do so, with what is in its configuration:",
        "".join(f"{line}\n" for line in lines),
        as_root=False,
    )


def _table(domain: Domain, name: str, wanted: Wanted) -> Iterator[str]:
    """Write what the configuration file says of the VM."""
    yield f"[vm.{name}]"
    yield f"libvirt = {json.dumps(domain.name)}"
    yield f"connect = {json.dumps(domain.virsh.uri)}"
    if wanted.ram_tap is not None:
        yield ""
        yield f"[vm.{name}.tap]"
        yield f"socket = {json.dumps(str(wanted.ram_tap))}"
        if group := group_to_let_in(domain):
            yield f"group = {json.dumps(group)}"


def _steps(
    domain: Domain, name: str, wanted: Wanted, *, changed: bool, served: bool
) -> Iterator[str]:
    """Say what is left to do."""
    if wanted.ram_tap is not None and not served:
        yield "Before the VM starts, and for as long as it runs:"
        yield f"  {tap_command(domain, name, wanted.ram_tap)}"
    if changed and domain.running:
        yield "It takes effect when the VM has been shut down and started again."
    if served:
        yield "Its windows will be here as soon as it runs."
        return
    yield "Then:"
    given = f" --name {name}" if name != vm_name(domain.name) else ""
    yield f"  wlproxy run {options(domain)}{given}"
