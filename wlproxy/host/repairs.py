"""What `wlproxy setup` offers to do: shell commands that mend what the doctor found.

The commands are those that people are told to paste: the indented lines of a remedy, which are for
root, with the sentence before them.  Nothing is run here.
"""

import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from wlproxy import host
from wlproxy.host.config_file import config_home
from wlproxy.host.doctor import Finding, Verdict
from wlproxy.host.runtime_dir import check_name

INDENT: Final = "  "
"""Before each line of a remedy that is a command."""

UNIT: Final = "wlproxy@.service"
SYSTEMD_PATH: Final = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
)
"""Where systemd looks for a program that a unit names (systemd.service(5), `ExecStart=`)."""
INSTALLED_UNITS: Final = (Path("/usr/lib/systemd/user"), Path("/etc/systemd/user"))
"""Where packages, and the administrator, have units of users (systemd.unit(5))."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Commands, and what they are for.

    Attributes:
        subject: what they mend, a few words.
        why: what was found.
        what: what they do, the beginning of a sentence that they end.
        script: for sh, one or several lines.
        as_root: who has to run them.
    """

    subject: str
    why: str
    what: str
    script: str
    as_root: bool


def repairs(finding: Finding) -> Iterator[Repair]:
    """Take the commands out of a finding's remedy: one repair for each piece of them."""
    if finding.verdict is Verdict.OK:
        return
    what, script = "", ""
    for line in [*finding.remedy.splitlines(), ""]:
        if line.startswith(INDENT):
            script += f"{line.removeprefix(INDENT)}\n"
            continue
        if script:
            yield Repair(
                finding.subject, finding.explanation, what, script, as_root=True
            )
        what, script = line, ""


def unit_repair(
    environ: Mapping[str, str], name: str, installed: tuple[Path, ...] = INSTALLED_UNITS
) -> Repair | None:
    """Offer to have the user's systemd serve a VM; None: it does, or there is no systemd.

    Args:
        environ: XDG_RUNTIME_DIR, XDG_CONFIG_HOME and PATH are read from it.
        name: the VM's.
        installed: where units of packages are.

    Raises:
        HostError: the name is impossible.
    """
    instance = f"wlproxy@{check_name(name)}.service"
    if not Path(environ.get("XDG_RUNTIME_DIR", "/nowhere"), "systemd").is_dir():
        return None
    units = config_home(environ) / "systemd" / "user"
    if (units / "graphical-session.target.wants" / instance).is_symlink():
        return None
    lines = [
        "systemctl --user daemon-reload",
        f"systemctl --user enable --now {instance}",
    ]
    if not any((each / UNIT).exists() for each in (*installed, units)):
        lines = [*_install(environ, units), *lines]
    return Repair(
        "service",
        f"nothing starts wlproxy for {name} with your session",
        "Have your systemd do so:",
        "".join(f"{line}\n" for line in lines),
        as_root=False,
    )


def _install(environ: Mapping[str, str], units: Path) -> list[str]:
    """Say how the unit gets to where systemd looks, and finds the program."""
    source = files(host) / "systemd" / UNIT
    target = shlex.quote(str(units / UNIT))
    program = shutil.which("wlproxy", path=environ.get("PATH", ""))
    if program is None or str(Path(program).parent) in SYSTEMD_PATH:
        return [f"install -Dm644 {shlex.quote(str(source))} {target}"]
    unit = source.read_text().replace(
        "ExecStart=wlproxy ", f"ExecStart={unit_word(program)} "
    )
    return [
        f"mkdir -p {shlex.quote(str(units))}",
        f"cat > {target} <<'END'",
        *unit.splitlines(),
        "END",
    ]


def unit_word(word: str) -> str:
    """Write a word as units have it (systemd.syntax(7), systemd.unit(5) on specifiers)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if escaped != word or " " in word else word
