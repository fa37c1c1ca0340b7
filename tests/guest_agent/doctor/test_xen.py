"""A domain of Xen's, as the doctor sees it: a console in place of a port, and grants."""

import os

import pytest

from tests.guest_agent.doctor.guests import GuestTree
from wlproxy_guest.doctor import Verdict
from wlproxy_guest.vchan import SOCKET


@pytest.fixture
def domain(guest: GuestTree) -> GuestTree:
    guest.write("/sys/hypervisor/type", "xen\n")
    for name in ("vport0p1", "vport0p2"):
        guest.remove(f"/sys/class/virtio-ports/{name}/name")
    guest.write("/dev/hvc1", mode=0o660)
    guest.write("/dev/gem-grant", mode=0o660)
    return guest


def test_nothing_is_wrong_in_a_healthy_domain(domain: GuestTree) -> None:
    findings = domain.examine()
    assert {each.verdict for each in findings.values()} == {Verdict.OK}
    assert findings["channel"].explanation == "/dev/hvc1 is there"
    assert findings["module"].explanation == "/dev/gem-grant is the group wlproxy's"


def test_a_domain_without_the_channel(domain: GuestTree) -> None:
    domain.remove("/dev/hvc1")
    found = domain.only_complaint()
    assert (found.subject, found.verdict) == ("channel", Verdict.PROBLEM)
    assert "\n  wlproxy xl-cfg" in found.remedy


@pytest.mark.parametrize("served", [True, False])
def test_a_domain_with_a_vchan(domain: GuestTree, *, served: bool) -> None:
    """It needs no console."""
    domain.remove("/dev/hvc1")
    domain.command = f"ExecStart={{ argv[]=wlproxy-guest-agent --port unix:{SOCKET} }}"
    if served:
        domain.write(str(SOCKET))
        found = domain.examine()["channel"]
        assert (found.verdict, str(SOCKET) in found.explanation) == (Verdict.OK, True)
    else:
        found = domain.only_complaint()
        assert (found.subject, found.verdict) == ("channel", Verdict.PROBLEM)
        assert "wlproxy-guest-vchan" in found.remedy


def test_a_domain_without_the_module(domain: GuestTree) -> None:
    domain.remove("/dev/gem-grant")
    found = domain.only_complaint()
    assert (found.subject, found.verdict) == ("module", Verdict.PROBLEM)
    assert "\n  modprobe gem_grant" in found.remedy


@pytest.mark.parametrize(
    ("device", "subject"),
    [("/dev/hvc1", "channel's rights"), ("/dev/gem-grant", "module")],
)
def test_devices_that_are_roots_only(
    domain: GuestTree, device: str, subject: str
) -> None:
    domain.path(device).chmod(0o600)
    found = domain.only_complaint()
    assert (found.subject, found.verdict) == (subject, Verdict.PROBLEM)
    assert "udevadm trigger" in found.remedy


def test_devices_of_another_group(domain: GuestTree) -> None:
    domain.agents_group = os.getgid() + 1
    found = domain.examine()
    assert found["channel's rights"].verdict is Verdict.PROBLEM
    assert found["module"].verdict is Verdict.PROBLEM
