"""`wlproxy qemu-args`: prints the options that a VM needs."""

import os
from pathlib import Path

import click

from wlproxy.host.qemu.args import QemuSetup, libvirt_xml, qemu_command_line

DEFAULT_CHANNEL = Path("/tmp/wlproxy.channel")  # noqa: S108 - only where nothing better is known


@click.command("qemu-args")
@click.option("--libvirt", is_flag=True, help="Print XML for a libvirt domain.")
@click.option("--memory", default="4G", show_default=True, help="Size of the RAM.")
@click.option("--machine", default="q35", show_default=True)
@click.option(
    "--channel",
    type=click.Path(path_type=Path),
    help="Where QEMU is to make the socket.  [default: in $XDG_RUNTIME_DIR]",
)
def qemu_args(
    *, libvirt: bool, memory: str, machine: str, channel: Path | None
) -> None:
    """Print the options that a VM needs: shared RAM, and the channel."""
    if channel is None:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        channel = Path(runtime, "wlproxy.channel") if runtime else DEFAULT_CHANNEL
    setup = QemuSetup(channel=channel, memory=memory, machine=machine)
    try:
        text = libvirt_xml(setup) if libvirt else qemu_command_line(setup)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    click.echo(text, nl=not text.endswith("\n"))
