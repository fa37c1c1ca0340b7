"""The systemd files agree with the code and with each other.  They run in the lab."""

import ctypes
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import wlproxy_guest
from tests.integration.native import documented_exposure
from wlproxy.protocol.channel.frames import PORT_NAME
from wlproxy.transport.xenstore import DEVICE as DEVICE_OF_XENSTORE
from wlproxy_guest import vchan
from wlproxy_guest.cli import VCHAN, parse
from wlproxy_guest.doctor.login import DISPLAY_MANAGER, ENVIRONMENT
from wlproxy_guest.doctor.machine import DISPLAY, SOCKET
from wlproxy_guest.launcher import passing, surroundings
from wlproxy_guest.locating.gem_grant import DEVICE as GEM_GRANT
from wlproxy_guest.locating.gem_locate import DEVICE
from wlproxy_guest.session import GRACE
from wlproxy_guest.wire import SUBSYSTEM

UNITS = Path(wlproxy_guest.__file__).parent.parent / "systemd"
MODULE_RULES = (
    UNITS.parent.parent / "kernel" / "udmabuf" / "udev" / "60-wlproxy-udmabuf.rules"
)
SOCKET_PATH = "/run/wlproxy/wayland-0"
PAM_TTY = 3
"""An item of a login (security/_pam_types.h)."""


def setting(name: str, unit: str) -> list[str]:
    text = (UNITS / unit).read_text()
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_socket_is_where_apps_look() -> None:
    assert setting("ListenStream", "wlproxy-guest-agent.socket") == [SOCKET_PATH]
    assert SOCKET == SOCKET_PATH
    link = f"-ln -sfT {SOCKET_PATH} /run/user/%i/{DISPLAY}"
    assert setting("ExecStartPost", "wlproxy.runtime-dir.conf") == [link]


def test_the_link_replaces_what_is_there_and_follows_nothing(tmp_path: Path) -> None:
    """Root makes it in a directory that is the user's."""
    (command,) = setting("ExecStartPost", "wlproxy.runtime-dir.conf")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / DISPLAY
    link.symlink_to(elsewhere)
    words = command.removeprefix("-").replace("/run/user/%i", str(tmp_path)).split()
    subprocess.run(words, check=True, timeout=30)

    assert str(link.readlink()) == SOCKET_PATH
    assert os.listdir(elsewhere) == []


def generated(environ: dict[str, str]) -> dict[str, str]:
    """Return what the generator of `systemd --user`'s environment sets."""
    done = subprocess.run(
        [UNITS / "wlproxy.environment"],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def logins() -> dict[str, str]:
    """Return what a login gets where nothing is set."""
    text = (UNITS / "wlproxy.pam_env.conf").read_text()
    lines = [line.split() for line in text.splitlines() if line and line[0] != "#"]
    return {name: default.removeprefix("DEFAULT=") for name, default, *_ in lines}


@pytest.mark.skipif(Path(DISPLAY_MANAGER).exists(), reason="this is a desktop")
def test_services_and_logins_are_told_the_same() -> None:
    told = generated({})
    assert told == logins()
    assert told["WAYLAND_DISPLAY"] == DISPLAY
    assert told["XDG_SESSION_TYPE"] == "wayland"


def test_a_display_that_is_set_stays() -> None:
    assert generated({"WAYLAND_DISPLAY": "wayland-1"}) == {}


def test_logins_by_terminal_only_are_told() -> None:
    """Compositors that a display manager starts would open windows on the host."""
    profile = (UNITS / "wlproxy.pam-config").read_text()
    (services,) = re.findall(r"service in (\S+)", profile)
    assert set(services.split(":")) == {"login", "sshd", "su-l"}
    assert f"conffile={ENVIRONMENT}" in profile


@pytest.mark.parametrize(
    ("service", "tty", "told"),
    [
        ("sshd", "ssh", True),
        ("sshd", "/dev/pts/3", True),
        ("login", "ttyS0", True),  # a serial console: no seat
        ("login", "hvc0", True),
        ("su-l", None, True),
        ("su-l", "/dev/pts/3", True),
        # These are of seat0, where startx and sway are started.
        ("login", "tty1", False),
        ("login", "/dev/tty12", False),
        ("su-l", "tty1", False),
        ("gdm-password", None, False),
    ],
)
def test_who_is_told_by_pam(
    tmp_path: Path, service: str, tty: str | None, *, told: bool
) -> None:
    profile = (UNITS / "wlproxy.pam-config").read_text()
    lines = profile.partition("Session:\n")[2].strip().splitlines()
    stack = "".join(f"session {line.strip()}\n" for line in lines)
    stack = stack.replace(ENVIRONMENT, str(UNITS / "wlproxy.pam_env.conf"))
    assert str(UNITS) in stack
    (tmp_path / service).write_text(f"session required pam_permit.so\n{stack}")

    given = open_session(tmp_path, service, tty)

    expected = logins() if told else dict.fromkeys(logins())
    assert given == expected


def open_session(
    directory: Path, service: str, tty: str | None
) -> dict[str, str | None]:
    """Open a session by libpam itself; return what of the profile's it is given."""
    try:
        pam = ctypes.CDLL("libpam.so.0")
        start = pam.pam_start_confdir
    except (OSError, AttributeError) as exc:
        pytest.skip(f"no libpam with pam_start_confdir (1.4): {exc}")
    pam.pam_getenv.restype = ctypes.c_char_p
    handle = ctypes.c_void_p()
    nobody_to_ask = (ctypes.c_void_p * 2)()
    user = pwd.getpwuid(os.getuid()).pw_name.encode()
    names = (service.encode(), user)
    status = start(*names, nobody_to_ask, bytes(directory), ctypes.byref(handle))
    assert status == 0
    if tty is not None:
        assert pam.pam_set_item(handle, PAM_TTY, ctypes.c_char_p(tty.encode())) == 0
    status = pam.pam_open_session(handle, 0)
    assert status == 0
    given = {name: pam.pam_getenv(handle, name.encode()) for name in logins()}
    found = {name: value and value.decode() for name, value in given.items()}
    pam.pam_end(handle, 0)
    return found


def test_it_is_tried_again_for_ever() -> None:
    assert setting("StartLimitIntervalSec", "wlproxy-guest-agent.service") == ["0"]
    assert setting("Restart", "wlproxy-guest-agent.service") == ["on-failure"]
    assert setting("TriggerLimitIntervalSec", "wlproxy-guest-agent.socket") == ["0"]


def test_udev_rule_is_about_the_port_that_is_looked_for() -> None:
    rule = (UNITS / "60-wlproxy.rules").read_text()

    assert f'SUBSYSTEM=="{SUBSYSTEM}"' in rule
    assert f'ATTR{{name}}=="{PORT_NAME}"' in rule
    assert "wlproxy-guest-agent.service" in rule


def test_user_is_made() -> None:
    (user,) = setting("User", "wlproxy-guest-agent.service")

    assert f"\nu {user} " in (UNITS / "wlproxy.sysusers.conf").read_text()


def test_one_capability() -> None:
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert setting(name, "wlproxy-guest-agent.service") == ["CAP_SYS_ADMIN"]


def test_no_capability_with_the_module() -> None:
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert setting(name, "gem-locate.conf") == [""]
    assert setting("DeviceAllow", "gem-locate.conf") == [f"{DEVICE} rw"]
    escaped = DEVICE.removeprefix("/").replace("-", r"\x2d").replace("/", "-")
    for name in ("Wants", "After"):
        (units,) = setting(name, "gem-locate.conf")
        assert f"{escaped}.device" in units.split()


@pytest.mark.parametrize("has_module", [True, False])
def test_no_capability_is_taken_where_the_module_is_not(
    tmp_path: Path, *, has_module: bool
) -> None:
    """As after an update to a kernel for which it was not built, or not signed."""
    modules = tmp_path / "sys" / "gem_locate"
    if has_module:
        modules.mkdir(parents=True)
    elif Path("/sys/module/gem_locate").exists() or in_this_kernel("gem_locate"):
        pytest.skip("this kernel has gem_locate")
    generated = tmp_path / "generator"
    generated.mkdir()
    subprocess.run(
        [UNITS / "wlproxy.gem-locate-generator", generated, generated, generated],
        env={
            "WLPROXY_MODULE": str(modules),
            "WLPROXY_DROP_IN": str(UNITS / "gem-locate.conf"),
        },
        check=True,
        timeout=30,
    )
    drop_in = generated / "wlproxy-guest-agent.service.d" / "gem-locate.conf"
    if not has_module:
        assert list(generated.iterdir()) == []
    else:
        assert drop_in.read_text() == (UNITS / "gem-locate.conf").read_text()


def in_this_kernel(module: str) -> bool:
    if not shutil.which("modinfo"):
        return False
    return not subprocess.run(
        ["modinfo", module], capture_output=True, check=False
    ).returncode


def test_the_module_is_only_used_by_a_generators_word() -> None:
    """A drop-in in a package would be in force with any kernel."""
    rules = (UNITS.parent.parent / "debian" / "rules").read_text()
    assert "$(UNITS)/wlproxy.gem-locate-generator" in rules
    assert "wlproxy-guest-agent.service.d $(UNITS)/gem-locate.conf" not in rules
    script = (UNITS / "wlproxy.gem-locate-generator").read_text()
    assert "/usr/lib/wlproxy-dkms/gem-locate.conf" in script


def test_the_vsock_drop_in_says_what_the_agent_understands() -> None:
    reset, start = setting("ExecStart", "vsock.conf")
    program, *arguments = start.split()

    assert reset == ""
    assert [program] == setting("ExecStart", "wlproxy-guest-agent.service")
    source = str(parse(arguments).source)
    (port,) = re.findall(r"vsock port (\d+)", source)
    assert int(port) < 1024, "any process of the guest could take it"
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert setting(name, "vsock.conf") == ["CAP_NET_BIND_SERVICE"]
    assert setting("RestrictAddressFamilies", "vsock.conf") == ["AF_VSOCK"]


def test_the_xen_drop_in_lets_the_agent_have_what_it_needs() -> None:
    assert setting("DeviceAllow", "xen.conf") == ["/dev/hvc1 rw", f"{GEM_GRANT} rw"]
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert setting(name, "xen.conf") == [""]
    (rule,) = (
        line
        for line in (UNITS / "60-wlproxy.rules").read_text().splitlines()
        if "hvc1" in line
    )
    (user,) = setting("Group", "wlproxy-guest-agent.service")
    assert f'GROUP="{user}"' in rule
    assert 'TEST=="/sys/hypervisor/uuid"' in rule


def test_the_vchans_drop_in_and_unit_name_one_socket() -> None:
    reset, start = setting("ExecStart", "xen-vchan.conf")
    program, *arguments = start.split()
    assert reset == ""
    assert [program] == setting("ExecStart", "wlproxy-guest-agent.service")
    assert str(parse(arguments).source) == f"unix:{vchan.SOCKET}"
    assert setting("DeviceAllow", "xen-vchan.conf") == [f"{GEM_GRANT} rw"]
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert setting(name, "xen-vchan.conf") == [""]

    unit = "wlproxy-guest-vchan.service"
    for name in ("Wants", "After"):
        (units,) = setting(name, "xen-vchan.conf")
        assert unit in units.split()
    assert setting("ExecStart", unit) == [f"{program} {VCHAN}"]
    (directory,) = setting("RuntimeDirectory", unit)
    assert str(vchan.SOCKET.parent) == f"/run/{directory}"
    assert setting("RuntimeDirectoryMode", unit) == ["0755"]
    (user,) = setting("User", "wlproxy-guest-agent.service")
    assert parse([VCHAN]).vchan == (vchan.SOCKET, user, 0)
    assert f"{DEVICE_OF_XENSTORE} rw" in setting("DeviceAllow", unit)


def test_the_modules_rule_is_what_the_unit_waits_for() -> None:
    (rule,) = (
        line for line in MODULE_RULES.read_text().splitlines() if "gem-l" in line
    )
    (user,) = setting("Group", "wlproxy-guest-agent.service")

    assert f'KERNEL=="{DEVICE.removeprefix("/dev/")}"' in rule
    assert f'GROUP="{user}"' in rule
    assert 'TAG+="systemd"' in rule


def test_stopping_has_time_for_the_grace_of_pins() -> None:
    (seconds,) = setting("TimeoutStopSec", "wlproxy-guest-agent.service")

    assert float(seconds) > 2 * GRACE


def test_a_slow_machine_may_take_its_time_to_start_it() -> None:
    assert setting("TimeoutStartSec", "wlproxy-guest-agent.service") == ["infinity"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.slow
@pytest.mark.parametrize("with_module", [False, True])
def test_exposure_is_about_as_documented(tmp_path: Path, with_module: bool) -> None:
    for unit in UNITS.glob("*.s*e*"):
        shutil.copy(unit, tmp_path)
    if with_module:
        drop_ins = tmp_path / "wlproxy-guest-agent.service.d"
        drop_ins.mkdir()
        shutil.copy(UNITS / "gem-locate.conf", drop_ins)
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true"),
            tmp_path / "wlproxy-guest-agent.service",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = re.search(r"exposure level .*: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze says: {done.stderr.strip()[:200]}")

    # Exactly so in the guest (tests/integration/test_native_guest.py).
    assert abs(float(found[1]) - documented_exposure(with_module=with_module)) < 0.3


def test_launchers_connect_where_the_agent_listens() -> None:
    environ = setting("Environment", "exec.conf")
    (directory,) = setting("RuntimeDirectory", "exec.conf")

    assert environ == [f"WLPROXY_LAUNCH_SOCKET={passing.SOCKET}"]
    assert str(passing.SOCKET.parent) == f"/run/{directory}"
    assert setting("RuntimeDirectoryMode", "exec.conf") == ["0755"]


def test_what_a_launcher_starts_finds_the_agent() -> None:
    assert surroundings.SOCKET == SOCKET_PATH


def test_what_was_started_outlives_its_launcher() -> None:
    assert setting("KillMode", "wlproxy-launcher.service") == ["process"]


def test_commands_are_off_unless_the_guest_wants_them() -> None:
    """The agent's own unit says nothing of launchers; a drop-in does."""
    assert "LAUNCH" not in (UNITS / "wlproxy-guest-agent.service").read_text()
