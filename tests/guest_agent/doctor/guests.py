"""Guests to be examined: a directory in place of `/`, and what systemd would answer."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from wlproxy_guest.doctor import Finding, Machine, Verdict, examine
from wlproxy_guest.doctor.login import DROP_IN, ENVIRONMENT, GENERATORS, PAM
from wlproxy_guest.doctor.machine import SOCKET
from wlproxy_guest.doctor.service import SERVICE, SOCKET_UNIT

USER = 1000
HEALTHY_UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
}
STATUS_OF_AGENT = (
    "Name:\twlproxy\nCapPrm:\t0000000000200000\nCapEff:\t0000000000200000\n"
)


class GuestTree:
    """A guest in which all is well, until a test breaks something."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.runtime = directory / "runtime"
        self.runtime.mkdir()
        self.uid = USER
        self.agents_group: int | None = os.getgid()
        self.environ = {
            "XDG_RUNTIME_DIR": str(self.runtime),
            "WAYLAND_DISPLAY": "wlproxy-0",
            "XDG_SESSION_TYPE": "wayland",
        }
        self.socket = {"Id": SOCKET_UNIT, **HEALTHY_UNIT}
        self.service = {"Id": SERVICE, **HEALTHY_UNIT, "SubState": "running"}
        self.service |= {"MainPID": "77", "DropInPaths": ""}
        self.service["StatusText"] = "showing apps on the host"
        self.manager: str | None = "LANG=C.UTF-8\nWAYLAND_DISPLAY=wlproxy-0\n"
        self.command = "ExecStart={ path=/usr/bin/wlproxy-guest-agent ; argv[]= ; }\n"
        self.has_systemd = True
        for name, port in (("vport0p1", "org.wlproxy.0"), ("vport0p2", "other")):
            self.write(f"/sys/class/virtio-ports/{name}/name", f"{port}\n")
            self.write(f"/dev/{name}", mode=0o660)
        self.write(SOCKET, mode=0o666)
        self.write("/dev/dri/renderD128")
        self.write("/proc/77/status", STATUS_OF_AGENT)
        self.write(ENVIRONMENT)
        self.write(PAM, f"session optional pam_env.so conffile={ENVIRONMENT}\n")
        self.write(f"/etc/{GENERATORS}")
        self.write(f"/etc/{DROP_IN}")
        self.write("/etc/udev/rules.d/60-wlproxy.rules")
        (self.runtime / "wlproxy-0").symlink_to(self.path(SOCKET))

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def write(self, absolute: str, text: str = "", mode: int = 0o644) -> None:
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def remove(self, absolute: str) -> None:
        self.path(absolute).unlink()

    def run(self, command: Sequence[str]) -> str | None:
        if not self.has_systemd:
            return None
        if "--user" in command:
            return self.manager
        if "--property=ExecStart" in command:
            return self.command
        units = (self.socket, self.service)
        paragraphs = ("".join(f"{k}={v}\n" for k, v in unit.items()) for unit in units)
        return "\n".join(paragraphs)

    def machine(self) -> Machine:
        groups = frozenset(os.getgroups())
        return Machine(
            self.root, self.environ, self.uid, groups, self.agents_group, self.run
        )

    def examine(self) -> dict[str, Finding]:
        findings = examine(self.machine())
        by_subject = {finding.subject: finding for finding in findings}
        assert len(by_subject) == len(findings), "a subject stands for two findings"
        return by_subject

    def only_complaint(self) -> Finding:
        """Return the one finding that is no praise."""
        (finding,) = complaints(self.examine().values())
        return finding


def complaints(findings: Iterable[Finding]) -> list[Finding]:
    return [each for each in findings if each.verdict is not Verdict.OK]
