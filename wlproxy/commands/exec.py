"""`wlproxy exec`: runs a command in a guest."""

import os
import sys
from typing import Final

import click
import trio

from wlproxy.commands.failure import fail
from wlproxy.commands.vm_off import offer_start, tell_desktop
from wlproxy.host.errors import HostError
from wlproxy.host.launch.asking import Asked, NotAskedError, ask, explain
from wlproxy.host.runtime_dir import launch_path, status_path
from wlproxy.protocol.channel.launch_lines import BAD_REQUEST, Request

_COMMAND: Final = "wlproxy.commands.exec"


class _Exec(click.Command):
    """Takes what is behind `--` as it is: options in there are the guest's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours, dashes, command = args, "", list[str]()
        if "--" in args:
            at = args.index("--")
            ours, dashes, command = args[:at], "--", args[at + 1 :]
        ctx.meta[_COMMAND] = tuple(command)
        if dashes and not command:
            raise click.UsageError("there is no command behind --", ctx)
        return super().parse_args(ctx, ours)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND [ARGUMENT]...]"]


@click.command(name="exec", cls=_Exec)
@click.option("--user", metavar="NAME", help="As which user of the guest.")
@click.option("--app", metavar="ID", help="Start this app of the guest's, and return.")
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Return when it has started; what it writes goes to the guest's log.",
)
@click.option(
    "-n", "--no-stdin", is_flag=True, help="Leave our standard input to others."
)
@click.argument("vm")
@click.pass_context
def exec(  # noqa: A001 - the name of the command
    ctx: click.Context,
    *,
    vm: str,
    user: str | None,
    app: str | None,
    detach: bool,
    no_stdin: bool,
) -> None:
    """Run a command in the guest of VM, or start an app there.

    Its windows are on this desktop.  It has our standard streams, but no terminal, and
    nothing of our environment.  The exit status is the command's, 128 + N after signal N,
    127 if it is not there, 126 if it cannot be started, and 125 if nobody could be asked.
    """
    command: tuple[str, ...] = ctx.meta[_COMMAND]
    if bool(app) == bool(command):
        raise click.UsageError(
            "say what is to run: a command behind --, or an app with --app", ctx
        )
    detach = detach or app is not None
    try:
        asked = Asked(
            launch_path(status_path(os.environ, vm)),
            vm,
            user,
            Request(command=command, app=app or "", detach=detach),
            stdin=None if no_stdin or detach else 0,
        )
        outcome = trio.run(ask, asked)
    except HostError as exc:
        if app is not None:
            tell_desktop(str(exc))
        if isinstance(exc, NotAskedError):
            offer_start(vm)
        fail(exc, BAD_REQUEST)
    if why := explain(outcome):
        click.echo(f"wlproxy: in {vm}: {why}", err=True)
        if app is not None:
            tell_desktop(f"In {vm}: {why}")
    sys.exit(outcome.exit_status)
