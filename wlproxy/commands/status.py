"""`wlproxy status`: says what a running proxy is doing."""

import json
import os
import sys
import time
from importlib.resources import files
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from wlproxy.commands.failure import fail
from wlproxy.host import report
from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import read_status, running_names
from wlproxy.host.report.status_view import render_status
from wlproxy.host.runtime_dir import dump_path, status_path

WATCH_SECONDS = 1.0
"""Between two looks of `status --watch`."""


@click.command()
@click.option("--name", help="The VM's name; may be left out if only one proxy runs.")
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
    """Say what a running proxy is doing: each window, its mode, and why."""
    if schema:
        click.echo(files(report).joinpath("status.schema.json").read_text(), nl=False)
        return
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
        fail(exc)
    except KeyboardInterrupt:
        sys.exit(130)


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
