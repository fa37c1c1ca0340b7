"""A place where commands that are printed for root can be pasted without harm."""

import getpass
import os
import subprocess
from pathlib import Path

TIMEOUT = 60
_PLACES = ("usr/local/bin", "var/lib")
_TREE = Path(__file__).parent.parent.parent
_SHIPPED = _TREE / "guest-agent/systemd"
"""What the agent's wheel installs as `/usr/local/share/wlproxy/systemd`."""


class FakeRoot:
    """A directory in place of `/`, and programs that only note that they were called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parameters = directory / "sys/module/udmabuf/parameters"
        for each in ("etc/modprobe.d", "etc/udev/rules.d", "bin", *_PLACES):
            (directory / each).mkdir(parents=True)
        self.parameters.mkdir(parents=True)
        sudo = directory / "bin" / "sudo"
        sudo.write_text('#!/bin/sh\nexec "$@"\n')
        sudo.chmod(0o755)
        for program in ("udevadm", "modprobe", "systemctl"):
            path = directory / "bin" / program
            path.write_text(f'#!/bin/sh\necho {program} "$@" >> {directory}/called\n')
            path.chmod(0o755)

    def paste(self, text: str) -> None:
        """Run the commands of a printed text: the lines that are indented.

        The shell begins in this tree, as in a clone, and its home directory is `home` in this one.
        """
        commands = [line for line in text.splitlines() if line.startswith("  ")]
        script = "\n".join(commands)
        for place in ("/etc/", "/sys/", "/usr/local/bin/", "/var/lib/"):
            script = script.replace(place, f"{self.directory}{place}")
        script = script.replace("/usr/local/share/wlproxy/systemd", str(_SHIPPED))
        path = f"{self.directory}/bin:{os.environ['PATH']}"
        subprocess.run(
            ["sh", "-eu", "-c", script],
            env={
                **os.environ,
                "PATH": path,
                "HOME": f"{self.directory}/home",
                "SUDO_USER": getpass.getuser(),
            },
            cwd=_TREE,
            check=True,
            timeout=TIMEOUT,
        )

    def read(self, path: str) -> str:
        return (self.directory / path).read_text()
