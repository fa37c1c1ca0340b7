"""The agent's units and rights, as the doctor sees them."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.guest_agent.doctor.guests import GuestTree
from tests.host.conftest import nobody
from wlproxy_guest.doctor import Verdict
from wlproxy_guest.doctor.machine import SOCKET
from wlproxy_guest.doctor.service import check_socket, has_capability, parse_units
from wlproxy_guest.locating.gem_locate import DEVICE

DROP_IN = "/etc/systemd/system/wlproxy-guest-agent.service.d/gem-locate.conf"


def test_without_systemd_it_says_so(guest: GuestTree) -> None:
    guest.has_systemd = False
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("agent", Verdict.WARNING)


def test_units_that_are_not_installed(guest: GuestTree) -> None:
    guest.socket["LoadState"] = guest.service["LoadState"] = "not-found"
    found = guest.only_complaint()
    assert found.verdict is Verdict.PROBLEM
    assert "agent.socket and no wlproxy-guest-agent.service" in found.explanation
    assert "docs/guest.md" in found.remedy


def test_socket_that_is_not_started(guest: GuestTree) -> None:
    guest.socket["ActiveState"] = "inactive"
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("agent", Verdict.PROBLEM)
    assert "\n  systemctl enable --now wlproxy-guest-agent.socket" in found.remedy


@pytest.mark.parametrize(
    ("state", "detail", "verdict"),
    [
        ("failed", "failed", Verdict.PROBLEM),
        ("activating", "auto-restart", Verdict.PROBLEM),
        ("activating", "auto-restart-queued", Verdict.PROBLEM),
        ("activating", "start", Verdict.WARNING),
        ("inactive", "dead", Verdict.OK),
        ("active", "running", Verdict.OK),
    ],
)
def test_states_of_the_service(
    guest: GuestTree, state: str, detail: str, verdict: Verdict
) -> None:
    guest.service |= {"ActiveState": state, "SubState": detail}
    found = guest.examine()["agent"]
    assert found.verdict is verdict
    assert ("journalctl" in found.remedy) == (verdict is Verdict.PROBLEM)


def test_nobody_at_the_other_end(guest: GuestTree) -> None:
    guest.service["StatusText"] = "waiting for the host"
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("host", Verdict.WARNING)
    assert "\n  wlproxy run" in found.remedy


def test_units_that_are_not_enabled(guest: GuestTree) -> None:
    guest.socket["UnitFileState"] = guest.service["UnitFileState"] = "disabled"
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("next boot", Verdict.WARNING)


def test_agent_without_any_rights(guest: GuestTree) -> None:
    guest.write("/proc/77/status", "CapEff:\t0000000000000000\n")
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("agent's rights", Verdict.PROBLEM)


def test_agent_that_is_gone(guest: GuestTree) -> None:
    guest.remove("/proc/77/status")
    assert "agent's rights" not in guest.examine()


def test_module_in_use(guest: GuestTree) -> None:
    guest.write(DEVICE, mode=0o660)
    guest.service["DropInPaths"] = DROP_IN
    found = guest.examine()
    assert found["module"].verdict is Verdict.OK
    assert "finds GPU buffers" in found["module"].explanation
    assert "agent's rights" not in found


def test_module_that_the_unit_does_not_use(guest: GuestTree) -> None:
    guest.write(DEVICE, mode=0o660)
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("module", Verdict.WARNING)
    assert "gem-locate-generator" in found.remedy


def test_drop_in_without_the_module(guest: GuestTree) -> None:
    guest.service["DropInPaths"] = f"/run/other.conf {DROP_IN}"
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("module", Verdict.PROBLEM)
    assert f"ln -sf /dev/null {DROP_IN}" in found.remedy


@pytest.mark.parametrize("wants_it", [True, False])
def test_module_that_is_roots_only(guest: GuestTree, *, wants_it: bool) -> None:
    guest.write(DEVICE, mode=0o600)
    guest.service["DropInPaths"] = DROP_IN if wants_it else ""
    found = guest.only_complaint()
    assert found.verdict is (Verdict.PROBLEM if wants_it else Verdict.WARNING)
    assert "60-wlproxy-udmabuf.rules" in found.remedy


def test_socket_that_is_not_there(guest: GuestTree) -> None:
    guest.remove(SOCKET)
    found = guest.examine()["socket"]
    assert found.verdict is Verdict.PROBLEM
    assert "systemctl restart wlproxy-guest-agent.socket" in found.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
@pytest.mark.parametrize(
    ("mode", "remedy"),
    [(0o666, ""), (0o660, 'usermod --append --groups "$('), (0o600, "systemctl edit")],
)
def test_socket_that_is_for_others(mode: int, remedy: str) -> None:
    # Not tmp_path: ordinary users do not get there.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        guest = GuestTree(Path(directory))
        os.chown(guest.path(SOCKET), 0, 12345)
        guest.path(SOCKET).chmod(mode)
        with nobody():
            found = check_socket(guest.machine())
    assert (found.verdict is Verdict.PROBLEM) == bool(remedy)
    assert remedy in found.remedy


NAMES = st.from_regex(r"[A-Za-z]+", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))


@given(st.lists(st.dictionaries(NAMES, VALUES), max_size=4))
def test_what_systemctl_shows_is_read(units: list[dict[str, str]]) -> None:
    named = [{**unit, "Id": f"{n}.service"} for n, unit in enumerate(units)]
    text = "\n".join("".join(f"{k}={v}\n" for k, v in unit.items()) for unit in named)
    assert parse_units(text) == {unit["Id"]: unit for unit in named}


@given(st.text())
def test_anything_may_be_shown(text: str) -> None:
    for name, unit in parse_units(text).items():
        assert unit["Id"] == name


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 63))
def test_capabilities_are_bits(mask: int, number: int) -> None:
    status = f"Name:\tx\nCapInh:\t0\nCapEff:\t{mask:016x}\nCapBnd:\tffffffffffffffff\n"
    assert has_capability(status, number) == bool(mask & 1 << number)


@given(st.text())
def test_no_status_is_too_strange(text: str) -> None:
    assert has_capability(f"CapEff:{text}", 21) in (True, False)
    assert has_capability(text.replace("CapEff", ""), 21) is False
