"""Whether commands that are shown have the options that the programs take."""

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from tests.docs.blocks import ROOT, make_targets
from wlproxy import cli as host
from wlproxy_guest import cli as agent
from wlproxy_guest.launcher import service as launcher

_UNITS: Final = (
    ROOT / "wlproxy" / "host" / "systemd",
    ROOT / "guest-agent" / "systemd",
)
_UNIT: Final = re.compile(r"(wlproxy[\w-]*)(@[\w-]*)?\.(service|socket)")


def mistake_in(words: Sequence[str]) -> str | None:
    """Say what is wrong with a command of wlproxy's, of its agent's, or of make's, if anything is.

    Args:
        words: any command's, with the program's name first.
    """
    program, *arguments = words
    for word in words:
        if (unit := _UNIT.fullmatch(word)) and not _is_unit(unit):
            return f"there is no unit {word}"
    match Path(program).name:
        case "wlproxy":
            return _hosts(arguments)
        case "wlproxy-guest-agent":
            return _said_by(agent.parse, arguments)
        case "wlproxy-guest-launcher":
            return _said_by(launcher.parse, arguments)
        case "make":
            unknown = set(arguments) - make_targets()
            return f"there is no `make {min(unknown)}`" if unknown else None
        case _:
            return None


def unknown_options(words: Sequence[str]) -> list[str]:
    """Return options that a command of wlproxy's lacks, of one that a sentence mentions.

    Such a command need not be whole, so that its arguments are not looked at.
    """
    if words[0] != "wlproxy" or not words[1:] or not re.fullmatch(r"[\w-]+", words[1]):
        return []
    command, rest, context = _command(words[1:])
    if command is None:
        return [words[1]]
    if "--" in rest:
        rest = rest[: rest.index("--")]
    params = command.get_params(click.Context(command, parent=context))
    known = {name for each in params for name in (*each.opts, *each.secondary_opts)}
    typed = [word.partition("=")[0].rstrip(",.;:)") for word in rest]
    return [word for word in typed if word.startswith("-") and word not in known]


def _is_unit(found: re.Match[str]) -> bool:
    name = f"{found[1]}{'@' if found[2] else ''}.{found[3]}"
    return any((directory / name).is_file() for directory in _UNITS)


def _command(
    words: Sequence[str],
) -> tuple[click.Command | None, list[str], click.Context]:
    """Find a command, what is left of the words, and a context for it.

    A command keeps the help option that the first context brings, hence the program's own.
    """
    command: click.Command | None = host.main
    context = host.main.make_context("wlproxy", [], resilient_parsing=True)
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command = command.get_command(context, rest.pop(0))
    context.resilient_parsing = False  # what is below this one inherits it
    return command, rest, context


def _hosts(words: Sequence[str]) -> str | None:
    command, rest, context = _command(words)
    if command is None:
        return f"there is no `wlproxy {' '.join(words)}`"
    try:
        command.make_context("wlproxy", rest, parent=context)
    except click.ClickException as exc:
        return exc.format_message()
    except (click.exceptions.Exit, SystemExit) as exc:  # --help, or a wrong file
        status = exc.exit_code if isinstance(exc, click.exceptions.Exit) else exc.code
        return f"exit status {status}" if status else None
    return None


def _said_by(parse: object, arguments: Sequence[str]) -> str | None:
    assert callable(parse)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            parse(list(arguments))
        except SystemExit as exc:
            return said.getvalue() if exc.code else None
    return None
