"""The command line: turns arguments into values and values into text, and does nothing else."""

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wlproxy import __version__
from wlproxy.host.config import HostConfig
from wlproxy.host.doctor import Finding, Verdict, examine
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.args import QemuSetup, libvirt_xml, qemu_command_line
from wlproxy.host.report.status_socket import (
    check_name,
    dump_path,
    read_status,
    running_names,
    status_path,
)
from wlproxy.host.report.status_view import render_status
from wlproxy.host.report.vm_log import set_up_logging
from wlproxy.host.server import run as run_server
from wlproxy.relay.capabilities import Preference
from wlproxy.relay.policy import effective_policy
from wlproxy.relay.wire.context import RelayConfig

WATCH_SECONDS = 1.0
"""Between two looks of `status --watch`."""

VERDICT_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.PROBLEM: "bold red",
}

DEFAULT_CHANNEL = Path("/tmp/wlproxy.channel")  # noqa: S108 - only where nothing better is known


def _fail(error: HostError) -> NoReturn:
    """Print an error and its remedy; exit with status 1."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), str(error)))
    sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wlproxy")
def main() -> None:
    """Show a virtual machine's windows on this desktop, without copying a pixel."""
    # Titles may have any characters, and terminals any encoding.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@main.command()
@click.option(
    "--channel",
    type=click.Path(path_type=Path),
    required=True,
    help="QEMU's socket for the channel (see `wlproxy qemu-args`).",
)
@click.option("--name", default="vm", show_default=True, help="Name of the VM.")
@click.option("--display", help="The compositor's socket, instead of $WAYLAND_DISPLAY.")
@click.option(
    "--present",
    type=click.Choice([preference.value for preference in Preference]),
    default=Preference.AUTO.value,
    show_default=True,
    help="Present buffers as shm over udmabuf (a), linux-dmabuf (b), copies (c).",
)
@click.option(
    "--qemu-pid", type=click.IntRange(1), help="QEMU's process, if not evident."
)
@click.option(
    "--qmp",
    type=click.Path(path_type=Path),
    help="QEMU's monitor socket, for machine types with an unknown memory map.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="GLOBAL",
    help="Let the guest see this global too.  Repeatable.",
)
@click.option(
    "--deny",
    multiple=True,
    metavar="GLOBAL",
    help="Hide this global from the guest.  Repeatable.",
)
@click.option(
    "--security-context/--no-security-context",
    default=True,
    help="Have the compositor apply its own policy for sandboxed clients, too, where "
    "it has one.  [default: security-context]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option("--once", is_flag=True, help="End when QEMU closes the channel.")
def run(
    *,
    name: str,
    present: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    log_level: str,
    **settings: Any,  # noqa: ANN401 - those that `HostConfig` has under the same names
) -> None:
    """Serve the guest at the other end of a channel."""
    set_up_logging(log_level)
    try:
        policy = effective_policy(allow, deny)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--allow") from exc
    try:
        config = HostConfig(
            name=check_name(name),
            relay=RelayConfig(name, Preference(present), policy),
            allow=allow,
            status=status_path(os.environ, name),
            **settings,
        )
        trio.run(run_server, config)
    except HostError as exc:
        _fail(exc)


@main.command()
@click.option("--name", help="The VM's name; may be left out if only one proxy runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the document itself.")
@click.option(
    "--dump",
    is_flag=True,
    help="Print all that is known of apps instead, for debugging: objects, buffers, who "
    "waits for what.  Titles are in it; of what apps send and show only the lengths are.",
)
@click.option("--watch", is_flag=True, help="Show it again and again; end with Ctrl-C.")
def status(*, name: str | None, as_json: bool, dump: bool, watch: bool) -> None:
    """Say what a running proxy is doing: each window, its mode, and why."""
    if watch and (as_json or dump):
        raise click.UsageError("--watch is for people, --json and --dump for programs")
    console = Console(highlight=False)
    try:
        path = status_path(os.environ, name or _only_name())
        if as_json or dump:
            document = read_status(dump_path(path) if dump else path)
            click.echo(json.dumps(document, indent=2))
        elif watch:
            _watch_status(console, path)
        else:
            _show_status(console, path)
    except HostError as exc:
        _fail(exc)
    except KeyboardInterrupt:
        sys.exit(130)


@main.command("qemu-args")
@click.option("--libvirt", is_flag=True, help="Print XML for a libvirt domain.")
@click.option("--memory", default="4G", show_default=True, help="Size of the RAM.")
@click.option("--machine", default="q35", show_default=True)
@click.option(
    "--channel",
    type=click.Path(path_type=Path),
    help="Where QEMU is to make the socket.  [default: in $XDG_RUNTIME_DIR]",
)
def qemu_args(
    *, libvirt: bool, memory: str, machine: str, channel: Path | None
) -> None:
    """Print the options that a VM needs: shared RAM, and the channel."""
    if channel is None:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        channel = Path(runtime, "wlproxy.channel") if runtime else DEFAULT_CHANNEL
    setup = QemuSetup(channel=channel, memory=memory, machine=machine)
    try:
        text = libvirt_xml(setup) if libvirt else qemu_command_line(setup)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    click.echo(text, nl=not text.endswith("\n"))


@main.command()
@click.option("--display", help="The compositor's socket, instead of $WAYLAND_DISPLAY.")
def doctor(*, display: str | None) -> None:
    """Check this host for everything that the proxy needs."""
    findings = examine(os.environ, display)
    _print_findings(findings)
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        sys.exit(1)


def _only_name() -> str:
    """Name the one VM whose proxy runs.

    Raises:
        HostError: there is none, or there are several.
    """
    names = running_names(os.environ)
    if len(names) == 1:
        return names[0]
    if not names:
        raise HostError(
            "no proxy runs", remedy="Start one: wlproxy run --channel SOCKET"
        )
    raise HostError(
        f"{len(names)} proxies run: {', '.join(names)}", remedy="Choose one: --name"
    )


def _print_findings(findings: list[Finding]) -> None:
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


def _show_status(console: Console, path: Path) -> None:
    console.print(render_status(read_status(path), console.width))


def _watch_status(console: Console, path: Path) -> None:
    """Redraw the status until the proxy ends or the user stops."""
    if not console.is_terminal:
        while True:
            _show_status(console, path)
            console.print()
            time.sleep(WATCH_SECONDS)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render_status(read_status(path), console.width), refresh=True)
            time.sleep(WATCH_SECONDS)
