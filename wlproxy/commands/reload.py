"""`wlproxy reload`: has a proxy that runs go by what the configuration file says now."""

import os
import sys
from pathlib import Path

import click

from wlproxy.commands.failure import at_least_one, fail
from wlproxy.host.errors import HostError
from wlproxy.host.policy_keeper import RELOAD, ask_policy, policy_sockets
from wlproxy.host.report.status_socket import shown_names
from wlproxy.host.runtime_dir import policy_path, status_path


@click.command()
@click.option("--name", help="The VM's name.  [default: all that are served or shown]")
def reload(*, name: str | None) -> None:
    """Read the policy again, for apps that run and for the machine's screen.

    What has changed is printed, and what apps keep although it is not granted any more.  All
    other options of the file count when the proxy is started anew.
    """
    try:
        names = [name] if name else at_least_one(shown_names(os.environ))
        sockets: dict[str, Path] = {}
        for each in names:
            proxy = {each: policy_path(status_path(os.environ, each))}
            sockets |= policy_sockets(os.environ, each) or proxy
    except HostError as exc:
        fail(exc)
    failed = False
    for who, path in sockets.items():
        try:
            _reload(who, path)
        except HostError as exc:  # which is not to keep the others from it
            click.echo(f"{who}: {exc}", err=True)
            failed = True
    if failed:
        sys.exit(1)


def _reload(who: str, path: Path) -> None:
    """Have what answers at a socket reload, and print what follows.

    Raises:
        HostError: it does not answer, or the file is wrong.
    """
    said = ask_policy(path, RELOAD)
    if not said["changed"]:
        click.echo(f"{who}: the policy is as it was")
    for key, value, origin, effect in said["changed"]:
        click.echo(f"{who}: {key} = {value}, {effect}  # {origin}")
    for sentence in said["kept"]:
        click.echo(f"{who}: {sentence}")
