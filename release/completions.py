"""What shells complete on the command lines of both programs.

click asks the program itself, while one types.  The options of the guest's programs are few
and stand in the files.
"""

import argparse
import re

from click.shell_completion import ShellComplete, get_completion_class

from release.pages import HOST, agents_parser
from wlproxy.cli import main as host_program
from wlproxy_guest.launcher.service import make_parser

PLACES = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/vendor-completions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
"""Shell -> where files of distributions' packages are, below /usr/share."""


def completions() -> dict[str, str]:
    """Make all files: path below `share/` -> text."""
    found = {}
    for shell, place in PLACES.items():
        found[place.format(HOST)] = of_host(shell)
        for parser in (agents_parser(), make_parser()):
            found[place.format(parser.prog)] = OF_GUEST[shell](parser)
    return found


def of_host(shell: str) -> str:
    """Have click write a shell's file for `wlproxy`."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(shell)
    complete = kind(host_program, {}, HOST, "_WLPROXY_COMPLETE")
    # Not that of the class: bash's runs bash, to see whether that is old.
    text = ShellComplete.source(complete)
    return f"{text.strip()}\n"


def words_of(parser: argparse.ArgumentParser) -> list[str]:
    """List what may stand anywhere on the command line: options and commands."""
    words = [name for each in parser._actions for name in each.option_strings]
    for each in parser._actions:
        if not each.option_strings:
            words += [str(choice) for choice in each.choices or ()]
    return words


def of_guest_in_bash(parser: argparse.ArgumentParser) -> str:
    """Write bash's file for one of the guest's programs."""
    words = " ".join(words_of(parser))
    return f"complete -o default -W '{words}' {parser.prog}\n"


def of_guest_in_zsh(parser: argparse.ArgumentParser) -> str:
    """Write zsh's file for one of the guest's programs."""
    specs = []
    for each in parser._actions:
        about = quoted(each.help or "")
        if not each.option_strings:
            specs.append(f"'1:command:({' '.join(map(str, each.choices or ()))})'")
            continue
        takes = "" if each.nargs == 0 else f":{each.dest}:{values_in_zsh(each)}"
        specs += [f"'{name}[{about}]{takes}'" for name in each.option_strings]
    lines = " \\\n    ".join(specs)
    return f"#compdef {parser.prog}\n\n_arguments \\\n    {lines}\n"


def values_in_zsh(action: argparse.Action) -> str:
    """Say what follows an option: one of few, or a file."""
    return f"({' '.join(map(str, action.choices))})" if action.choices else "_files"


def of_guest_in_fish(parser: argparse.ArgumentParser) -> str:
    """Write fish's file for one of the guest's programs."""
    lines = []
    for each in parser._actions:
        about = f"-d '{quoted(each.help or '')}'"
        choices = f" -a '{' '.join(map(str, each.choices))}'" if each.choices else ""
        if not each.option_strings:
            lines.append(
                f"complete -c {parser.prog} -n __fish_is_first_arg{choices} {about}"
            )
            continue
        names = "".join(
            f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"
            for name in each.option_strings
        )
        takes = "" if each.nargs == 0 else " -r"
        lines.append(f"complete -c {parser.prog}{names}{takes}{choices} {about}")
    return "".join(f"{line}\n" for line in lines)


def quoted(text: str) -> str:
    """Cut a help text down to what needs no quoting in any of the shells."""
    first = re.split(r" \(|[;:]", text)[0]
    return "".join(c for c in first if c.isalnum() or c in " ,./-")


OF_GUEST = {
    "bash": of_guest_in_bash,
    "zsh": of_guest_in_zsh,
    "fish": of_guest_in_fish,
}
