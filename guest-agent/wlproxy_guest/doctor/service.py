"""Checks the agent's units: are they there, do they run, and with what rights?"""

import os
from collections.abc import Iterator, Mapping
from typing import Final

from wlproxy_guest.doctor.findings import Finding, Verdict
from wlproxy_guest.doctor.machine import AGENTS_GROUP, SOCKET, Machine
from wlproxy_guest.doctor.xen import check_grants, in_domain
from wlproxy_guest.locating.gem_locate import DEVICE
from wlproxy_guest.vchan import SOCKET as VCHAN_SOCKET

SERVICE: Final = "wlproxy-guest-agent.service"
SOCKET_UNIT: Final = "wlproxy-guest-agent.socket"
DROP_IN: Final = "gem-locate.conf"
GENERATOR: Final = "wlproxy.gem-locate-generator"
"""Puts the drop-in in place."""
CAP_SYS_ADMIN: Final = 21
"""Its bit (linux/capability.h)."""
PROPERTIES: Final = (
    *("Id", "LoadState", "ActiveState", "SubState", "UnitFileState"),
    *("StatusText", "MainPID", "DropInPaths"),
)
RUNS: Final = ("active", "reloading")
WAITING: Final = "waiting for the host"
"""What the service says of itself while nobody is at the other end (`server`)."""

INSTALL: Final = """\
Install the agent: see docs/guest.md, or the package wlproxy-guest-agent."""
ENABLE: Final = f"""\
As root:
  systemctl enable --now {SOCKET_UNIT} {SERVICE}"""
READ_THE_LOG: Final = f"""\
Its log says why; as root:
  journalctl --boot --unit={SERVICE}"""
START_THE_PROXY: Final = """\
On the host, in the desktop's session; what it lacks, `wlproxy doctor` there says:
  wlproxy run --name NAME"""
USE_THE_MODULE: Final = f"""\
As root; {GENERATOR} is where the agent's units are, or the
package wlproxy-dkms has it in place:
  install -Dm755 {GENERATOR} \\
    /etc/systemd/system-generators/wlproxy-gem-locate
  systemctl daemon-reload
  systemctl restart {SERVICE}"""
LOAD_THE_MODULE: Final = f"""\
Install the kernel module gem_locate (package wlproxy-dkms, kernel/udmabuf in the
sources), or have the agent do without it; as root:
  mkdir -p /etc/systemd/system/{SERVICE}.d
  ln -sf /dev/null /etc/systemd/system/{SERVICE}.d/{DROP_IN}
  systemctl daemon-reload
  systemctl restart {SERVICE}"""
APPLY_MODULES_RULE: Final = """\
Install the module's 60-wlproxy-udmabuf.rules in /etc/udev/rules.d, then as root:
  udevadm control --reload
  udevadm trigger --settle --action=add --subsystem-match=misc"""
NO_SYSTEMD: Final = "systemd does not answer: whether the agent runs was not looked at"


def examine_service(machine: Machine) -> Iterator[Finding]:
    """Check the units, then what the service may do, then the socket."""
    asked = ["systemctl", "show", f"--property={','.join(PROPERTIES)}"]
    text = machine.run([*asked, SOCKET_UNIT, SERVICE])
    if text is None:
        yield Finding("agent", Verdict.WARNING, NO_SYSTEMD)
        return
    units = parse_units(text)
    socket, service = units.get(SOCKET_UNIT, {}), units.get(SERVICE, {})
    missing = [
        name
        for name, unit in ((SOCKET_UNIT, socket), (SERVICE, service))
        if unit.get("LoadState") != "loaded"
    ]
    if missing:
        explanation = f"systemd has no {' and no '.join(missing)}"
        yield Finding("agent", Verdict.PROBLEM, explanation, INSTALL)
        return
    yield from check_units(socket, service)
    if in_domain(machine):
        yield check_grants(machine)
    else:
        yield from check_module(machine, service)
    if socket.get("ActiveState") == "active":
        yield check_socket(machine)


def uses_vsock(machine: Machine) -> bool:
    """Say whether the unit has the agent listen at a vsock, as vsock.conf does."""
    command = machine.run(["systemctl", "show", "--property=ExecStart", SERVICE])
    return command is not None and " --vsock" in command


def uses_vchan(machine: Machine) -> bool:
    """Say whether the unit has the agent use a vchan of Xen's, as xen-vchan.conf does."""
    command = machine.run(["systemctl", "show", "--property=ExecStart", SERVICE])
    return command is not None and f" unix:{VCHAN_SOCKET}" in command


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """Read what `systemctl show` prints of several units: one paragraph for each."""
    units = {}
    for paragraph in text.split("\n\n"):
        pairs = (line.partition("=") for line in paragraph.splitlines())
        unit = {name: value for name, equals, value in pairs if equals}
        if "Id" in unit:
            units[unit["Id"]] = unit
    return units


def check_units(
    socket: Mapping[str, str], service: Mapping[str, str]
) -> Iterator[Finding]:
    """Judge whether both units do their work, and will after the next boot."""
    state, detail = service.get("ActiveState", ""), service.get("SubState", "")
    subject = "agent"
    if socket.get("ActiveState") != "active":
        state = socket.get("ActiveState", "")
        explanation = f"{SOCKET_UNIT} is {state}: there is no socket for apps"
        yield Finding(subject, Verdict.PROBLEM, explanation, ENABLE)
    elif state == "failed" or detail.startswith("auto-restart"):
        explanation = f"{SERVICE} fails ({detail or state})"
        yield Finding(subject, Verdict.PROBLEM, explanation, READ_THE_LOG)
    elif state in RUNS:
        says = service.get("StatusText", "")
        yield Finding(subject, Verdict.OK, "it runs" + (f": {says}" if says else ""))
        if says == WAITING:
            explanation = "no proxy is connected: apps wait for it, and give up"
            yield Finding("host", Verdict.WARNING, explanation, START_THE_PROXY)
    elif state == "activating":
        yield Finding(subject, Verdict.WARNING, "it starts: look again in a minute")
    else:
        # Sockets start what they are for.
        explanation = f"{SERVICE} is {state}: the first app starts it"
        yield Finding(subject, Verdict.OK, explanation)
    disabled = [
        unit["Id"]
        for unit in (socket, service)
        if unit.get("UnitFileState") in ("disabled", "masked")
    ]
    if disabled:
        explanation = f"not enabled: {', '.join(disabled)}"
        yield Finding("next boot", Verdict.WARNING, explanation, ENABLE)


def check_module(machine: Machine, service: Mapping[str, str]) -> Iterator[Finding]:
    """Judge whether the agent has a way to find out where pages are."""
    subject = "module"
    wants_it = f"/{DROP_IN}" in service.get("DropInPaths", "")
    try:
        status = machine.path(DEVICE).stat()
    except OSError:
        if wants_it:
            explanation = f"the agent has no capability, for there is a {DROP_IN}, but no {DEVICE}"
            yield Finding(subject, Verdict.PROBLEM, explanation, LOAD_THE_MODULE)
            return
        explanation = "gem_locate is not loaded: GPU buffers (dma-bufs) are not shown"
        yield Finding(subject, Verdict.OK, explanation)
        yield from check_capability(machine, service)
        return
    if status.st_gid != machine.agents_group or not status.st_mode & 0o020:
        explanation = f"{DEVICE} is not the group {AGENTS_GROUP}'s"
        verdict = Verdict.PROBLEM if wants_it else Verdict.WARNING
        yield Finding(subject, verdict, explanation, APPLY_MODULES_RULE)
    elif not wants_it:
        explanation = f"there is {DEVICE}, but the agent's unit may not use it"
        yield Finding(subject, Verdict.WARNING, explanation, USE_THE_MODULE)
    else:
        explanation = "the agent needs no capability, and finds GPU buffers"
        yield Finding(subject, Verdict.OK, explanation)


def check_capability(machine: Machine, service: Mapping[str, str]) -> Iterator[Finding]:
    """See whether a running agent can read page frame numbers."""
    status = machine.read(f"/proc/{service.get('MainPID', '0')}/status")
    if not status:
        return
    if has_capability(status, CAP_SYS_ADMIN):
        explanation = "the agent has CAP_SYS_ADMIN: it can tell where pages are"
        yield Finding("agent's rights", Verdict.OK, explanation)
        return
    explanation = (
        "the agent has neither CAP_SYS_ADMIN nor gem_locate: it cannot tell where"
        " pages are, and no app is shown"
    )
    remedy = (
        f"{INSTALL}\nWhat takes it away may be a drop-in:\n  systemctl cat {SERVICE}"
    )
    yield Finding("agent's rights", Verdict.PROBLEM, explanation, remedy)


def has_capability(status: str, number: int) -> bool:
    """Look for an effective capability in a /proc/PID/status (proc_pid_status(5))."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            try:
                return bool(int(value, 16) >> number & 1)
            except ValueError:
                return False
    return False


def check_socket(machine: Machine) -> Finding:
    """See whether whoever asks may connect."""
    subject = "socket"
    path = machine.path(SOCKET)
    try:
        status = path.stat()
    except OSError as exc:
        explanation = f"{SOCKET}: {os.strerror(exc.errno or 0)}"
        remedy = f"As root:\n  systemctl restart {SOCKET_UNIT}"
        return Finding(subject, Verdict.PROBLEM, explanation, remedy)
    if os.access(path, os.W_OK, effective_ids=True):
        return Finding(subject, Verdict.OK, f"{SOCKET} is there for you")
    if status.st_mode & 0o020:
        explanation = (
            f"{SOCKET} is for the group {status.st_gid}, and you are not in it"
        )
        remedy = (
            "As root, and log in again then:\n"
            f'  usermod --append --groups "$(stat -c %G {SOCKET})" USER'
        )
    else:
        explanation = f"{SOCKET} is not for you (mode {status.st_mode & 0o7777:o})"
        remedy = (
            f"SocketMode= in {SOCKET_UNIT} decides:\n  systemctl edit {SOCKET_UNIT}"
        )
    return Finding(subject, Verdict.PROBLEM, explanation, remedy)
