"""`wlproxy reload`: has a proxy that runs go by what the configuration file says now."""

import os
import sys

import click

from wlproxy.commands.failure import at_least_one, fail
from wlproxy.host.errors import HostError
from wlproxy.host.policy_keeper import RELOAD, ask_policy
from wlproxy.host.report.status_socket import running_names
from wlproxy.host.runtime_dir import policy_path, status_path


@click.command()
@click.option("--name", help="The VM's name.  [default: all that are served]")
def reload(*, name: str | None) -> None:
    """Have the policy read again, and be in force for apps that run.

    What an app keeps although it is not granted any more is said.  All other options of the
    file count when the proxy is started anew.
    """
    failed = False
    try:
        names = [name] if name else at_least_one(running_names(os.environ))
    except HostError as exc:
        fail(exc)
    for each in names:
        try:
            _reload(each)
        except HostError as exc:  # which is not to keep the others from it
            click.echo(f"{each}: {exc}", err=True)
            failed = True
    if failed:
        sys.exit(1)


def _reload(name: str) -> None:
    """Reload one, and print what follows.

    Raises:
        HostError: it does not answer, or the file is wrong.
    """
    said = ask_policy(policy_path(status_path(os.environ, name)), RELOAD)
    if not said["changed"]:
        click.echo(f"{name}: the policy is as it was")
    for key, value, origin, effect in said["changed"]:
        click.echo(f"{name}: {key} = {value}, {effect}  # {origin}")
    for sentence in said["kept"]:
        click.echo(f"{name}: {sentence}")
