"""Chooses the DRM device that apps in this guest should allocate their buffers on.

The host offers linux-dmabuf to these apps, and that protocol names a device of the guest's.
Everything here is read from sysfs.  No device is opened: opening a card can make the
opener its DRM master, and needs permissions that the agent does not have.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys")

_RENDER: Final = re.compile(r"renderD(\d+)")
_PRIMARY: Final = re.compile(r"card(\d+)")
_CONNECTOR: Final = re.compile(r"card(\d+)-")


@dataclass(frozen=True, slots=True)
class DrmEntry:
    """One of /sys/class/drm: a node, or a connector of a primary one.

    Attributes:
        name: `renderD128`, `card0`, `card0-Virtual-1`.
        number: its `dev_t`; 0: it is no node.
    """

    name: str
    number: int


def find_main_device(sysfs: Path = SYSFS) -> int:
    """Find the `dev_t` of the DRM node to allocate on; 0 if there is none.

    Raises:
        OSError: no fds or memory are left to look.
    """
    listed = sysfs / "class/drm"
    if not listed.exists():
        return 0
    return choose(
        DrmEntry(name, device_number(listed / name)) for name in os.listdir(listed)
    )


def device_number(entry: Path) -> int:
    """Read the `dev_t` of a device in sysfs; 0 if it has none.

    Raises:
        OSError: no fds or memory are left to look.
    """
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        major, minor = (entry / "dev").read_text().split(":")
        return os.makedev(int(major), int(minor))
    return 0


def choose(entries: Iterable[DrmEntry]) -> int:
    """Choose the first render node, else the first card with dumb buffers; else 0.

    A driver that sets modes has dumb buffers (the kernel demands it of them), and a card
    has connectors only if its driver sets modes.
    """
    found = list(entries)
    able = {match[1] for each in found if (match := _CONNECTOR.match(each.name))}
    renders = _numbered(found, _RENDER)
    cards = [each for each in _numbered(found, _PRIMARY) if str(each[0]) in able]
    return next((number for _, number in renders + cards), 0)


def _numbered(
    entries: Iterable[DrmEntry], pattern: re.Pattern[str]
) -> list[tuple[int, int]]:
    """List the nodes of a kind as (number in the name, dev_t), in order."""
    return sorted(
        (int(match[1]), each.number)
        for each in entries
        if each.number and (match := pattern.fullmatch(each.name))
    )
