"""`wlproxy config`: says whether the configuration file is right, and what it comes to."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from wlproxy.commands.configured import ConfiguredCommand
from wlproxy.commands.failure import fail
from wlproxy.commands.ram_tap import ram_tap
from wlproxy.commands.run import run
from wlproxy.commands.screen import screen
from wlproxy.host.config_file import ConfigFile, default_path
from wlproxy.host.errors import HostError
from wlproxy.host.policy_file import faults

_COMMANDS: Final[tuple[ConfiguredCommand, ...]] = (run, ram_tap, screen)
_FILE: Final = click.argument(
    "file", type=click.Path(path_type=Path), required=False, default=None
)


@click.group()
def config() -> None:
    """Look at the configuration file."""


@config.command()
@_FILE
def check(file: Path | None) -> None:
    """Say whether FILE, or else the usual configuration file, is right.

    The first mistake is named with its line, and the exit status is 1 then.
    """
    try:
        found = ConfigFile.read(file or default_path(os.environ))
        check_file(found)
    except HostError as exc:
        fail(exc)
    vms = ", ".join(found.vms) or "no VM"
    click.echo(f"{found.path} is right; it has {vms}")


def check_file(file: ConfigFile) -> None:
    """Judge all that a file says.

    Raises:
        ConfigFileError: something is wrong.
    """
    for name in file.vms or ("vm",):
        for fault in faults(file, name):
            raise fault
        for command in _COMMANDS:
            _values(command, file, name)


@config.command()
@click.option("--name", default="vm", show_default=True, help="Name of the VM.")
@_FILE
def show(*, name: str, file: Path | None) -> None:
    """Print the options of a VM that FILE, or else the usual configuration file, sets."""
    try:
        found = ConfigFile.read(file or default_path(os.environ))
        lines = [
            f"wlproxy {command.name}: {option} = {json.dumps(value)}"
            for command in _COMMANDS
            for option, value in _values(command, found, name).items()
        ]
    except HostError as exc:
        fail(exc)
    for line in lines:
        click.echo(line)
    if not lines:
        policy = "wlproxy policy show" + ("" if name == "vm" else f" {name}")
        click.echo(
            f"{found.path} sets no option of VM {name}; its policy: {policy}", err=True
        )


def _values(
    command: ConfiguredCommand, file: ConfigFile, name: str
) -> Mapping[str, object]:
    """Return what a file says to a command of a VM, by the options' names.

    Raises:
        ConfigFileError: it is wrong.
    """
    values = command.values(click.Context(command), file, name)
    options = command.options()
    return {
        key: values[str(option.name)]
        for key, option in options.items()
        if option.name in values
    }
