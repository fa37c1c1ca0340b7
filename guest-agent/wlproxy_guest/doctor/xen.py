"""Checks what a domain of Xen's needs in place of a virtio port and addresses: console, and grants."""

import os
from collections.abc import Iterator
from typing import Final

from wlproxy_guest.doctor.findings import Finding, Verdict
from wlproxy_guest.doctor.machine import AGENTS_GROUP, Machine
from wlproxy_guest.locating.gem_grant import DEVICE
from wlproxy_guest.vchan import SOCKET
from wlproxy_guest.xen_console import USUAL
from wlproxy_guest.xenstore import HYPERVISOR_TYPE

CONSOLE: Final = f"/dev/hvc{USUAL}"
GROUP_MAY_USE: Final = 0o060
DROP_IN: Final = "xen.conf"

ADD_CHANNEL: Final = """\
Add the channel to the domain's xl.cfg, and create the domain anew. On the host, this prints
the lines:
  wlproxy xl-cfg --name NAME"""
START_VCHAN: Final = """\
As root, see what ails the process that makes it:
  systemctl status wlproxy-guest-vchan"""
LOAD_MODULE: Final = """\
Install the kernel module gem_grant (package wlproxy-dkms, kernel/udmabuf in the sources); as
root then:
  modprobe gem_grant"""
APPLY_RULES: Final = f"""\
Install the agent's 60-wlproxy.rules and the modules' 60-wlproxy-udmabuf.rules in
/etc/udev/rules.d, then as root:
  udevadm control --reload
  udevadm trigger --settle --action=add --name-match={CONSOLE} --name-match={DEVICE}"""


def in_domain(machine: Machine) -> bool:
    """Say whether the machine is a domain of Xen's."""
    return machine.read(str(HYPERVISOR_TYPE)).strip() == "xen"


def examine_console(machine: Machine) -> Iterator[Finding]:
    """Find the console that is the wire, and see whether the agent may use it."""
    if not machine.path(CONSOLE).exists():
        explanation = f"this domain has no channel: there is no {CONSOLE}"
        yield Finding("channel", Verdict.PROBLEM, explanation, ADD_CHANNEL)
        return
    yield Finding("channel", Verdict.OK, f"{CONSOLE} is there")
    yield _check_rights(machine, "channel's rights", CONSOLE)


def check_vchan(machine: Machine) -> Finding:
    """See whether the process that has the vchan is there for the agent."""
    if not machine.path(str(SOCKET)).exists():
        explanation = f"nobody has a vchan for the agent: there is no {SOCKET}"
        return Finding("channel", Verdict.PROBLEM, explanation, START_VCHAN)
    return Finding("channel", Verdict.OK, f"a vchan, at {SOCKET}")


def check_grants(machine: Machine) -> Finding:
    """See whether pages can be granted, without which nothing can be shown."""
    if not machine.path(DEVICE).exists():
        explanation = (
            f"there is no {DEVICE}: no page can be granted, and no app is shown"
        )
        return Finding("module", Verdict.PROBLEM, explanation, LOAD_MODULE)
    return _check_rights(machine, "module", DEVICE)


def _check_rights(machine: Machine, subject: str, device: str) -> Finding:
    try:
        status = machine.path(device).stat()
    except OSError as exc:
        explanation = f"{device}: {os.strerror(exc.errno or 0)}"
        return Finding(subject, Verdict.PROBLEM, explanation, APPLY_RULES)
    may = status.st_mode & GROUP_MAY_USE == GROUP_MAY_USE
    if may and status.st_gid == machine.agents_group:
        return Finding(subject, Verdict.OK, f"{device} is the group {AGENTS_GROUP}'s")
    explanation = f"{device} is not the group {AGENTS_GROUP}'s to read and write"
    return Finding(subject, Verdict.PROBLEM, explanation, APPLY_RULES)
