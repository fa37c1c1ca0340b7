"""`interfaces.txt` as a whole: what it is made of, and every interface."""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.tables.packages import Package
from tests.tables.protocol_xml import SUPERSEDED, Described, lines_of, merge, read

TABLES = Path(__file__).parents[2] / "wlproxy/protocol/wayland/interfaces.txt"

_HEAD = """\
# Every known interface of Wayland; `interface_table.py` says how to read this.
# `make tables` writes it, of the XML in these packages of Debian unstable:
"""


def interfaces_in(package: Package) -> list[Described]:
    """Read all that a package describes, except what is superseded."""
    return [
        each
        for path in package.files()
        if path.name not in SUPERSEDED
        for each in read(path)
    ]


def written(packages: Iterable[Package]) -> str:
    """Make the whole file."""
    packages = tuple(packages)
    interfaces = merge(each for one in packages for each in interfaces_in(one))
    made_of = "".join(f"#   {one.name} {one.version}\n" for one in packages)
    return f"{_HEAD}{made_of}\n{lines_of(interfaces.values())}"


def recorded_versions(text: str) -> dict[str, str]:
    """Read of which version of each package the file was made."""
    return dict(re.findall(r"^#   (\S+) (\S+)$", text, re.MULTILINE))


def described_in(text: str) -> dict[str, Described]:
    """Read the interfaces of the file back."""
    found = {}
    for block in text.split("\n\n"):
        if block.startswith("#"):
            continue
        head, *lines = block.rstrip("\n").split("\n")
        name, version, protocol = head.split(" ")
        requests = tuple(line for line in lines if line.startswith("  request "))
        events = tuple(line for line in lines if line.startswith("  event "))
        found[name] = Described(name, int(version), protocol, requests, events)
    return found
