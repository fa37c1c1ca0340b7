"""Builds our distributions with the locked tools, without an index or isolation."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("wlproxy", "wlproxy_channel", "wlproxy_guest")
DIRECTORIES = {
    "wlproxy": ".",
    "wlproxy_channel": "wlproxy-channel",
    "wlproxy_guest": "guest-agent",
}
"""Distribution -> where its pyproject.toml is, below the tree."""
_NEEDED = ("LICENSE", "LICENSES", "README.md", "pyproject.toml", "wlproxy")
"""What a tree must have besides the other distributions' directories."""


def build(source: Path, target: str, into: Path) -> Path:
    """Build one archive; `target` is wheel or sdist, `into` is empty."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target]
    subprocess.run(
        [*command, "-d", str(into)],
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
    )
    (archive,) = into.iterdir()
    return archive


def build_wheels(tree: Path, into: Path) -> dict[str, Path]:
    """Build the wheels of all three; returns them by distribution."""
    return {
        name: build(tree / DIRECTORIES[name], "wheel", into / name) for name in NAMES
    }


def copy_with_version(version: str, tree: Path) -> None:
    """Copy what is built from, as it will be once it has another version."""
    ignore: Callable[[str, list[str]], set[str]] = shutil.ignore_patterns("__pycache__")
    for name in (*_NEEDED, "wlproxy-channel", "guest-agent"):
        source, copy = ROOT / name, tree / name
        if source.is_dir():
            shutil.copytree(source, copy, symlinks=True, ignore=ignore)
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy)
    place = tree / "wlproxy" / "__init__.py"
    before, name, _ = place.read_text().partition("__version__ = ")
    place.write_text(f'{before}{name}"{version}"\n')


def names_in(wheel: Path) -> set[str]:
    """The files that a wheel installs, but for its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}
