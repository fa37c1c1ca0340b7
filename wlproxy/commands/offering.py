"""Offers commands to whoever sits at the terminal: shows them, asks, and runs them."""

import os
import shlex
import shutil
import subprocess

import click

from wlproxy.host.repairs import Repair


def offer(repair: Repair, *, yes: bool, dry_run: bool) -> bool:
    """Show commands, and run them if that is wanted; tell whether they did what they are for."""
    done = False
    click.secho(f"{repair.subject}: {repair.why}", bold=True)
    click.echo(repair.what)
    for line in repair.script.splitlines():
        click.secho(f"  {line}", fg="cyan")
    command = command_for(repair)
    if dry_run:
        pass
    elif command is None:
        click.echo("There is no sudo here: run this as root.")
    elif yes or click.confirm(f"Run this{' as root' if repair.as_root else ''}?"):
        status = run_command(command)
        done = status == 0
        if status:
            click.secho(f"It failed, with status {status}.", fg="red")
    click.echo()
    return done


def command_for(repair: Repair) -> list[str] | None:
    """Return how its commands are run; None if they need root and there is no way to it."""
    command = ["sh", "-eu", "-c", repair.script]
    if not repair.as_root or os.geteuid() == 0:
        return command
    sudo = shutil.which("sudo")
    return [sudo, *command] if sudo else None


def run_command(command: list[str]) -> int:
    """Run a command on this terminal; return its exit status."""
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - they were shown
    except OSError as exc:
        click.echo(f"{shlex.join(command[:1])}: {exc.strerror}", err=True)
        return 127
