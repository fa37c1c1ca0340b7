"""The wire to the host, as the doctor sees it."""

import os

from tests.guest_agent.doctor.guests import GuestTree
from wlproxy_guest.doctor import Verdict


def test_nothing_is_wrong_in_a_healthy_guest(guest: GuestTree) -> None:
    findings = guest.examine()
    assert {each.verdict for each in findings.values()} == {Verdict.OK}
    assert findings["port"].explanation == "/dev/vport0p1 is org.wlproxy.0"
    assert not [each.remedy for each in findings.values() if each.remedy]


def test_port_of_another_name(guest: GuestTree) -> None:
    guest.write("/sys/class/virtio-ports/vport0p1/name", "org.wlproxy.1\n")
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("port", Verdict.PROBLEM)
    assert "(it has org.wlproxy.1, other)" in found.explanation
    assert "\n  wlproxy qemu-args" in found.remedy


def test_no_port_at_all(guest: GuestTree) -> None:
    for name in ("vport0p1", "vport0p2"):
        guest.remove(f"/sys/class/virtio-ports/{name}/name")
    assert guest.only_complaint().explanation.endswith("named org.wlproxy.0")


def test_port_that_is_roots_only(guest: GuestTree) -> None:
    guest.path("/dev/vport0p1").chmod(0o600)
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("port's rights", Verdict.PROBLEM)
    assert "udevadm trigger" in found.remedy
    assert "Install" not in found.remedy

    guest.remove("/etc/udev/rules.d/60-wlproxy.rules")
    assert "Install the agent's 60-wlproxy.rules" in guest.only_complaint().remedy


def test_port_of_another_group(guest: GuestTree) -> None:
    guest.agents_group = os.getgid() + 1
    assert guest.only_complaint().subject == "port's rights"


def test_port_without_a_device(guest: GuestTree) -> None:
    guest.remove("/dev/vport0p1")
    assert "No such file" in guest.only_complaint().explanation


def test_no_group(guest: GuestTree) -> None:
    guest.agents_group = None
    found = guest.only_complaint()
    assert "no group wlproxy" in found.explanation
    assert "\n  systemd-sysusers" in found.remedy


def test_no_port_is_needed_where_the_agent_listens_at_a_vsock(guest: GuestTree) -> None:
    guest.command = "ExecStart={ argv[]=wlproxy-guest-agent --vsock 5000 ; }\n"
    guest.remove("/sys/class/virtio-ports/vport0p1/name")
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("vsock", Verdict.PROBLEM)
    assert "\n  modprobe" in found.remedy

    guest.write("/dev/vsock")
    assert guest.examine()["vsock"].verdict is Verdict.OK
