"""Manual pages, made of the command lines' own help."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import click

from wlproxy import __version__
from wlproxy.cli import main as host_program
from wlproxy_guest.cli import make_parser
from wlproxy_guest.launcher.service import make_parser as make_launchers_parser

HOST = "wlproxy"
AGENT = "wlproxy-guest-agent"
LAUNCHER = "wlproxy-guest-launcher"

EXIT_STATUS = "0 if all is well, 1 if something failed, 2 for a wrong command line."
DOCTOR_STATUS = "0 if nothing is in the way, 1 if something is."
AGENT_IN_GENERAL = (
    "It is usually run by its systemd unit. With doctor it says what is wrong in this"
    " machine instead, and what to do about it."
)
LAUNCHER_IN_GENERAL = (
    "It is usually run by a unit of the user's systemd. The agent lets it connect only if"
    " root has installed exec.conf."
)
LAUNCHER_FILES = (
    ("/run/wlproxy-launch/socket", "where the agent lets launchers connect"),
)
AGENT_FILES = (
    ("/run/wlproxy/wayland-0", "where apps connect, if systemd made the socket"),
    ("$XDG_RUNTIME_DIR/wlproxy-0", "a link to it, which WAYLAND_DISPLAY names"),
    ("/etc/security/wlproxy_env.conf", "what logins are told"),
    ("/dev/virtio-ports/org.wlproxy.0", "the wire to the host"),
    ("/dev/gem-locate", "the kernel module's device, where there is one"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """One manual page, all of it plain text.

    Attributes:
        name: the program's; with a subcommand after a hyphen.
        about: a phrase, without a full stop.
        synopsis: command lines.
        description: paragraphs.
        lists: headings, and what is under them: terms with their explanations.
        status: what exit statuses mean.
        related: names of other pages.
    """

    name: str
    about: str
    synopsis: Sequence[str]
    description: Sequence[str]
    lists: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    status: str
    related: Sequence[str] = field(default=())


def pages() -> dict[str, str]:
    """Make all pages: path below `share/` -> source for man(1)."""
    found = [*host_pages(), agent_page(), launcher_page()]
    return {f"man/man1/{page.name}.1": render(page) for page in found}


def host_pages() -> Iterator[Page]:
    """Make the pages of `wlproxy`, one for each command."""
    # Made so that it has its settings: what help is asked by.
    context = host_program.make_context(HOST, [], resilient_parsing=True)
    names = host_program.list_commands(context)
    commands = {name: host_program.get_command(context, name) for name in names}
    found = {name: command for name, command in commands.items() if command}
    first, *others = paragraphs(host_program.help or "")
    yield Page(
        HOST,
        phrase(first),
        (f"{HOST} [--version] [--help] COMMAND ...",),
        (first, *others),
        [
            (
                "COMMANDS",
                [(name, paragraphs(found[name].help or "")[0]) for name in found],
            ),
            ("OPTIONS", options_of(host_program, context)),
        ],
        EXIT_STATUS,
        [*(f"{HOST}-{name}" for name in found), AGENT],
    )
    for name, command in found.items():
        inner = click.Context(command, parent=context, info_name=name)
        first, *others = paragraphs(command.help or "")
        yield Page(
            f"{HOST}-{name}",
            phrase(first),
            (f"{HOST} {name} [OPTIONS]",),
            (first, *others),
            [("OPTIONS", options_of(command, inner))],
            DOCTOR_STATUS if name == "doctor" else EXIT_STATUS,
            [HOST],
        )


def options_of(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    """List the options of one of `wlproxy`'s commands."""
    records = [each.get_help_record(context) for each in command.get_params(context)]
    return [record for record in records if record is not None]


def agents_parser() -> argparse.ArgumentParser:
    """Make the agent's parser as it is for everybody."""
    parser = make_parser()
    # Or it would be as the environment is just now.
    parser.set_defaults(
        socket="$XDG_RUNTIME_DIR/wayland-0", launch_socket=None, launch_user=[]
    )
    return parser


def agent_page() -> Page:
    """Make the agent's page."""
    parser = agents_parser()
    about = parser.description or ""
    return Page(
        AGENT,
        phrase(about),
        (f"{AGENT} [OPTIONS]", f"{AGENT} doctor"),
        (about, AGENT_IN_GENERAL),
        [("OPTIONS", arguments_of(parser)), ("FILES", AGENT_FILES)],
        EXIT_STATUS,
        [HOST, LAUNCHER],
    )


def launcher_page() -> Page:
    """Make the launcher's page."""
    parser = make_launchers_parser()
    about = parser.description or ""
    return Page(
        LAUNCHER,
        phrase(about).replace("`", ""),
        (f"{LAUNCHER} [OPTIONS]",),
        (about, LAUNCHER_IN_GENERAL),
        [("OPTIONS", arguments_of(parser)), ("FILES", LAUNCHER_FILES)],
        EXIT_STATUS,
        [f"{HOST}-exec", AGENT],
    )


def arguments_of(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """List the options that an argparse parser takes."""
    formatter = argparse.HelpFormatter(parser.prog)
    found = []
    for action in parser._actions:
        if not action.option_strings:
            continue
        term = ", ".join(action.option_strings)
        if action.nargs != 0:
            term += " " + formatter._format_args(action, action.dest.upper())
        found.append((term, formatter._expand_help(action) if action.help else ""))
    return found


def paragraphs(text: str) -> list[str]:
    """Split a help text into paragraphs of one line each."""
    return [" ".join(each.split()) for each in text.split("\n\n") if each.strip()]


def phrase(sentence: str) -> str:
    """Make what follows a page's name of the first sentence of a help text."""
    return sentence[0].lower() + sentence[1:].rstrip(".")


def render(page: Page) -> str:
    """Write a page as man(7) wants it."""
    heading = f'.TH {page.name.upper()} 1 "" "wlproxy {__version__}" "User Commands"'
    lines = ['.\\" Made by "make share" from the help of the program.', heading]
    lines += [".SH NAME", f"{roff(page.name)} \\- {roff(page.about)}", ".SH SYNOPSIS"]
    for each in page.synopsis:
        program, _, rest = each.partition(" [")
        if not rest:
            program, rest = each, ""
        lines += [f".B {roff(program)}", *([roff(f"[{rest}")] if rest else []), ".br"]
    lines[-1:] = [".SH DESCRIPTION"]
    for each in page.description:
        lines += [roff(each), ".PP"]
    lines.pop()
    for title, entries in page.lists:
        lines.append(f".SH {title}")
        for term, text in entries:
            lines += [".TP", f".B {roff(term)}", roff(text)]
    lines += [".SH EXIT STATUS", roff(page.status)]
    if page.related:
        last = page.related[-1]
        lines.append(".SH SEE ALSO")
        for each in page.related:
            end = "" if each == last else ","
            lines.append(f".BR {roff(each)} (1){end}")
    return "".join(f"{line}\n" for line in lines)


def roff(text: str) -> str:
    """Escape a line of text: no requests, and hyphens that can be pasted."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith(".") else text
