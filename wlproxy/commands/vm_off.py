"""What is done when a command is for a VM that is off: libvirt may start it, if it is libvirt's."""

import shutil
import subprocess
import sys
from typing import Final

import click

VIRSH_SECONDS: Final = 10.0
OFF: Final = "shut off"


def offer_start(vm: str) -> None:
    """Offer to start a VM that libvirt knows by this name, and that is off.

    Nobody is asked where nobody can answer; then a line says how.
    """
    virsh = shutil.which("virsh")
    if virsh is None or _run(virsh, "domstate", vm) != OFF:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        click.echo(f"libvirt can start it: virsh start {vm}", err=True)
    elif click.confirm(f"libvirt has {vm}, and it is off.  Start it?", err=True):
        said = _run(virsh, "start", vm)
        done = (
            "It takes a while; then try again." if said is not None else "It did not."
        )
        click.echo(done, err=True)


def tell_desktop(text: str) -> None:
    """Show a message to a user who has no terminal: what was started from a menu has none."""
    notify = None if sys.stderr.isatty() else shutil.which("notify-send")
    if notify is not None:
        _run(notify, "--app-name=wlproxy", "--", "wlproxy", text)


def _run(*argv: str) -> str | None:
    """Return what a program says; None if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - virsh or notify-send, by its path
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VIRSH_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
