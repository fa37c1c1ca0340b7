"""Checks the wire to the host: is there a port of the right name, and whose is it?"""

import os
from collections.abc import Iterator
from typing import Final

from wlproxy.protocol.channel.frames import PORT_NAME
from wlproxy_guest.doctor.findings import Finding, Verdict
from wlproxy_guest.doctor.machine import AGENTS_GROUP, Machine

PORTS: Final = "/sys/class/virtio-ports"
VSOCK: Final = "/dev/vsock"
GROUP_MAY_USE: Final = 0o060
NAMES_SHOWN: Final = 8

ADD_PORT: Final = """\
Add the port on the host, and start the VM anew. This prints what its QEMU wants, or with
--libvirt the XML:
  wlproxy qemu-args --name NAME --memory SIZE"""
ADD_VSOCK: Final = """\
Load the driver, as root; if the machine has no vsock, its VMM has to give it one:
  modprobe -a vsock vmw_vsock_virtio_transport"""
MAKE_GROUP: Final = """\
The agent's user and group are made by wlproxy.sysusers.conf in /etc/sysusers.d; as root:
  systemd-sysusers"""
APPLY_RULE: Final = """\
The udev rule came after the port; as root:
  udevadm control --reload
  udevadm trigger --settle --action=add --subsystem-match=virtio-ports"""
INSTALL_RULE: Final = f"""\
Install the agent's 60-wlproxy.rules in /etc/udev/rules.d, then as root:
{APPLY_RULE.partition(chr(10))[2]}"""


def examine_port(machine: Machine) -> Iterator[Finding]:
    """Find the port, and see whether the agent may use it."""
    found = find_ports(machine)
    if PORT_NAME not in found:
        explanation = f"this VM has no virtio port named {PORT_NAME}"
        if found:
            shown = sorted(found)[:NAMES_SHOWN]
            explanation += f" (it has {', '.join(shown)})"
        yield Finding("port", Verdict.PROBLEM, explanation, ADD_PORT)
        return
    yield Finding("port", Verdict.OK, f"{found[PORT_NAME]} is {PORT_NAME}")
    yield check_port_rights(machine, found[PORT_NAME])


def examine_vsock(machine: Machine) -> Finding:
    """See whether the machine has a vsock, which the agent is to listen at."""
    if machine.path(VSOCK).exists():
        return Finding("vsock", Verdict.OK, "the agent lets the host connect to it")
    explanation = f"the agent is to listen at one, but there is no {VSOCK}"
    return Finding("vsock", Verdict.PROBLEM, explanation, ADD_VSOCK)


def find_ports(machine: Machine) -> dict[str, str]:
    """Return the names of the virtio ports there are, and their devices."""
    found = {}
    for directory in sorted(machine.path(PORTS).glob("*")):
        name = machine.read(f"{PORTS}/{directory.name}/name").strip()
        if name:
            found[name] = f"/dev/{directory.name}"
    return found


def check_port_rights(machine: Machine, device: str) -> Finding:
    """See whether the port is the agent's group's."""
    subject = "port's rights"
    if machine.agents_group is None:
        explanation = f"there is no group {AGENTS_GROUP} that it could be for"
        return Finding(subject, Verdict.PROBLEM, explanation, MAKE_GROUP)
    try:
        status = machine.path(device).stat()
    except OSError as exc:
        explanation = f"{device}: {os.strerror(exc.errno or 0)}"
        return Finding(subject, Verdict.PROBLEM, explanation, APPLY_RULE)
    mode = status.st_mode & GROUP_MAY_USE
    if status.st_gid == machine.agents_group and mode == GROUP_MAY_USE:
        return Finding(subject, Verdict.OK, f"it is the group {AGENTS_GROUP}'s")
    rules = ("/etc/udev/rules.d/60-wlproxy*", "/usr/lib/udev/rules.d/60-wlproxy*")
    remedy = APPLY_RULE if machine.has_any(*rules) else INSTALL_RULE
    explanation = f"{device} is not the group {AGENTS_GROUP}'s to read and write"
    return Finding(subject, Verdict.PROBLEM, explanation, remedy)
