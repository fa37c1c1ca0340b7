"""Checks what apps of the user who asks are told: variables, and the socket's name."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from wlproxy_guest.doctor.findings import Finding, Verdict
from wlproxy_guest.doctor.machine import DISPLAY, SOCKET, Machine

ENVIRONMENT: Final = "/etc/security/wlproxy_env.conf"
PAM: Final = "/etc/pam.d/common-session"
GENERATORS: Final = "systemd/user-environment-generators/60-wlproxy"
DROP_IN: Final = "systemd/system/user-runtime-dir@.service.d/wlproxy.conf"
DISPLAY_MANAGER: Final = "/etc/systemd/system/display-manager.service"
"""What Debian, Fedora and others link to the one that is enabled."""

AS_ROOT: Final = (
    "This is root's environment, not looked at: run it as the user whose apps are meant"
)
NO_LOGIN: Final = """\
su and sudo are no logins of their own. Log in by ssh or at the console, or as root:
  machinectl shell USER@"""
MAKE_LINK: Final = f"""\
  ln -sfT {SOCKET} "$XDG_RUNTIME_DIR/{DISPLAY}\""""
LINK_NOW: Final = (
    f"Logins that are new have it, once all old ones are over. Now:\n{MAKE_LINK}"
)
INSTALL_LINK: Final = f"""\
Install the agent's wlproxy.runtime-dir.conf as /etc/{DROP_IN}. Until
the next boot:
{MAKE_LINK}"""
SET_NOW: Final = f"""\
  export WAYLAND_DISPLAY={DISPLAY} XDG_SESSION_TYPE=wayland"""
LOG_IN: Final = f"""\
Logins by ssh, serial console and `su -` have it, but neither those of before nor
those at the machine's own screen, where desktops are started. In this shell:
{SET_NOW}"""
INSTALL_VARIABLES: Final = f"""\
Install the agent's wlproxy.pam_env.conf as {ENVIRONMENT} and its
wlproxy.pam-config as /usr/share/pam-configs/wlproxy; as root:
  pam-auth-update --enable wlproxy
In this shell:
{SET_NOW}"""
REMOVE_OLD: Final = """\
Whoever set that can use the name. Earlier versions had you install this; as root:
  rm -f /etc/environment.d/60-wlproxy.conf
and take the line out of /etc/environment."""
OF_THE_HOST: Final = f"To have an app on the host:\n  WAYLAND_DISPLAY={DISPLAY} APP"
RESTART_MANAGER: Final = """\
It has them from its next start on. Until then:
  systemctl --user set-environment WAYLAND_DISPLAY=wlproxy-0 XDG_SESSION_TYPE=wayland"""
INSTALL_GENERATOR: Final = f"""\
Install the agent's wlproxy.environment, executable, as
/etc/{GENERATORS}.
{RESTART_MANAGER}"""


def examine_login(machine: Machine) -> Iterator[Finding]:
    """Check the user's runtime directory, variables and systemd."""
    if machine.uid == 0:
        yield Finding("environment", Verdict.WARNING, AS_ROOT)
        return
    runtime = machine.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime or not Path(runtime).is_dir():
        what = f"XDG_RUNTIME_DIR={runtime}: no directory" if runtime else "not set"
        yield Finding("XDG_RUNTIME_DIR", Verdict.PROBLEM, what, NO_LOGIN)
        return
    yield check_link(machine, Path(runtime))
    yield from check_variables(machine, Path(runtime))
    text = machine.run(["systemctl", "--user", "show-environment"])
    if text is not None:
        yield check_manager(machine, parse_environment(text))
    if not machine.has_any("/dev/dri/renderD*") and not has_renderer(machine.environ):
        explanation = (
            "there is no GPU, so GTK 4 draws with OpenGL on the CPU:"
            " GSK_RENDERER=cairo is quicker"
        )
        yield Finding("GTK 4", Verdict.OK, explanation)


def check_link(machine: Machine, runtime: Path) -> Finding:
    """See whether the socket has its name in the user's runtime directory."""
    if leads_to_agent(machine, runtime / DISPLAY):
        return Finding(
            DISPLAY, Verdict.OK, f"{runtime / DISPLAY} is the agent's socket"
        )
    explanation = f"{runtime / DISPLAY} is not there, or not a link to {SOCKET}"
    installed = machine.has_any(f"/etc/{DROP_IN}", f"/usr/lib/{DROP_IN}")
    remedy = LINK_NOW if installed else INSTALL_LINK
    return Finding(DISPLAY, Verdict.PROBLEM, explanation, remedy)


def leads_to_agent(machine: Machine, path: Path) -> bool:
    """Follow links."""
    try:
        return path.resolve() == machine.path(SOCKET).resolve()
    except (OSError, RuntimeError):  # links in a circle: the latter before Python 3.13
        return False


def check_variables(machine: Machine, runtime: Path) -> Iterator[Finding]:
    """Judge WAYLAND_DISPLAY, and XDG_SESSION_TYPE where apps go by it."""
    subject = "WAYLAND_DISPLAY"
    display = machine.environ.get(subject, "")
    if not display:
        explanation = "not set: apps find no compositor"
        yield Finding(subject, Verdict.PROBLEM, explanation, how_to_set(machine))
        return
    # libwayland takes a path as it is, and a name to be in the runtime directory.
    if display != DISPLAY and not leads_to_agent(machine, runtime / display):
        explanation = f"{display}: a compositor of this machine's own, not its host's"
        yield Finding(subject, Verdict.WARNING, explanation, OF_THE_HOST)
        return
    if "/" in display:
        explanation = (
            f"{display} is a path: programs that make names of it"
            " (foot --server, fuzzel, ...) fail"
        )
        yield Finding(subject, Verdict.WARNING, explanation, REMOVE_OLD)
    else:
        yield Finding(subject, Verdict.OK, f"{display}: apps appear on the host")
    subject = "XDG_SESSION_TYPE"
    kind = machine.environ.get(subject, "")
    if kind == "wayland":
        yield Finding(subject, Verdict.OK, kind)
        return
    explanation = f"{kind or 'not set'}: Chromium and Electron look for an X server"
    yield Finding(subject, Verdict.WARNING, explanation, how_to_set(machine))


def how_to_set(machine: Machine) -> str:
    """Say how a user gets the variables."""
    installed = machine.has_any(ENVIRONMENT) and ENVIRONMENT in machine.read(PAM)
    return LOG_IN if installed else INSTALL_VARIABLES


def check_manager(machine: Machine, environ: Mapping[str, str]) -> Finding:
    """Judge what the user's systemd gives to services."""
    subject = "systemd --user"
    display = environ.get("WAYLAND_DISPLAY", "")
    if display:
        return Finding(subject, Verdict.OK, f"WAYLAND_DISPLAY={display}")
    if machine.has_any(DISPLAY_MANAGER):
        explanation = "WAYLAND_DISPLAY is left to the desktops that this machine has"
        return Finding(subject, Verdict.OK, explanation)
    installed = machine.has_any(f"/etc/{GENERATORS}", f"/usr/lib/{GENERATORS}")
    remedy = RESTART_MANAGER if installed else INSTALL_GENERATOR
    explanation = "WAYLAND_DISPLAY is not set for services and what D-Bus starts"
    return Finding(subject, Verdict.WARNING, explanation, remedy)


def parse_environment(text: str) -> dict[str, str]:
    """Read what `systemctl show-environment` prints.

    Values that need it are in $'...'; backslashes in them stay, as no name of a display
    has any.  What cannot be read is left out.
    """
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            continue
        try:
            words = shlex.split(value.removeprefix("$"))
        except ValueError:
            continue
        found[name] = words[0] if words else ""
    return found


def has_renderer(environ: Mapping[str, str]) -> bool:
    """Say whether GTK 4 was told how to draw."""
    return bool(environ.get("GSK_RENDERER"))
