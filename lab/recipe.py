"""Lists what is in the images, and computes the keys under which they are cached.

A key is a hash over everything that decides the content: change a package list here
and the image is rebuilt, change nothing and it is not.  What changes often is not in
the images at all: the lab's own programs travel in the initramfs, and the working tree
travels with each job.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from lab import paths

# The interpreter of each suite, for which the PyPI wheels are chosen.
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
# Raise it when images.py changes in a way that changes what it builds.
FORMAT = 2
# Versions and hashes of what the tests run with, in pip's format.
LOCK = paths.REPOSITORY / "requirements-dev.lock"

COMMON = (
    "busybox-static",
    "fonts-dejavu-core",
    "foot",
    "iproute2",
    "kmod",
    "libegl1",
    "libgbm1",
    "libgl1-mesa-dri",
    "libgles2",
    "passwd",
    "procps",
    "python3",
    "python3-pyudev",
    "python3-trio",
    "strace",
    "udev",
    "wayland-utils",
    "weston",
    "wl-clipboard",
    "xkb-data",
)
HOST = (
    "grim",
    "gstreamer1.0-libcamera",
    "gstreamer1.0-tools",
    "psmisc",
    "python3-cffi",
    # Its D-Bus display, and the GL by which that hands out dma-bufs.
    "qemu-system-modules-opengl",
    "qemu-system-x86",
    "sway",
    "wlrctl",
    "wtype",
)
GUEST = (
    "cage",
    "dbus",
    "dbus-user-session",
    "gir1.2-gtk-4.0",
    "gtk-4-examples",
    "libpam-systemd",
    "login",
    "python3-gi",
    "python3-cffi-backend",
    "python3-gi-cairo",
    "python3-installer",
    "python3-pyqt6",
    "python3-pywayland",
    "qt6-wayland",
    "systemd",
    "xterm",
    "xwayland",
)
# Both ends of the machine that runs Xen: its dom0 and its domUs boot the same image.
XEN = (
    "grim",
    "gtk-4-examples",
    "psmisc",
    "python3-cffi-backend",
    "python3-pywayland",
    "qemu-system-xen",
    "sway",
    "xen-hypervisor-4.20-amd64",
    "xen-utils-4.20",
    "xen-utils-common",
    "xenstore-utils",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: a name, a Debian release, and the packages in it."""

    name: str
    packages: tuple[str, ...]
    suite: str = "trixie"

    @property
    def key(self) -> str:
        """The cache key: the same content, the same key."""
        return digest([FORMAT, self.suite, self.name, sorted(self.packages)])

    @property
    def site(self) -> str:
        """Where its Python looks for what is not Debian's, ahead of what is.

        Elsewhere Hypothesis would take such packages for the project's sources and read
        them all.
        """
        return f"/usr/local/lib/python{PYTHON[self.suite]}/dist-packages"


HOST_IMAGE = Recipe("host", COMMON + HOST)
GUEST_IMAGE = Recipe("guest", COMMON + GUEST)
NEWER = ("qemu-system-modules-opengl", "wlrctl")
"""Packages of `HOST` that Debian 12 does not have."""
# A host whose kernel has no udmabuf: that of kernel/udmabuf is loaded there.
OLD_HOST_IMAGE = Recipe(
    "host12", tuple(each for each in COMMON + HOST if each not in NEWER), "bookworm"
)
HOSTS = {host.suite: host for host in (HOST_IMAGE, OLD_HOST_IMAGE)}
XEN_IMAGE = Recipe("xen", COMMON + XEN)
IMAGES = (*HOSTS.values(), GUEST_IMAGE, XEN_IMAGE)


def digest(value: object) -> str:
    """Hash a JSON-able value into a short key."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def digest_files(files: dict[str, bytes]) -> str:
    """Hash named contents into a short key."""
    return digest({name: hashlib.sha256(files[name]).hexdigest() for name in files})


def normalise(name: str) -> str:
    """Return a Python distribution's name in the form that PyPI compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(
    listed: Path = paths.LAB / "requirements-host.txt",
    lock: Path = LOCK,
) -> list[str]:
    """List the PyPI requirements of the host, pinned as the repository locks them.

    The names stand in ``requirements-host.txt``; each one that the lock knows gets its
    version from there, so that the lab tests what the lock says.
    """
    pins = locked(lock)
    result = []
    for raw in listed.read_text().splitlines():
        name = raw.partition("#")[0].strip()
        if not name:
            continue
        version = pins.get(normalise(name))
        result.append(f"{name}=={version}" if version else name)
    return sorted(result)


def constraints(lock: Path = LOCK) -> list[str]:
    """List every version that the repository locks, as pip constraints."""
    return sorted(f"{name}=={version}" for name, version in locked(lock).items())


def locked(lock: Path) -> dict[str, str]:
    """Read names and versions out of a lock in pip's format (none: no pins)."""
    if not lock.exists():
        return {}
    lines = re.findall(
        r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE
    )
    return {normalise(name): version for name, version in lines}
