"""Makes what is released: `share/`, Debian's packages, wheels and source archives."""

import argparse
import subprocess
import sys
from pathlib import Path

from lab.errors import LabError
from release import debs
from release.share import outdated, write

ROOT = Path(__file__).parent.parent
DISTRIBUTIONS = ("wlproxy-channel", ".", "guest-agent")


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("what", choices=["share", "check", "deb", "python"])
    parser.add_argument("--into", type=Path, default=ROOT / "dist", metavar="DIRECTORY")
    arguments = parser.parse_args()
    match arguments.what:
        case "share":
            write()
        case "check":
            return check()
        case "deb":
            return deb(arguments.into)
        case _:
            python(arguments.into)
    return 0


def check() -> int:
    """Say what of `share/` is not current; return 1 if anything is."""
    names = outdated()
    for name in names:
        print(f"share/{name} is not current: make share", file=sys.stderr)
    return int(bool(names))


def deb(into: Path) -> int:
    """Build Debian's packages; return 1 if that fails."""
    try:
        made = debs.build(into)
    except LabError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(path)
    return 0


def python(into: Path) -> None:
    """Build a wheel and a source archive of each distribution."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(into.resolve())]
    for name in DISTRIBUTIONS:
        subprocess.run(command, cwd=ROOT / name, check=True)


if __name__ == "__main__":
    sys.exit(main())
