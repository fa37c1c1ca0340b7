"""`wlproxy xl-cfg`: prints the lines that a domain of Xen's needs."""

import os
from pathlib import Path

import click

from wlproxy.commands.configured import ConfiguredCommand
from wlproxy.commands.failure import fail
from wlproxy.host.config import DEFAULT_GRANT_FRAMES, MAX_GRANT_FRAMES
from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import channel_path
from wlproxy.host.xen.xl_config import xl_lines


@click.command("xl-cfg", cls=ConfiguredCommand)
@click.option(
    "--channel",
    metavar="PATH",
    help="Where the channel's socket is to be.  [default: wlproxy-NAME.channel in "
    "$XDG_RUNTIME_DIR]",
)
@click.option(
    "--grant-frames",
    type=click.IntRange(1, MAX_GRANT_FRAMES),
    default=DEFAULT_GRANT_FRAMES,
    show_default=True,
    help="Size of the domain's grant table: 2 MiB of buffers each.  Tell `wlproxy run "
    "--xen-grant-frames`, too.",
)
@click.option("--name", default="vm", show_default=True, help="Name of the VM.")
def xl_cfg(*, channel: str | None, grant_frames: int, name: str) -> None:
    """Print the lines that a domain of Xen's needs in its xl.cfg."""
    try:
        path = Path(channel) if channel else channel_path(os.environ, name)
    except HostError as exc:
        fail(exc)
    try:
        text = xl_lines(path.absolute(), grant_frames)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--channel") from exc
    click.echo(text, nl=False)
