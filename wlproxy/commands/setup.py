"""`wlproxy setup`: does what the doctor would have one do, each thing once it may."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from wlproxy.commands.doctor import print_findings
from wlproxy.commands.failure import fail
from wlproxy.commands.libvirt_setup import set_up_domain
from wlproxy.commands.options import CONNECT, DISPLAY
from wlproxy.host.doctor import Verdict, examine
from wlproxy.host.errors import HostError
from wlproxy.host.repairs import Repair, repairs, unit_repair


@click.command()
@click.option(
    "--name",
    help="Name of a VM that your systemd is to start a proxy for, too; with --libvirt the "
    "VM's name here.  [default: the domain's]",
)
@DISPLAY
@click.option(
    "--libvirt",
    "domain",
    metavar="DOMAIN",
    help="Give this VM of libvirt's what it needs, and leave the host as it is.",
)
@CONNECT
@click.option(
    "--ram-tap/--no-ram-tap",
    default=None,
    help="Have the VM tell `wlproxy ram-tap` where its RAM is.  [default: if it runs as "
    "another user, has NUMA nodes, or can get memory plugged]",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Where the sockets are for a VM that runs as another user.  [default: "
    "/var/lib/wlproxy-NAME]",
)
@click.option("--yes", is_flag=True, help="Do it all without asking.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done, and do nothing."
)
def setup(
    *,
    name: str | None,
    display: str | None,
    domain: str | None,
    connect: str | None,
    ram_tap: bool | None,
    directory: Path | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Prepare this host, or a VM of libvirt's: show what would be done, and do it if you agree."""
    if domain is not None:
        set_up_domain(
            domain,
            connect=connect,
            name=name,
            ram_tap=ram_tap,
            directory=directory,
            dry_run=dry_run,
            yes=yes,
        )
        return
    if connect is not None or ram_tap is not None or directory is not None:
        raise click.UsageError("--connect, --ram-tap and --directory are for --libvirt")
    offered: set[str] = set()
    try:
        # Each may mend what others are for, and show what was hidden before.
        while repair := next(_left(name, display, offered), None):
            offered.add(repair.script)
            _offer(repair, yes=yes, dry_run=dry_run)
    except HostError as exc:
        fail(exc)
    findings = examine(os.environ, display)
    print_findings(findings)
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        sys.exit(1)


def _left(name: str | None, display: str | None, offered: set[str]) -> Iterator[Repair]:
    """Yield what could be done now and was not offered yet.

    Raises:
        HostError: the name is impossible.
    """
    for finding in examine(os.environ, display):
        for repair in repairs(finding):
            if repair.script not in offered:
                yield repair
    if name is not None:
        unit = unit_repair(os.environ, name)
        if unit is not None and unit.script not in offered:
            yield unit


def _offer(repair: Repair, *, yes: bool, dry_run: bool) -> None:
    """Show commands, and run them if that is wanted."""
    click.secho(f"{repair.subject}: {repair.why}", bold=True)
    click.echo(repair.what)
    for line in repair.script.splitlines():
        click.secho(f"  {line}", fg="cyan")
    command = command_for(repair)
    if dry_run:
        pass
    elif command is None:
        click.echo("There is no sudo here: run this as root.")
    elif yes or click.confirm(f"Run this{' as root' if repair.as_root else ''}?"):
        status = run_command(command)
        if status:
            click.secho(f"It failed, with status {status}.", fg="red")
    click.echo()


def command_for(repair: Repair) -> list[str] | None:
    """Return how its commands are run; None if they need root and there is no way to it."""
    command = ["sh", "-eu", "-c", repair.script]
    if not repair.as_root or os.geteuid() == 0:
        return command
    sudo = shutil.which("sudo")
    return [sudo, *command] if sudo else None


def run_command(command: list[str]) -> int:
    """Run a command on this terminal; return its exit status."""
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - they were shown
    except OSError as exc:
        click.echo(f"{shlex.join(command[:1])}: {exc.strerror}", err=True)
        return 127
