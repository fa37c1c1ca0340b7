"""The guest agent as a user gets it: its wheel, built here and installed in a guest."""

import subprocess
import sys
from pathlib import Path

from lab import paths
from lab.errors import LabError
from lab.guest import Guest

# What `python3 -m installer` does, for guests that have no installer.
INSTALL = """\
import pathlib, shutil, sys, sysconfig, tempfile, zipfile

unpacked = pathlib.Path(tempfile.mkdtemp(), "wheel")  # itself with an ordinary mode
zipfile.ZipFile(sys.argv[1]).extractall(unpacked)
(entries,) = unpacked.glob("*.dist-info/entry_points.txt")
for data in unpacked.glob("*.data/data"):
    shutil.copytree(data, sysconfig.get_path("data"), dirs_exist_ok=True)
for data in unpacked.glob("*.data"):
    shutil.rmtree(data)
for line in entries.read_text().splitlines():
    name, is_entry, target = line.partition(" = ")
    if is_entry:
        module, _, function = target.partition(":")
        script = pathlib.Path(sysconfig.get_path("scripts"), name)
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(
            f"#!{sys.executable}\\n"
            f"import sys\\nfrom {module} import {function}\\nsys.exit({function}())\\n"
        )
        script.chmod(0o755)
shutil.copytree(unpacked, sysconfig.get_path("purelib"), dirs_exist_ok=True)
shutil.rmtree(unpacked.parent)
"""


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
    """Install the wheel for the guest's own Python.

    Raises:
        LabError: it does not install.
    """
    path = f"/root/{wheel.name}"
    guest.put(path, wheel.read_bytes())
    done = guest.run(["python3", "-c", INSTALL, path], timeout=120)
    if not done.ok:
        text = done.stderr.decode(errors="replace")
        raise LabError(f"{wheel.name} in the guest:\n{text}")
