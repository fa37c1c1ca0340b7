"""`wlproxy policy`: what a guest may do, and where that is said."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from wlproxy.commands.failure import fail
from wlproxy.host.config_file import ConfigFile, ConfigFileError, default_path
from wlproxy.host.errors import HostError
from wlproxy.host.policy_file import Line, PolicySource, faults, read_policy
from wlproxy.host.policy_keeper import SHOW, ask_policy, policy_sockets
from wlproxy.host.runtime_dir import check_name


@click.group()
def policy() -> None:
    """Look at what guests may do."""


@policy.command()
@click.argument("vm", default="vm")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Show what this TOML file says, whether the VM's proxy runs or not.",
)
def show(*, vm: str, config: Path | None) -> None:
    """Print what is in force for VM, and where each line is from.

    The VM's proxy is asked, or else the `wlproxy screen` that shows it.  If neither runs, this is
    what the configuration file says.
    """
    try:
        for line in _lines(check_name(vm), config):
            click.echo(line)
    except HostError as exc:
        fail(exc)


def _lines(vm: str, config: Path | None) -> list[Line]:
    """Find what is in force.

    Raises:
        HostError: the proxy does not answer, or the file cannot be read, or is wrong.
    """
    sockets = _sockets(vm) if config is None else []
    if sockets:
        return [Line(*each) for each in ask_policy(sockets[0], SHOW)["lines"]]
    path = config or default_path(os.environ)
    source = PolicySource(vm, path, optional=config is None)
    return list(source.read().lines)


def _sockets(vm: str) -> list[Path]:
    try:
        return list(policy_sockets(os.environ, vm).values())
    except HostError:  # there is no directory for sockets, and so no proxy
        return []


@policy.command()
@click.argument("file", type=click.Path(path_type=Path), required=False, default=None)
def check(file: Path | None) -> None:
    """Print each mistake in the policies of FILE, or else of the usual file, as editors want it.

    A line is FILE:LINE: KEY: what is wrong.  The exit status is 1 if there is one.
    """
    found: dict[str, None] = {}
    try:
        read = ConfigFile.read(file or default_path(os.environ))
        for name in read.vms or ("vm",):
            for fault in _faults(read, name):
                found[_on_one_line(fault)] = None
    except ConfigFileError as exc:
        found[_on_one_line(exc)] = None
    for line in found:
        click.echo(line)
    if found:
        sys.exit(1)


def _faults(file: ConfigFile, name: str) -> Iterator[HostError]:
    """Yield the mistakes of each key of a VM's; if there is none, whether they go together."""
    wrong = False
    for fault in faults(file, name):
        wrong = True
        yield fault
    if not wrong:
        try:
            read_policy(PolicySource(name, file.path), file)
        except ConfigFileError as exc:
            yield exc


def _on_one_line(fault: HostError) -> str:
    said = fault.explanation
    if fault.remedy:
        said += f"{'' if said.endswith(('.', '?')) else '.'} {fault.remedy}"
    return said.replace("\n", " ")
