"""The command line: arguments become values, values become text; nothing else."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wlproxy import __version__
from wlproxy.host.config import HostConfig
from wlproxy.host.doctor import Finding, Verdict, examine
from wlproxy.host.errors import HostError
from wlproxy.host.qemu_args import QemuSetup, libvirt_xml, qemu_command_line
from wlproxy.host.server import run as run_server
from wlproxy.host.status import check_name, read_status, running_names, status_path
from wlproxy.host.vm_log import plain
from wlproxy.relay.context import RelayConfig
from wlproxy.relay.policy import effective_policy
from wlproxy.relay.presentation import Preference

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"

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
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option("--once", is_flag=True, help="End when QEMU closes the channel.")
def run(  # noqa: PLR0913 - one parameter per option
    *,
    channel: Path,
    name: str,
    display: str | None,
    present: str,
    qemu_pid: int | None,
    qmp: Path | None,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    log_level: str,
    once: bool,
) -> None:
    """Serve the guest at the other end of a channel."""
    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    try:
        policy = effective_policy(allow, deny)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--allow") from exc
    try:
        config = HostConfig(
            channel=channel,
            name=check_name(name),
            relay=RelayConfig(name, Preference(present), policy),
            display=display,
            qemu_pid=qemu_pid,
            qmp=qmp,
            once=once,
            status=status_path(os.environ, name),
        )
        trio.run(run_server, config)
    except HostError as exc:
        _fail(exc)


@main.command()
@click.option("--name", help="Of the VM; may be left out if only one proxy runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the document itself.")
def status(*, name: str | None, as_json: bool) -> None:
    """Say what a running proxy is doing: each surface, its mode, and why."""
    try:
        document = read_status(status_path(os.environ, name or _only_name()))
    except HostError as exc:
        _fail(exc)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print_status(document)


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


def _print_status(document: dict[str, Any]) -> None:
    """Render the document of the status socket."""
    console = Console(highlight=False)
    metrics = document["metrics"]
    console.print(
        Text(
            f"{document['name']}: {document['state']}"
            + (f" ({plain(document['agent'])})" if document["agent"] else "")
        )
    )
    console.print(
        Text(
            f"{len(document['clients'])} clients, "
            f"{metrics['udmabufs_alive']} udmabufs open, "
            f"{metrics['pixel_bytes_copied']} pixel bytes copied"
        )
    )
    if not document["surfaces"]:
        return
    table = Table(
        "client", "surface", "title", "size", "mode", "frames", "copied", "why"
    )
    for surface in document["surfaces"]:
        table.add_row(
            *(
                Text(plain(str(cell)))
                for cell in (
                    surface["label"],
                    surface["surface"],
                    surface["title"] or surface["app_id"],
                    f"{surface['width']}x{surface['height']}",
                    surface["mode"],
                    surface["frames"],
                    surface["bytes_copied"],
                    surface["reason"],
                )
            )
        )
    console.print(table)
