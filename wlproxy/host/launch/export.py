"""Puts the apps of a guest into this desktop's menus, and takes them out again.

A file is named as the app id that the proxy gives to the app's windows, so that a task bar
finds name and icon for those, too.  It has nothing in it that the guest could have put
there but a name, a comment, menu categories, and pixels: what it starts is `wlproxy exec`,
which names the app, and the guest looks up itself how that is started.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wlproxy.host.errors import HostError
from wlproxy.host.launch.apps import App, Icon
from wlproxy.host.runtime_dir import check_name
from wlproxy.relay.labels import app_id, isolated

OURS: Final = "X-wlproxy-VM"
"""The key by which a desktop entry is known to be of ours, and of which VM."""
NO_ICON: Final = "application-x-executable"
SIZES: Final = (256, 192, 128, 96, 72, 64, 48, 36, 32, 24, 22, 16)
"""Directories that the theme hicolor has."""

_QUOTED: Final = str.maketrans({char: f"\\{char}" for char in '"`$\\'})


@dataclass(slots=True)
class Changes:
    """What was done: how many desktop entries were written, were as they are, and went."""

    written: int = 0
    kept: int = 0
    removed: int = 0


def data_home(environ: Mapping[str, str]) -> Path:
    """Say where this user's desktop entries and icons are.

    Raises:
        HostError: neither XDG_DATA_HOME nor HOME says it.
    """
    home = environ.get("XDG_DATA_HOME", "")
    if Path(home).is_absolute():
        return Path(home)
    if Path(environ.get("HOME", "")).is_absolute():
        return Path(environ["HOME"], ".local/share")
    raise HostError(
        "neither XDG_DATA_HOME nor HOME is set",
        remedy="Set HOME to your home directory.",
    )


def export_apps(
    home: Path, vm: str, apps: Iterable[App], start: Sequence[str]
) -> Changes:
    """Write the desktop entries of a VM's apps; those of apps that it has no more go.

    Args:
        home: where the user's data is.
        vm: the VM's name.
        apps: all of them.
        start: the command that starts one, if its id is put behind it.

    Raises:
        HostError: something cannot be written.
    """
    changes = Changes()
    kept: set[str] = set()
    with HostError.explaining("cannot write the desktop entries", tried=str(home)):
        for app in apps:
            name = app_id(vm, app.id).decode()
            icon = _write_icon(home, name, app.icon) if app.icon else None
            entry = _entry(vm, app, (*start, app.id), name if icon else NO_ICON)
            changed = _replace(_applications(home) / f"{name}.desktop", entry.encode())
            changes.written += changed
            changes.kept += not changed
            kept |= {f"{name}.desktop"} | ({str(icon)} if icon else set())
        changes.removed = _remove(home, vm, kept)
    return changes


def remove_apps(home: Path, vm: str) -> Changes:
    """Remove all that was written for a VM.

    Raises:
        HostError: something cannot be removed.
    """
    with HostError.explaining("cannot remove the desktop entries", tried=str(home)):
        return Changes(removed=_remove(home, vm, set()))


def _applications(home: Path) -> Path:
    return home / "applications"


def _theme(home: Path) -> Path:
    return home / "icons/hicolor"


def _entry(vm: str, app: App, start: Sequence[str], icon: str) -> str:
    keys = {
        "Type": "Application",
        "Version": "1.5",
        "Name": f"{isolated(app.name)} ({vm})",
        "Comment": app.comment,
        "Exec": " ".join(map(_quote, start)).replace("\\", "\\\\"),
        "Icon": icon,
        "Categories": "".join(f"{each};" for each in app.categories),
        "StartupWMClass": app_id(vm, app.window or app.id).decode(),
        OURS: vm,
    }
    texts = {"Name", "Comment"}
    lines = [
        f"{key}={value.replace(chr(92), chr(92) * 2) if key in texts else value}"
        for key, value in keys.items()
        if value
    ]
    return "\n".join(["[Desktop Entry]", *lines, ""])


def _quote(argument: str) -> str:
    """Quote an argument as `Exec` has it; what is quoted has its escapes still to be escaped."""
    quoted = argument.replace("%", "%%").translate(_QUOTED)
    return f'"{quoted}"'


def _write_icon(home: Path, name: str, icon: Icon) -> Path:
    """Write a PNG of our own making; return its path in the theme."""
    side = next(each for each in SIZES if each <= icon.side)
    place = Path(f"{side}x{side}", "apps", f"{name}.png")
    if _replace(_theme(home) / place, png(icon)):
        os.utime(_theme(home))  # what is cached of it is older then
    return place


def png(icon: Icon) -> bytes:
    """Make a PNG file."""
    row = 4 * icon.side
    rows = (icon.pixels[at : at + row] for at in range(0, len(icon.pixels), row))
    header = struct.pack(">IIBBBBB", icon.side, icon.side, 8, 6, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(b"".join(b"\0" + each for each in rows), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _replace(path: Path, contents: bytes) -> bool:
    """Write a file, at once for whoever reads it; tell whether it was another."""
    with suppress(FileNotFoundError):
        if path.read_bytes() == contents:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(contents)
    fresh.replace(path)
    return True


def _remove(home: Path, vm: str, kept: set[str]) -> int:
    """Remove what is a VM's and not to be kept; return how many desktop entries went."""
    prefix = f"{app_id(check_name(vm)).decode()}."
    removed = 0
    for path in _applications(home).glob(f"{prefix}*.desktop"):
        if path.name not in kept and _is_ours(path, vm):
            path.unlink(missing_ok=True)
            removed += 1
    for path in _theme(home).glob(f"*/apps/{prefix}*.png"):
        if str(path.relative_to(_theme(home))) not in kept:
            path.unlink(missing_ok=True)
    return removed


def _is_ours(path: Path, vm: str) -> bool:
    """Tell whether we wrote a desktop entry: a user's own stays."""
    return f"\n{OURS}={vm}\n" in path.read_text(errors="replace")
