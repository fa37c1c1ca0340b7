"""Installs the guest agent as a user would: from wheels that are built here."""

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab import paths
from lab.errors import LabError
from lab.guest import Guest

USER = "wlproxy"
MEMLOCK = 4 << 30
"""Bytes, as in the drop-in for guests with the module."""
AGENT = paths.REPOSITORY / "guest-agent"
CHANNEL = paths.REPOSITORY / "wlproxy-channel"
DISTRIBUTIONS = (CHANNEL, AGENT)
"""What a guest needs of ours, the one that the other depends on first."""
SYSTEMD = AGENT / "systemd"


def build_wheels(directory: Path) -> list[Path]:
    """Build a wheel of each distribution with the locked tools of this environment.

    Raises:
        LabError: hatchling failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    for distribution in DISTRIBUTIONS:
        done = subprocess.run(
            [*command, "-d", str(directory.resolve())],
            cwd=distribution,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            why = done.stderr[-3000:]
            raise LabError(f"building {distribution.name}'s wheel failed:\n{why}")
    return sorted(directory.glob("*.whl"))


def sources() -> list[tuple[Path, str]]:
    """List what the wheels carry: each file or directory here, and where it belongs.

    The second is relative to whatever is in the guest's `PYTHONPATH`.
    """
    pyproject = tomllib.loads((CHANNEL / "pyproject.toml").read_text())
    shared = pyproject["tool"]["hatch"]["build"]["only-include"]
    carried = [(paths.REPOSITORY / name, name) for name in shared]
    return [*carried, (AGENT / "wlproxy_guest", "wlproxy_guest")]


def install(guest: Guest, wheels: Iterable[Path]) -> None:
    """Install the wheels as docs/guest.md says.

    Raises:
        LabError: one does not install.
    """
    for wheel in wheels:
        path = f"/root/{wheel.name}"
        guest.put(path, wheel.read_bytes())
        done = guest.run(["python3", "-m", "installer", path], timeout=120)
        if not done.ok:
            text = done.stderr.decode(errors="replace")
            raise LabError(f"{wheel.name} in the guest:\n{text}")


def add_user(guest: Guest) -> None:
    """Make the agent's user, and let it have its devices, as docs/guest.md says.

    Raises:
        LabError: that fails.
    """
    for source, target in (
        ("wlproxy.sysusers.conf", "/etc/sysusers.d/wlproxy.conf"),
        ("60-wlproxy.rules", "/etc/udev/rules.d/60-wlproxy.rules"),
    ):
        guest.put(target, (SYSTEMD / source).read_bytes())
    script = "systemd-sysusers && udevadm control --reload && udevadm trigger"
    script += " --action=add --subsystem-match=virtio-ports --subsystem-match=misc"
    done = guest.run(["sh", "-ec", f"{script}; udevadm settle"], timeout=60)
    if not done.ok:
        text = done.stderr.decode(errors="replace")
        raise LabError(f"the agent's user in the guest:\n{text}")


def has_module(guest: Guest) -> bool:
    """Say whether the guest's kernel has gem_locate."""
    return guest.run(["test", "-c", "/dev/gem-locate"]).ok


def as_user(command: Sequence[str]) -> list[str]:
    """Return a command line that runs another one as the agent's user.

    As its unit does where the module is: no capability, and none to be had.
    """
    return [
        *("prlimit", f"--memlock={MEMLOCK}", "setpriv", f"--reuid={USER}"),
        *(f"--regid={USER}", "--init-groups", "--no-new-privs"),
        *("--inh-caps=-all", "--bounding-set=-all", *command),
    ]


def privileges(guest: Guest, pid: int) -> tuple[int, int]:
    """Read a process's user id and its effective capabilities (a bit mask)."""
    status = guest.get(f"/proc/{pid}/status").decode()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["Uid"].split()[1]), int(fields["CapEff"], 16)
