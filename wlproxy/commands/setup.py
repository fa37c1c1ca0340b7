"""`wlproxy setup`: does what the doctor would have one do, each thing once it may."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from wlproxy.commands.doctor import print_findings
from wlproxy.commands.failure import fail
from wlproxy.commands.libvirt_setup import set_up_domain
from wlproxy.commands.offering import offer
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
    help="Give this VM of libvirt's what it needs, and this host what it needs for that VM.",
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
            offer(repair, yes=yes, dry_run=dry_run)
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
