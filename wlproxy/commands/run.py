"""`wlproxy run`: serves a guest."""

import gc
import os
from pathlib import Path
from typing import Any

import click
import trio

from wlproxy.commands.configured import ConfiguredCommand, policy_source
from wlproxy.commands.failure import fail
from wlproxy.commands.options import CONNECT, DISPLAY, LOG_LEVEL
from wlproxy.commands.program import has_terminal
from wlproxy.host.channel_address import ChannelAddress, Listen, parse_channel
from wlproxy.host.config import (
    DEFAULT_GRANT_FRAMES,
    MAX_DOMID,
    MAX_GRANT_FRAMES,
    HostConfig,
)
from wlproxy.host.errors import HostError
from wlproxy.host.frame_label import look
from wlproxy.host.page_sources import check_pages_are_told
from wlproxy.host.report.vm_log import set_up_logging
from wlproxy.host.runtime_dir import (
    channel_path,
    check_name,
    status_path,
    table_path,
    vm_name,
)
from wlproxy.host.server import run as run_server
from wlproxy.relay.capabilities import Preference
from wlproxy.relay.policy_tree import check_names
from wlproxy.relay.wire.context import RelayConfig

HERE = Path()
"""What `--listen` without a path is."""


@click.command(cls=ConfiguredCommand)
@click.option(
    "--channel",
    metavar="CHANNEL",
    help="QEMU's socket for the channel (see `wlproxy qemu-args`), or vsock:CID:PORT, or "
    "hvsock:PATH:PORT for a VMM whose vsock is a Unix socket.  [default: "
    "wlproxy-NAME.channel in $XDG_RUNTIME_DIR]",
)
@click.option(
    "--listen",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=HERE,
    help="Make the socket, and have QEMU connect (`wlproxy qemu-args --listen`).  Without "
    "a path: wlproxy-NAME.channel in $XDG_RUNTIME_DIR.",
)
@click.option(
    "--group",
    help="Let this group connect to --listen, too: the one that QEMU runs as under "
    "libvirt's qemu:///system.",
)
@click.option(
    "--libvirt",
    metavar="DOMAIN",
    help="A VM of libvirt's: finds channel and RAM (see `wlproxy setup`).",
)
@CONNECT
@click.option("--name", help="Name of the VM.  [default: the domain's, or vm]")
@DISPLAY
@click.option(
    "--present",
    type=click.Choice([preference.value for preference in Preference]),
    default=Preference.AUTO.value,
    show_default=True,
    help="Present buffers as shm over udmabuf (a), linux-dmabuf (b), copies (c).",
)
@click.option(
    "--qemu-pid", type=click.IntRange(1), help="QEMU's process, if not evident."
)
@click.option(
    "--ram-tap",
    type=click.Path(path_type=Path),
    help="Where `wlproxy ram-tap` tells where the guest's RAM is.  [default: if one of "
    "this name runs, there]",
)
@click.option(
    "--qmp",
    type=click.Path(path_type=Path),
    help="QEMU's monitor socket, for machine types with an unknown memory map.",
)
@click.option(
    "--xen-domid",
    type=click.IntRange(1, MAX_DOMID),
    help="The VM is this domain of Xen's, if that is not evident from the channel.",
)
@click.option(
    "--xen-gntdev",
    type=click.Path(path_type=Path),
    help="Socket of `wlproxy xen-gntdev`, which opens Xen's gntdev in place of us.",
)
@click.option(
    "--xen-grant-frames",
    type=click.IntRange(1, MAX_GRANT_FRAMES),
    default=DEFAULT_GRANT_FRAMES,
    show_default=True,
    help="Size of that domain's grant table: max_grant_frames in its configuration.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="GLOBAL",
    help="Let the guest see this global too (docs/protocols.md has all).  Repeatable.",
)
@click.option(
    "--deny",
    multiple=True,
    metavar="GLOBAL",
    help="Hide this global from the guest.  Repeatable.",
)
@click.option(
    "--frame",
    metavar="COLOUR",
    help="Draw a frame of this colour around each of the VM's windows, which the guest "
    "cannot change: #rrggbb, or black, blue, gray, green, orange, purple, red, yellow; "
    "`off` for none.  [default: as the policy says (frame.colour)]",
)
@click.option(
    "--security-context/--no-security-context",
    default=True,
    help="Have the compositor apply its own policy for sandboxed clients, too, where "
    "it has one.  [default: security-context]",
)
@click.option(
    "--exec/--no-exec",
    "may_exec",
    default=True,
    help="Serve `wlproxy exec` and `wlproxy apps`, where the guest lets launchers "
    "start commands.  [default: exec]",
)
@click.option(
    "--confine/--no-confine",
    default=True,
    help="Take from the proxy itself all files but its own, programs and TCP (Landlock), "
    "where the kernel can and `wlproxy ram-tap` tells of the RAM.  [default: confine]",
)
@LOG_LEVEL
@click.option("--once", is_flag=True, help="End when QEMU closes the channel.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    log_level: str,
    **options: Any,  # noqa: ANN401 - see `host_config`
) -> None:
    """Serve the guest at the other end of a channel.

    SIGHUP has the policy read again, as `wlproxy reload` does, unless this was started from a
    terminal, which sends it when it is closed.
    """
    set_up_logging(log_level)
    try:
        config = host_config(ctx, **options)
        check_pages_are_told(config)
        # What is there now stays: collections need not look at it (tens of thousands of objects).
        gc.freeze()
        trio.run(run_server, config)
    except HostError as exc:
        fail(exc)


def host_config(  # noqa: PLR0913 - one parameter per option
    ctx: click.Context,
    *,
    channel: str | None,
    listen: Path | None,
    group: str | None,
    libvirt: str | None,
    connect: str | None,
    name: str | None,
    display: str | None,
    present: str,
    qemu_pid: int | None,
    ram_tap: Path | None,
    qmp: Path | None,
    xen_domid: int | None,
    xen_gntdev: Path | None,
    xen_grant_frames: int,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    frame: str | None,
    security_context: bool,
    may_exec: bool,
    confine: bool,
    once: bool,
) -> HostConfig:
    """Make the settings of what the options say.

    `ctx` says which of them were typed, and which file the rest is from.

    Raises:
        click.UsageError: they contradict each other, or are none.
        HostError: they say nothing here.
    """
    name = check_name(name or (vm_name(libvirt) if libvirt else "vm"))
    source = policy_source(ctx, name)
    for option, said in ("allow", source.allow), ("deny", source.deny):
        try:
            check_names(option, said or ())
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint=f"--{option}") from exc
    try:
        policy = source.read().policy
    except ValueError as exc:  # of what is typed, globals are right
        raise click.BadParameter(str(exc), param_hint="--frame") from exc
    if libvirt is None:
        if connect is not None:
            raise click.UsageError("--connect is for --libvirt")
        address = _address(channel, listen, group, name)
    else:
        if channel or listen or group:
            raise click.UsageError("--libvirt finds the channel by itself")
        address, tap = _domain(libvirt, connect, name)
        ram_tap = ram_tap or tap
    return HostConfig(
        channel=address,
        name=name,
        relay=RelayConfig(
            name, Preference(present), policy, frame=look(name, policy.frame)
        ),
        display=display,
        qemu_pid=qemu_pid,
        ram_tap=ram_tap or _running_tap(name),
        ram_tap_if_there=table_path(os.environ, name),
        qmp=qmp,
        xen_domid=xen_domid,
        xen_gntdev=xen_gntdev,
        xen_grant_frames=xen_grant_frames,
        policy_source=source,
        reloads=not has_terminal(),
        security_context=security_context,
        once=once,
        status=status_path(os.environ, name),
        exec=may_exec,
        confine=confine,
    )


def _domain(
    domain: str, connect: str | None, name: str
) -> tuple[ChannelAddress, Path | None]:
    """Find channel and RAM of a domain of libvirt's.

    Args:
        domain: its name there.
        connect: which libvirt; None: the user's default, or whichever has it.
        name: of the VM.

    Returns:
        The channel, and where the tap tells of the RAM; None: QEMU's process is looked into.

    Raises:
        HostError: they cannot be had; with the remedy.
    """
    # Here, since most VMs are not libvirt's, and it takes a while.
    from wlproxy.host.libvirt.domain import read_domain  # noqa: PLC0415
    from wlproxy.host.libvirt.finding import find  # noqa: PLC0415
    from wlproxy.host.libvirt.virsh import find_libvirt  # noqa: PLC0415

    virsh = find_libvirt(domain, connect, os.environ)
    found = find(read_domain(virsh, domain), os.environ, name)
    return found.channel, found.ram_tap


def config_of(ctx: click.Context, name: str) -> HostConfig:
    """Make the settings that `wlproxy run --name NAME` has, by the configuration file.

    Args:
        ctx: of a command beside it.
        name: the VM's.

    Raises:
        HostError: they say nothing here.
    """
    context = run.make_context("run", ["--name", name], ctx.parent)
    options = dict(context.params)
    del options["log_level"]
    return host_config(context, **options)


def _address(
    channel: str | None, listen: Path | None, group: str | None, name: str
) -> ChannelAddress:
    """Read where the channel is.

    Raises:
        click.UsageError: the options contradict each other, or are none.
        HostError: the name says nothing.
    """
    if listen is None:
        if group is not None:
            raise click.UsageError("--group is for --listen")
        try:
            return parse_channel(channel) if channel else channel_path(os.environ, name)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--channel") from exc
    if channel is not None:
        raise click.UsageError("either connect (--channel) or --listen")
    path = channel_path(os.environ, name) if listen == HERE else listen
    return Listen(path.absolute(), group)


def _running_tap(name: str) -> Path | None:
    """Find the socket of this VM's tap, if there is one."""
    path = table_path(os.environ, name)
    return path if path.is_socket() else None
