"""Debian's packages of protocols: fetched through apt, and only unpacked.

apt gets a root of its own, so that nothing is installed and no source of this machine is
changed: the packages are those of unstable, whatever Debian this is.
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.debian import mirror

SUITE = "sid"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TIMEOUT = 300
"""Seconds for apt; a mirror's list of packages is 10 MB."""

PACKAGES = (
    "libwayland-dev",  # wayland.xml
    "wayland-protocols",
    "plasma-wayland-protocols",
    "librust-wayland-protocols-wlr-dev",  # wlr-protocols, which Debian has nowhere else
    "librust-wayland-protocols-misc-dev",  # input-method-v2, virtual-keyboard of wlroots
)


class NoPackagesError(Exception):
    """The packages cannot be had here; the argument says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """An unpacked package: its name, version, and where its files are."""

    name: str
    version: str
    root: Path

    def files(self) -> Iterator[Path]:
        """Find its protocols, in an order that is always the same."""
        yield from sorted((self.root / "usr/share").rglob("*.xml"))


def fetch(directory: Path) -> list[Package]:
    """Fetch and unpack all packages.

    Args:
        directory: an empty one, for everything.

    Raises:
        NoPackagesError: this machine has no apt, or the mirror does not answer.
    """
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise NoPackagesError(f"needs {program}")
    if not KEYRING.exists():
        raise NoPackagesError(f"needs {KEYRING} (debian-archive-keyring)")
    for place in ("lists/partial", "cache/archives/partial", "debs"):
        (directory / place).mkdir(parents=True)
    (directory / "status").touch()
    (directory / "sources.list").write_text(
        f"deb [signed-by={KEYRING}] {mirror()} {SUITE} main\n"
    )
    _run(directory, "apt-get", "update")
    _run(directory, "apt-get", "download", *PACKAGES)
    return [_unpack(directory, name) for name in PACKAGES]


def _unpack(directory: Path, name: str) -> Package:
    [deb] = (directory / "debs").glob(f"{name}_*.deb")
    root = directory / "unpacked" / name
    root.mkdir(parents=True)
    _run(directory, "dpkg-deb", "-x", str(deb), str(root))
    version = _run(directory, "dpkg-deb", "-f", str(deb), "Version").strip()
    return Package(name, version, root)


def _run(directory: Path, program: str, *args: str) -> str:
    """Run apt or dpkg.

    Raises:
        NoPackagesError: it failed.
    """
    options = (
        *("Dir::Etc::sourcelist", directory / "sources.list"),
        *("Dir::Etc::sourceparts", "/dev/null"),
        *("Dir::Etc::preferences", "/dev/null"),
        *("Dir::Etc::preferencesparts", "/dev/null"),
        *("Dir::State::Lists", directory / "lists"),
        *("Dir::State::status", directory / "status"),
        *("Dir::Cache", directory / "cache"),
        *("APT::Sandbox::User", ""),
    )
    pairs = zip(options[::2], options[1::2], strict=True)
    apt = [word for key, value in pairs for word in ("-o", f"{key}={value}")]
    command = [program, *(apt if program == "apt-get" else ()), *args]
    try:
        done = subprocess.run(
            command,
            cwd=directory / "debs",
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise NoPackagesError(f"{program} {args[0]}: no answer") from exc
    if done.returncode:
        raise NoPackagesError(f"{program} {args[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout
