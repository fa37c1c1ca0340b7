"""The command line, of which no more is imported than a command needs.

Importing all of it takes half a second, which `--version` and shell completion would wait for.
"""

import importlib
import io
import sys

import click

from wlproxy import __version__

COMMANDS = (
    "run",
    "screen",
    "exec",
    "apps",
    "ram-tap",
    "serve",
    "status",
    "qemu-args",
    "xl-cfg",
    "xen-gntdev",
    "xen-vchan",
    "doctor",
    "setup",
    "config",
    "policy",
    "reload",
)


class _Commands(click.Group):
    """Commands that are found in `wlproxy.commands`, by their name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"wlproxy.commands.{name}")
        command: click.Command = getattr(module, name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wlproxy")
def main() -> None:
    """Show a virtual machine's windows on this desktop, without copying a pixel."""
    # Titles may have any characters, and terminals any encoding.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
