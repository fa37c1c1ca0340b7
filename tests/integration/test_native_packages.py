"""A guest with systemd, the agent installed by its Debian package: it runs, and goes again.

That packages are whole is seen in `tests/packaging/test_debs.py`, where nothing runs.
"""

from collections.abc import Iterator

import pytest

from lab import host_setup, kernel_tools, nested
from lab.guest import Guest
from release import debs
from tests.integration.harness import eventually
from tests.integration.native import DISPLAY, SERVICE, SOCKET, USER, NativeGuest

pytestmark = [
    pytest.mark.native_guest,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not kernel_tools.can_run(), reason="builds packages in a Debian: needs root"
    ),
    pytest.mark.skipif(
        "mmdebstrap" in host_setup.missing(),
        reason="needs mmdebstrap: python3 -m lab setup",
    ),
]

PACKAGES = ("python3-wlproxy-protocol", "wlproxy-guest-agent")
VARIABLES = "env | grep -E '^(WAYLAND_DISPLAY|XDG_SESSION_TYPE)=' | sort"


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeGuest]:
    """A guest in which its user is logged in, and the packages are installed then."""
    built = debs.build(tmp_path_factory.mktemp("packages"))
    machine = nested.native(tmp_path_factory.mktemp("guest")).replace(init="systemd")
    with Guest(machine) as guest:
        guest.boot()
        native = NativeGuest(guest)
        native.shell(f"loginctl enable-linger {USER}")
        running = f"systemctl is-active user@$(id -u {USER}).service || true"
        eventually(lambda: native.shell(running).strip() == "active", "it is", 180)
        for path in built:
            if path.suffix == ".deb" and path.name.partition("_")[0] in PACKAGES:
                guest.put(f"/root/{path.name}", path.read_bytes())
        install(native)
        yield native
        guest.power_off()


def install(native: NativeGuest) -> None:
    native.shell("dpkg --install /root/*.deb", timeout=240)


def test_the_units_run(native: NativeGuest) -> None:
    for unit in (SOCKET, SERVICE):
        shown = native.properties(unit, "ActiveState", "UnitFileState")
        assert shown == {"ActiveState": "active", "UnitFileState": "enabled"}
    program = native.shell(f"tr '\\0' '\\n' </proc/{native.main_pid()}/cmdline")
    assert "/usr/bin/wlproxy-guest-agent" in program.splitlines()


def test_who_is_logged_in_finds_the_socket(native: NativeGuest) -> None:
    done = native.login(f"{VARIABLES}; readlink -f $XDG_RUNTIME_DIR/wlproxy-0")
    assert done.stdout.decode().splitlines() == [
        "WAYLAND_DISPLAY=wlproxy-0",
        "XDG_SESSION_TYPE=wayland",
        DISPLAY,
    ]


def test_the_doctor_has_nothing_in_the_way(native: NativeGuest) -> None:
    done = native.login("wlproxy-guest-agent doctor")
    assert done.returncode == 0, done.stdout.decode()


def test_all_of_it_ends_when_it_is_removed(native: NativeGuest) -> None:
    pid = native.main_pid()
    native.shell(f"dpkg --remove {' '.join(reversed(PACKAGES))}")
    assert not native.guest.alive(pid)
    assert not native.guest.run(["test", "-e", DISPLAY]).ok
    done = native.login(f"{VARIABLES}; ls $XDG_RUNTIME_DIR")
    said = done.stdout.decode().split()
    assert done.ok, done.stderr
    assert not {"WAYLAND_DISPLAY=wlproxy-0", "XDG_SESSION_TYPE=wayland"} & set(said)
    assert "wlproxy-0" not in said
    install(native)  # as the others find it, in whatever order
