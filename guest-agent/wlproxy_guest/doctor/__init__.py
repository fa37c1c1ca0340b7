"""`wlproxy-guest-agent doctor`: what is wrong in the guest, and what to do about it.

It looks, and changes nothing.  The host has a doctor of its own, `wlproxy doctor`.
"""

from wlproxy_guest.doctor.findings import Finding, Verdict, report
from wlproxy_guest.doctor.login import examine_login
from wlproxy_guest.doctor.machine import Machine
from wlproxy_guest.doctor.port import examine_port, examine_vsock
from wlproxy_guest.doctor.service import examine_service, uses_vchan, uses_vsock
from wlproxy_guest.doctor.xen import check_vchan, examine_console, in_domain

__all__ = ["Finding", "Machine", "Verdict", "diagnose", "examine", "report"]


def examine(machine: Machine) -> list[Finding]:
    """Run every check; raises nothing of its own."""
    return [
        *_examine_wire(machine),
        *examine_service(machine),
        *examine_login(machine),
    ]


def _examine_wire(machine: Machine) -> list[Finding]:
    if uses_vsock(machine):
        return [examine_vsock(machine)]
    if uses_vchan(machine):
        return [check_vchan(machine)]
    examined = examine_console if in_domain(machine) else examine_port
    return list(examined(machine))


def diagnose(columns: int = 80) -> tuple[str, int]:
    """Examine the machine that this runs on; return what to print, and the exit status.

    Args:
        columns: how wide the text may be.
    """
    findings = examine(Machine.this())
    wrong = any(finding.verdict is Verdict.PROBLEM for finding in findings)
    return report(findings, columns), int(wrong)
