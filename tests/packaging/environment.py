"""A virtual environment with pip, and checks that what is installed in it works."""

import json
import os
import subprocess
import sysconfig
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

COMMANDS = {"wlproxy": "wlproxy", "wlproxy_guest": "wlproxy-guest-agent"}
"""Distribution -> the program it brings."""
_MODULES = {
    "wlproxy": ("wlproxy.cli", "wlproxy.host.server", "wlproxy.relay.relay"),
    "wlproxy_guest": ("wlproxy_guest.cli", "wlproxy_guest.session"),
    "wlproxy_channel": ("wlproxy.protocol.channel.codec", "wlproxy.transport"),
}
_OWNERS = """
import importlib.metadata, json
owners = {}
for each in importlib.metadata.distributions():
    if each.name.startswith("wlproxy"):
        for path in each.files:
            owners.setdefault(str(path.locate().resolve()), []).append(each.name)
print(json.dumps(owners))
"""


def link_third_parties(directory: Path) -> None:
    """Have a directory show what is installed here, without our own distributions.

    In place ours are there by way of .pth files, which count in a site directory only.
    """
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("wlproxy") and entry.suffix != ".pth":
            (directory / entry.name).symlink_to(entry)


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python with a place of its own for packages.

    Attributes:
        scripts: where programs are.
        environ: variables for whatever runs in it.
    """

    python: Path
    scripts: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, directory: Path, third_parties: Path) -> "Environment":
        """Make one in a new directory."""
        venv.create(directory, symlinks=True)
        scripts = directory / "bin"
        (site,) = directory.glob("lib/python*/site-packages")
        (site / "third-parties.pth").write_text(f"{third_parties}\n")
        return cls(scripts / "python", scripts)

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run something in it, and nowhere near the tree."""
        with TemporaryDirectory() as home:
            kept = {"PATH": os.environ["PATH"], "HOME": home}
            return subprocess.run(
                [str(word) for word in command],
                cwd=home,
                env={**kept, **self.environ},
                capture_output=True,
                text=True,
                check=False,
            )

    def ask(self, *command: str | Path) -> str:
        """Run something that must not fail; returns what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(self, *words: str | Path) -> str:
        """Have pip do something, which must not fail."""
        return self.ask(self.python, "-m", "pip", "--disable-pip-version-check", *words)

    def install(self, wheels: Iterable[Path]) -> None:
        """Install wheels, over what is there of them."""
        self.pip("install", "--no-index", "--no-deps", *wheels)

    def files(self) -> set[Path]:
        """What is in it, but for bytecode that Python leaves as it runs."""
        paths = self.scripts.parent.rglob("*")
        return {
            path for path in paths if path.is_file() and "__pycache__" not in path.parts
        }

    def owners(self) -> dict[str, list[str]]:
        """Files that are installed -> whose they are, by the RECORDs."""
        found: dict[str, list[str]] = json.loads(self.ask(self.python, "-c", _OWNERS))
        return found

    def assert_works(self, distribution: str, version: str) -> None:
        """See to it that a distribution does what it is for, as far as it goes here."""
        for module in (*_MODULES[distribution], *_MODULES["wlproxy_channel"]):
            code = f"import {module} as it; print(it.__file__)"
            file = Path(self.ask(self.python, "-P", "-c", code).strip())
            assert file.is_relative_to(self.scripts.parent), file
        if program := COMMANDS.get(distribution):
            said = self.ask(self.python, self.scripts / program, "--version")
            assert version in said.split(), said
            said = self.ask(self.python, self.scripts / program, "--help")
            assert f"sage: {program}" in said

    def assert_gone(self, distribution: str) -> None:
        """See to it that nothing of a distribution can be used."""
        assert not (self.scripts / COMMANDS[distribution]).exists()
        for module in _MODULES[distribution]:
            done = self.run(self.python, "-P", "-c", f"import {module}")
            assert "ModuleNotFoundError" in done.stderr
