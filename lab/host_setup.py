"""``lab setup``: installs what this machine lacks, through apt."""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import debian
from lab.errors import LabError
from lab.say import say, step

QEMU = "qemu-system-x86_64"
# QEMU 7.2's TCG emulates cmpxchg16b wrongly: Linux panics in half the boots.
MIN_QEMU = 9
BACKPORTS = Path("/etc/apt/sources.list.d/wlproxy-lab-backports.sources")
BACKPORTS_TEXT = """\
Types: deb
URIs: {mirror}
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

LIBVIRT_QEMU = "*/libvirt/connection-driver/libvirt_driver_qemu.so"
"""What libvirt has for QEMU; no program."""

QT_ON_WAYLAND = "*/qt6/plugins/platforms/libqwayland-generic.so"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program the lab runs, and the Debian package that has it."""

    program: str
    package: str


TOOLS = (
    Tool("mmdebstrap", "mmdebstrap"),
    Tool("mke2fs", "e2fsprogs"),
    Tool("git", "git"),
    Tool("setpriv", "util-linux"),
    # For the tests that run on this very machine, and the demo.
    Tool("weston", "weston"),
    # A compositor of wlroots', its pictures, and apps of several toolkits: 14 MB.
    Tool("sway", "sway"),
    Tool("grim", "grim"),
    Tool("foot", "foot"),
    Tool("wayland-info", "wayland-utils"),
    Tool("mako", "mako-notifier"),
    Tool("gtk4-demo", "gtk-4-examples"),
    Tool("libvirtd", "libvirt-daemon"),
    Tool("virsh", "libvirt-clients"),
    # For where Arm's RAM is: 10 MB, as the libraries are those of qemu-system-x86.
    Tool("qemu-system-aarch64", "qemu-system-arm"),
)


def find_program(name: str) -> str | None:
    """Find a program, also where an ordinary user's PATH does not look."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def qemu_version() -> tuple[int, ...] | None:
    """Return the version of the installed QEMU, or `None` if there is none."""
    program = find_program(QEMU)
    if program is None:
        return None
    text = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else None


def has_dbus_display() -> bool:
    """Tell whether the installed QEMU can show its screen over D-Bus (ui-dbus.so)."""
    program = find_program(QEMU)
    if program is None:
        return False
    displays = subprocess.run(
        [program, "-display", "help"], capture_output=True, text=True, check=True
    )
    return "dbus" in displays.stdout.split()


def missing() -> list[str]:
    """List the Debian packages this machine lacks for the lab."""
    packages = [tool.package for tool in TOOLS if find_program(tool.program) is None]
    version = qemu_version()
    if version is None or version[0] < MIN_QEMU:
        packages.append("qemu-system-x86")
    if not has_dbus_display():
        packages.append("qemu-system-modules-opengl")
    if not Path("/usr/lib/python3/dist-packages/PyQt6").exists():
        packages.append("python3-pyqt6")
    if not list(Path("/usr/lib").glob(QT_ON_WAYLAND)):
        packages.append("qt6-wayland")
    if importlib.util.find_spec("pip") is None:
        packages.append("python3-pip")
    if not list(Path("/usr/lib").glob(LIBVIRT_QEMU)):
        packages.append("libvirt-daemon-driver-qemu")
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        packages.append("debian-archive-keyring")
    return packages


def commands(packages: list[str]) -> list[list[str]]:
    """Return the apt commands that install `packages` on this release."""
    install = ["apt-get", "install", "--yes", "--no-install-recommends"]
    plain = [name for name in packages if not name.startswith("qemu-")]
    qemu = [name for name in packages if name.startswith("qemu-")]
    target = []
    if _needs_backports(packages):
        target = ["--target-release", "bookworm-backports"]
    result = [["apt-get", "update"]]
    if plain:
        result.append([*install, *plain])
    if qemu:
        result.append([*install, *target, *qemu])
    return result


def _needs_backports(packages: list[str]) -> bool:
    """Whether these are to come from where QEMU is new enough, all from the same place."""
    qemu = any(name.startswith("qemu-") for name in packages)
    return qemu and debian.release().get("VERSION_ID") == "12"


def setup() -> None:
    """Install the missing packages, or say which commands would.

    Raises:
        LabError: something is missing and this is not root on a Debian-like system,
            or apt failed.
    """
    packages = missing()
    if not packages:
        return
    say(f"missing: {' '.join(packages)}")
    source = None
    if _needs_backports(packages):
        source = BACKPORTS_TEXT.format(mirror=debian.mirror())
    if os.geteuid() != 0 or find_program("apt-get") is None:
        raise LabError(_by_hand(packages, source))
    if source is not None and not BACKPORTS.exists():
        say(f"writing {BACKPORTS}: QEMU {MIN_QEMU} or newer is in backports")
        BACKPORTS.write_text(source)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands(packages):
        with step(" ".join(command)):
            done = subprocess.run(
                [*command, "-q"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}")
    if still := missing():
        raise LabError(f"still missing after the installation: {' '.join(still)}")


def _by_hand(packages: list[str], source: str | None) -> str:
    lines = ["not root: run these as root (or `sudo python3 -m lab setup`):", ""]
    if source is not None:
        lines += [f"cat > {BACKPORTS} <<EOF", source + "EOF"]
    return "\n".join(lines + [" ".join(command) for command in commands(packages)])
