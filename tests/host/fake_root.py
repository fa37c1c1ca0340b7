"""A place where commands that are printed for root can be pasted without harm."""

import os
import subprocess
from pathlib import Path

TIMEOUT = 60


class FakeRoot:
    """A directory in place of `/`, and programs that only note that they were called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parameters = directory / "sys/module/udmabuf/parameters"
        for each in ("etc/modprobe.d", "etc/udev/rules.d", "bin"):
            (directory / each).mkdir(parents=True)
        self.parameters.mkdir(parents=True)
        for program in ("udevadm", "modprobe"):
            path = directory / "bin" / program
            path.write_text(f'#!/bin/sh\necho {program} "$@" >> {directory}/called\n')
            path.chmod(0o755)

    def paste(self, text: str) -> None:
        """Run the commands of a printed text: the lines that are indented."""
        commands = [line for line in text.splitlines() if line.startswith("  ")]
        script = "\n".join(commands)
        for place in ("/etc/", "/sys/"):
            script = script.replace(place, f"{self.directory}{place}")
        path = f"{self.directory}/bin:{os.environ['PATH']}"
        subprocess.run(
            ["sh", "-eu", "-c", script],
            env={**os.environ, "PATH": path},
            check=True,
            timeout=TIMEOUT,
        )

    def read(self, path: str) -> str:
        return (self.directory / path).read_text()
