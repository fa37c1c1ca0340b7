"""`wlproxy status`: says what a running proxy is doing."""

import json
import os
import sys
import time
from importlib.resources import files

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from wlproxy.commands.failure import at_least_one, fail
from wlproxy.host import report
from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import read_all, read_status, shown_names
from wlproxy.host.report.status_view import render_status
from wlproxy.host.runtime_dir import dump_path, status_path

WATCH_SECONDS = 1.0
"""Between two looks of `status --watch`."""


@click.command()
@click.option("--name", help="The VM's name.  [default: all that are served]")
@click.option("--json", "as_json", is_flag=True, help="Print the document itself.")
@click.option(
    "--dump",
    is_flag=True,
    help="Print all that is known of apps instead, for debugging: objects, buffers, who "
    "waits for what.  Titles are in it; of what apps send and show only the lengths are.",
)
@click.option(
    "--schema",
    is_flag=True,
    help="Print what is in the document of --json, as a JSON Schema (draft 7).",
)
@click.option("--watch", is_flag=True, help="Show it again and again; end with Ctrl-C.")
def status(
    *, name: str | None, as_json: bool, dump: bool, schema: bool, watch: bool
) -> None:
    """Say what a running proxy is doing: each window, its mode, and why.

    The VM's own screen is one of them, where `wlproxy screen` shows it.
    """
    if schema:
        click.echo(files(report).joinpath("status.schema.json").read_text(), nl=False)
        return
    if watch and (as_json or dump):
        raise click.UsageError("--watch is for people, --json and --dump for programs")
    console = Console(highlight=False)
    try:
        if as_json or dump:
            path = status_path(os.environ, name or _only_name())
            document = read_status(dump_path(path)) if dump else read_all(path)
            click.echo(json.dumps(document, indent=2))
            return
        names = [name] if name else None
        if watch:
            _watch_status(console, names)
        else:
            console.print(_rendered(console, names))
    except HostError as exc:
        fail(exc)
    except KeyboardInterrupt:
        sys.exit(130)


def _only_name() -> str:
    """Name the one VM whose proxy runs.

    Raises:
        HostError: there is none, or there are several.
    """
    names = at_least_one(shown_names(os.environ))
    if len(names) > 1:
        raise HostError(
            f"{len(names)} proxies run: {', '.join(names)}", remedy="Choose one: --name"
        )
    return names[0]


def _rendered(console: Console, names: list[str] | None) -> RenderableType:
    """Lay out the status of these VMs, or of all that there are, one below the other.

    Raises:
        HostError: a proxy does not answer, or none runs.
    """
    parts: list[RenderableType] = []
    failures: list[HostError] = []
    for name in names or at_least_one(shown_names(os.environ)):
        try:
            document = read_all(status_path(os.environ, name))
        except HostError as exc:  # which is not to hide the others
            failures.append(exc)
            parts += [Text(), Text(str(exc), style="yellow")]
        else:
            parts += [Text(), render_status(document, console.width)]
    if len(parts) == 2 * len(failures):
        raise failures[0]
    return Group(*parts[1:])


def _watch_status(console: Console, names: list[str] | None) -> None:
    """Redraw the status until the proxies end or the user stops."""
    if not console.is_terminal:
        while True:
            console.print(_rendered(console, names))
            console.print()
            time.sleep(WATCH_SECONDS)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_rendered(console, names), refresh=True)
            time.sleep(WATCH_SECONDS)
