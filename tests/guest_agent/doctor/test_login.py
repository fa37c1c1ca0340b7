"""What apps of a user are told, as the doctor sees it."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.guest_agent.doctor.guests import GuestTree, complaints
from wlproxy_guest.doctor import Verdict
from wlproxy_guest.doctor.login import (
    DISPLAY_MANAGER,
    DROP_IN,
    ENVIRONMENT,
    GENERATORS,
    parse_environment,
)
from wlproxy_guest.doctor.machine import SOCKET


def test_root_is_told_to_ask_as_a_user(guest: GuestTree) -> None:
    guest.uid = 0
    guest.environ.clear()
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("environment", Verdict.WARNING)


@pytest.mark.parametrize("runtime", ["", "/nowhere/at/all"])
def test_no_runtime_directory(guest: GuestTree, runtime: str) -> None:
    guest.environ["XDG_RUNTIME_DIR"] = runtime
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("XDG_RUNTIME_DIR", Verdict.PROBLEM)
    assert "\n  machinectl shell" in found.remedy


def test_link_that_is_missing(guest: GuestTree) -> None:
    (guest.runtime / "wlproxy-0").unlink()
    found = guest.examine()
    assert found["wlproxy-0"].verdict is Verdict.PROBLEM
    assert "wlproxy.runtime-dir.conf" not in found["wlproxy-0"].remedy
    # The name in the variable leads nowhere then, and is nobody else's compositor either.
    assert [each.subject for each in complaints(found.values())] == ["wlproxy-0"]

    guest.remove(f"/etc/{DROP_IN}")
    assert "wlproxy.runtime-dir.conf" in guest.examine()["wlproxy-0"].remedy


def test_remedy_of_a_missing_link_helps(guest: GuestTree) -> None:
    (guest.runtime / "wlproxy-0").unlink()
    remedy = guest.examine()["wlproxy-0"].remedy
    (command,) = (line for line in remedy.splitlines() if line.startswith("  "))
    subprocess.run(
        ["sh", "-euc", command.replace(SOCKET, str(guest.path(SOCKET)))],
        env={**guest.environ, "PATH": "/usr/bin:/bin"},
        check=True,
        timeout=30,
    )
    assert complaints(guest.examine().values()) == []


def test_links_in_a_circle(guest: GuestTree) -> None:
    link = guest.runtime / "wlproxy-0"
    link.unlink()
    link.symlink_to(link)
    assert guest.examine()["wlproxy-0"].verdict is Verdict.PROBLEM


def test_no_display(guest: GuestTree) -> None:
    del guest.environ["WAYLAND_DISPLAY"]
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("WAYLAND_DISPLAY", Verdict.PROBLEM)
    assert (
        "\n  export WAYLAND_DISPLAY=wlproxy-0 XDG_SESSION_TYPE=wayland" in found.remedy
    )
    assert "pam-auth-update" not in found.remedy

    guest.remove(ENVIRONMENT)
    assert "pam-auth-update" in guest.only_complaint().remedy


def test_display_of_a_compositor_of_the_guests_own(guest: GuestTree) -> None:
    guest.environ["WAYLAND_DISPLAY"] = "wayland-1"
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("WAYLAND_DISPLAY", Verdict.WARNING)
    assert "\n  WAYLAND_DISPLAY=wlproxy-0" in found.remedy


def test_path_instead_of_a_name(guest: GuestTree) -> None:
    guest.environ["WAYLAND_DISPLAY"] = str(guest.path(SOCKET))
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("WAYLAND_DISPLAY", Verdict.WARNING)
    assert "/etc/environment.d/60-wlproxy.conf" in found.remedy


def test_session_type_of_a_terminal(guest: GuestTree) -> None:
    guest.environ["XDG_SESSION_TYPE"] = "tty"
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("XDG_SESSION_TYPE", Verdict.WARNING)


def test_services_that_are_not_told(guest: GuestTree) -> None:
    guest.manager = "LANG=C\n"
    found = guest.only_complaint()
    assert (found.subject, found.verdict) == ("systemd --user", Verdict.WARNING)
    assert "\n  systemctl --user set-environment" in found.remedy
    assert "Install" not in found.remedy

    guest.remove(f"/etc/{GENERATORS}")
    assert f"/etc/{GENERATORS}" in guest.only_complaint().remedy

    guest.write(DISPLAY_MANAGER)
    assert complaints(guest.examine().values()) == []


def test_no_systemd_of_the_users(guest: GuestTree) -> None:
    guest.manager = None
    assert "systemd --user" not in guest.examine()


def test_gtk_4_without_a_gpu(guest: GuestTree) -> None:
    guest.remove("/dev/dri/renderD128")
    assert "GSK_RENDERER=cairo" in guest.examine()["GTK 4"].explanation

    guest.environ["GSK_RENDERER"] = "cairo"
    assert "GTK 4" not in guest.examine()


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)


@given(st.dictionaries(NAMES, st.from_regex(r"[A-Za-z0-9_./:@-]*", fullmatch=True)))
def test_plain_variables_are_read(variables: dict[str, str]) -> None:
    text = "".join(f"{name}={value}\n" for name, value in variables.items())
    assert parse_environment(text) == variables


@given(NAMES, st.text("ab c;&|", min_size=1))
def test_quoted_variables_are_read(name: str, value: str) -> None:
    assert parse_environment(f"{name}=$'{value}'\n") == {name: value}


@given(st.text())
def test_any_environment_is_survived(text: str) -> None:
    assert all(name.isidentifier() for name in parse_environment(text))


def test_a_value_that_cannot_be_read_spoils_no_other() -> None:
    assert parse_environment("A=$'it\\'s'\nB=2\n")["B"] == "2"
