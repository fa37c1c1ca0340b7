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
