"""`wlproxy qemu-args`: prints the options that a VM needs."""

import os
from pathlib import Path
from typing import Final

import click

from wlproxy.commands.configured import (
    ConfiguredCommand,
    configured_path,
    configured_text,
)
from wlproxy.commands.failure import fail
from wlproxy.host.channel_address import HybridVsock, Listen, Vsock, parse_channel
from wlproxy.host.desktop.render_node import usable_render_node
from wlproxy.host.desktop.udmabuf_device import limit_remedy, read_limits
from wlproxy.host.doctor import SCATTERED_4K_ITEMS
from wlproxy.host.errors import HostError
from wlproxy.host.libvirt.elements import libvirt_xml
from wlproxy.host.qemu.args import QemuSetup, qemu_command_line
from wlproxy.host.runtime_dir import channel_path, monitor_path, vmm_path

HERE = Path()
"""What `--ram-tap`, `--listen` and `--screen` without a path are: where those of that name are."""
NO_NODE: Final = "none"
"""The `--render-node` that is none."""


@click.command("qemu-args", cls=ConfiguredCommand)
@click.option("--libvirt", is_flag=True, help="Print XML for a libvirt domain.")
@click.option("--memory", default="4G", show_default=True, help="Size of the RAM.")
@click.option("--machine", default="q35", show_default=True)
@click.option(
    "--channel",
    metavar="CHANNEL",
    help="Where QEMU is to make the socket, or vsock:CID:PORT.  [default: "
    "wlproxy-NAME.channel in $XDG_RUNTIME_DIR]",
)
@click.option(
    "--listen",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=HERE,
    help="Have QEMU connect to `wlproxy run --listen`.  With a path if that has one.",
)
@click.option("--name", default="vm", show_default=True, help="Name of the VM.")
@click.option(
    "--ram-tap",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=HERE,
    help="Have the VMM tell `wlproxy ram-tap` where the RAM is: for a VM that runs as "
    "another user, has NUMA nodes, or gets memory plugged.  With a path if the tap has a "
    "--socket.",
)
@click.option(
    "--screen",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=HERE,
    help="Have the machine's own screen shown by `wlproxy screen`.  With a path if its --qmp "
    "is another one.",
)
@click.option(
    "--render-node",
    metavar="PATH|none",
    help="With --screen: the DRM device for QEMU's GL, with which pictures stay where they are in "
    "the guest's RAM.  [default: the first of /dev/dri that this user may use, if that is so "
    "of /dev/udmabuf, too; with --libvirt none]",
)
@click.pass_context
def qemu_args(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    libvirt: bool,
    memory: str,
    machine: str,
    channel: str | None,
    listen: Path | None,
    name: str,
    ram_tap: Path | None,
    screen: Path | None,
    render_node: str | None,
) -> None:
    """Print the options that a VM needs: shared RAM, and the channel."""
    try:
        address = _address(channel, listen, name)
        if ram_tap == HERE:
            ram_tap = configured_path(ctx, name, "tap", "socket") or vmm_path(
                os.environ, name
            )
        if screen == HERE:
            screen = configured_path(ctx, name, "screen", "qmp") or monitor_path(
                os.environ, name
            )
        ways = [
            configured_text(ctx, name, "screen", key)
            for key in ("clipboard", "primary")
        ]
    except HostError as exc:
        fail(exc)
    if render_node is None and libvirt:
        render_node = (
            NO_NODE  # libvirt knows but gl=on, for which libGL has to be there
        )
    clipboard = ways != ["off", "off"]
    node = None if screen is None else _render_node(render_node)
    setup = QemuSetup(address, memory, machine, ram_tap, screen, node, clipboard)
    try:
        text = libvirt_xml(setup) if libvirt else qemu_command_line(setup)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    click.echo(text, nl=not text.endswith("\n"))


def _render_node(wanted: str | None) -> Path | None:
    """Choose the device for QEMU's GL; say what QEMU would fail of."""
    if wanted == NO_NODE:
        return None
    node = usable_render_node() if wanted is None else Path(wanted)
    limits = read_limits()
    if node is not None and limits.list_limit < SCATTERED_4K_ITEMS:
        remedy = limit_remedy(limits, SCATTERED_4K_ITEMS)
        click.echo(
            f"A screen whose pages lie in more than {limits.list_limit} pieces (4K may be in "
            f"{SCATTERED_4K_ITEMS}) would stay black: udmabuf's list_limit.\n{remedy}",
            err=True,
        )
    return node


def _address(
    channel: str | None, listen: Path | None, name: str
) -> Path | Listen | Vsock:
    """Read where the channel is to be.

    Raises:
        click.UsageError: the options contradict each other, or are none of QEMU's.
        HostError: the name says nothing.
    """
    if listen is not None:
        if channel is not None:
            raise click.UsageError("either --channel or --listen")
        return Listen(channel_path(os.environ, name) if listen == HERE else listen)
    try:
        address = parse_channel(channel) if channel else channel_path(os.environ, name)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--channel") from exc
    if isinstance(address, HybridVsock):
        raise click.UsageError("QEMU has no such vsock: other VMMs have")
    return address
