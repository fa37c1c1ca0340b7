"""`wlproxy apps`: the apps of a guest, for people and for this desktop's menus."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict

import click
import trio

from wlproxy.commands.failure import fail
from wlproxy.commands.program import ourselves
from wlproxy.host.errors import HostError
from wlproxy.host.launch.apps import App, AppList
from wlproxy.host.launch.asking import Asked, ask, explain
from wlproxy.host.launch.export import data_home, export_apps, remove_apps
from wlproxy.host.runtime_dir import check_name, launch_path, status_path
from wlproxy.protocol.channel.launch_lines import Request
from wlproxy.protocol.errors import ChannelError


@click.command()
@click.argument("vm")
@click.option("--user", metavar="NAME", help="Of which user of the guest.")
@click.option("--json", "as_json", is_flag=True, help="Print a document.")
@click.option(
    "--export",
    is_flag=True,
    help="Put them into this desktop's menus, with their icons; again, to renew that.",
)
@click.option(
    "--remove", is_flag=True, help="Take them out of this desktop's menus again."
)
def apps(
    *, vm: str, user: str | None, as_json: bool, export: bool, remove: bool
) -> None:
    """List the apps of the guest of VM, which `wlproxy exec VM --app ID` starts."""
    if export + remove + as_json > 1:
        raise click.UsageError("--json, --export and --remove: one of them")
    try:
        if remove:
            changes = remove_apps(data_home(os.environ), check_name(vm))
            click.echo(f"{changes.removed} removed")
            return
        found = _find(vm, user, icons=export)
        if export:
            _export(vm, user, found)
        elif as_json:
            listed = [asdict(each) | {"icon": None} for each in found]
            click.echo(json.dumps(listed, indent=2))
        else:
            width = max((len(each.id) for each in found), default=0)
            for each in found:
                click.echo(f"{each.id:{width}}  {each.name}")
    except HostError as exc:
        fail(exc)


def _find(vm: str, user: str | None, *, icons: bool) -> list[App]:
    """Ask a guest for its apps.

    Raises:
        HostError: nobody could be asked, or the answer is none.
    """
    found = AppList()
    asked = Asked(
        launch_path(status_path(os.environ, vm)),
        vm,
        user,
        Request(apps=True, icons=icons),
        stdin=None,
        stdout=found.feed,
    )
    try:
        outcome = trio.run(ask, asked)
    except ChannelError as exc:
        raise HostError(f"the guest's list of apps is none: {exc}") from exc
    if outcome.exit_status:
        why = explain(outcome) or f"status {outcome.exit_status}"
        raise HostError(f"the guest lists no apps: {why}")
    if found.left_out:
        click.echo(f"{found.left_out} apps with impossible ids are left out", err=True)
    return sorted(found.apps.values(), key=lambda app: (app.name.casefold(), app.id))


def _export(vm: str, user: str | None, found: Sequence[App]) -> None:
    whose = ["--user", user] if user else []
    start = [*ourselves(), "exec", vm, *whose, "--app"]
    changes = export_apps(data_home(os.environ), vm, found, start)
    click.echo(
        f"{changes.written} written, {changes.kept} as they were, "
        f"{changes.removed} removed"
    )
