"""`wlproxy doctor`: checks a host for everything that the proxy needs."""

import json
import os
import sys
from dataclasses import asdict

import click
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wlproxy.commands.configured import configured_path
from wlproxy.commands.options import DISPLAY
from wlproxy.commands.run import config_of
from wlproxy.host.doctor import Finding, Verdict, examine, problem
from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import monitor_path, status_path
from wlproxy.host.vm_doctor import examine_vm
from wlproxy.screen.doctor import examine_screen

VERDICT_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "bold red",
}


@click.command()
@DISPLAY
@click.option(
    "--name",
    "--vm",
    metavar="NAME",
    help="Look at this VM, too: its RAM, its agent, what its proxy says.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the findings for programs."
)
@click.pass_context
def doctor(
    ctx: click.Context, *, display: str | None, name: str | None, as_json: bool
) -> None:
    """Check this host for everything that the proxy needs, and a VM if it is named."""
    findings = examine(os.environ, display)
    if name is not None:
        findings += _examine_vm(ctx, name) + _examine_screen(ctx, name)
    if as_json:
        click.echo(json.dumps([_described(each) for each in findings], indent=2))
    else:
        print_findings(findings)
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        sys.exit(1)


def _examine_vm(ctx: click.Context, name: str) -> list[Finding]:
    try:
        return trio.run(examine_vm, config_of(ctx, name))
    except HostError as exc:
        return [problem("VM", exc)]


def _examine_screen(ctx: click.Context, name: str) -> list[Finding]:
    try:
        monitor = configured_path(ctx, name, "screen", "qmp")
        monitor = monitor or monitor_path(os.environ, name)
        return examine_screen(monitor, status=status_path(os.environ, name))
    except HostError as exc:
        return [problem("screen", exc)]


def print_findings(findings: list[Finding]) -> None:
    """Print a table of what was found, and below it what to do.

    Remedies have commands in them, and a table would break their lines.
    """
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(
            Text(finding.verdict.value, style=VERDICT_STYLES[finding.verdict]),
            Text(finding.subject),
            Text(finding.explanation),
        )
    console.print(table)
    subjects: dict[str, list[str]] = {}
    for finding in findings:
        if finding.remedy:
            subjects.setdefault(finding.remedy, []).append(finding.subject)
    for remedy, about in subjects.items():
        console.print(Text(f"\n{', '.join(about)}:", style="bold"), soft_wrap=True)
        console.print(Text(remedy, style="cyan"), soft_wrap=True)


def _described(finding: Finding) -> dict[str, str]:
    return {**asdict(finding), "verdict": finding.verdict.value}
