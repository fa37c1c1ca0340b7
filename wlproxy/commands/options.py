"""Options that several commands have, in the same words."""

from typing import Final

import click

DISPLAY: Final = click.option(
    "--display", help="The compositor's socket, instead of $WAYLAND_DISPLAY."
)

LOG_LEVEL: Final = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)

CONNECT: Final = click.option(
    "--connect",
    metavar="URI",
    help="Which libvirt has it.  [default: as virsh; or whichever has it]",
)
