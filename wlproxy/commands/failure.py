"""How a command says that it failed."""

import sys
from typing import NoReturn

import click

from wlproxy.host.errors import HostError


def fail(error: HostError, status: int = 1) -> NoReturn:
    """Print an error and its remedy; exit with this status."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(str(error), err=True)
    sys.exit(status)


def at_least_one(names: list[str]) -> list[str]:
    """Return the names of VMs that are served, if there are any.

    Raises:
        HostError: there is none.
    """
    if not names:
        raise HostError("no proxy runs", remedy="Start one: wlproxy run --name NAME")
    return names
