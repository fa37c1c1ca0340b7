"""What wayland-info prints, taken apart: each global, and what it says about itself."""

import re
from dataclasses import dataclass

_HEAD = re.compile(r"interface: '(\w+)',\s+version:\s+(\d+), name:\s+\d+")


@dataclass(frozen=True, slots=True)
class Global:
    """A global of a registry, without its number: that is the registry's own.

    Attributes:
        interface: its name.
        version: that is advertised.
        details: what it told a client which bound it, a line each.
    """

    interface: str
    version: int
    details: tuple[str, ...]


def parse(text: str) -> list[Global]:
    """Take apart what wayland-info prints.

    Raises:
        AssertionError: something precedes the first global.
    """
    found: list[Global] = []
    details: list[str] = []
    for line in text.splitlines():
        head = _HEAD.fullmatch(line.rstrip())
        if head is not None:
            details = []
            found.append(Global(head[1], int(head[2]), ()))
            continue
        assert found, f"wayland-info begins with {line!r}"
        details.append(" ".join(line.split()))
        last = found[-1]
        found[-1] = Global(last.interface, last.version, tuple(details))
    return found
