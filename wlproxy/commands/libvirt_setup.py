"""`wlproxy setup --libvirt`: changes a VM of libvirt's so that wlproxy works with it."""

import difflib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from wlproxy.commands.failure import fail
from wlproxy.host.channel_address import Listen
from wlproxy.host.errors import HostError
from wlproxy.host.libvirt.domain import Domain, parse_domain, read_domain
from wlproxy.host.libvirt.finding import is_ours, options, tap_command, vm_name
from wlproxy.host.libvirt.setup import Wanted, adapt
from wlproxy.host.libvirt.virsh import find_libvirt
from wlproxy.host.runtime_dir import channel_path, check_name, vmm_path


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

    Shows what changes in its XML, asks, and has libvirt define it.
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
            if dry_run:
                return
            if not yes:
                click.confirm(f"Define {domain} so?", abort=True)
            virsh.ask("define", "/dev/stdin", given=after)
            click.echo(f"{domain} is defined.")
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    except HostError as exc:
        fail(exc)
    for step in _steps(found, name, wanted, changed=after != before):
        click.echo(step)


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


def _steps(
    domain: Domain, name: str, wanted: Wanted, *, changed: bool
) -> Iterator[str]:
    """Say what is left to do."""
    listens = isinstance(wanted.channel, Listen)
    if isinstance(wanted.channel, Listen):
        directory = wanted.channel.path.parent
        if not directory.is_dir():
            yield "As root, once, a directory that only you can write to:"
            yield f"  install -d -o {os.geteuid()} -m 0755 {directory}"
    if "apparmor" in domain.confinement and (listens or wanted.ram_tap):
        yield "As root, once, as AppArmor confines the VM:"
        yield (
            "  echo '/var/lib/wlproxy-*/{channel,ram} rw,' >> "
            "/etc/apparmor.d/local/abstractions/libvirt-qemu"
        )
    if wanted.ram_tap is not None:
        yield "Before the VM starts, and for as long as it runs:"
        yield f"  {tap_command(domain, name, wanted.ram_tap)}"
    if changed and domain.running:
        yield "It takes effect when the VM has been shut down and started again."
    yield "Then:"
    given = f" --name {name}" if name != vm_name(domain.name) else ""
    yield f"  wlproxy run {options(domain)}{given}"
