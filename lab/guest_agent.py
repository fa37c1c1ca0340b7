"""The guest agent as a user gets it: its wheel, built here and installed in a guest."""

import subprocess
import sys
from pathlib import Path

from lab import paths
from lab.errors import LabError
from lab.guest import Guest


def build_wheel(directory: Path) -> Path:
    """Build the wheel with the locked tools of this environment.

    Raises:
        LabError: hatchling failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(
        [*command, "-d", str(directory.resolve())],
        cwd=paths.REPOSITORY / "guest-agent",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"building the agent's wheel failed:\n{done.stderr[-3000:]}")
    (wheel,) = directory.glob("*.whl")
    return wheel


def install(guest: Guest, wheel: Path) -> None:
    """Install the wheel as docs/running.md says.

    Raises:
        LabError: it does not install.
    """
    path = f"/root/{wheel.name}"
    guest.put(path, wheel.read_bytes())
    done = guest.run(["python3", "-m", "installer", path], timeout=120)
    if not done.ok:
        text = done.stderr.decode(errors="replace")
        raise LabError(f"{wheel.name} in the guest:\n{text}")
