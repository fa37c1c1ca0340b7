"""Which globals compositors of today offer, as they were recorded: `tests/tables/offered.txt`.

`python -m tests.tables offered` records them anew, as root: it makes a Debian with mmdebstrap, in a
directory that is removed again, and runs each compositor in it without a screen.  What takes a GPU or
a monitor is not among them (syncobj, DRM leases, Xwayland's own), nor what a compositor has on
other hardware.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import compositors
from tests.integration import wayland_info

OFFERED: Final = Path(__file__).with_name("offered.txt")
_BUS: Final = ("dbus-run-session", "--")


@dataclass(frozen=True, slots=True)
class Compositor:
    """How to run one without a screen, at the socket `wayland-recorded`.

    Attributes:
        package: that it is in.
        command: that runs it.
    """

    package: str
    command: tuple[str, ...]


COMPOSITORS: Final[Mapping[str, Compositor]] = {
    "sway": Compositor("sway", ("sway", "--config", "/dev/null")),
    "weston": Compositor(
        "weston",
        ("weston", "--backend=headless", "--no-config", "--socket=wayland-recorded"),
    ),
    "KWin": Compositor(
        "kwin-wayland",
        (*_BUS, "kwin_wayland", "--virtual", "--no-lockscreen"),
    ),
    "Mutter": Compositor(
        "mutter",
        (
            *(*_BUS, "mutter", "--headless", "--wayland", "--no-x11"),
            *("--virtual-monitor", "1280x720"),
        ),
    ),
}

_SCRIPT: Final = """\
mkdir -m 700 "$XDG_RUNTIME_DIR"
cd /tmp
timeout 60 {command} >&2 &
tries=0
until set -- "$XDG_RUNTIME_DIR"/wayland-*[a-z0-9] && [ -S "$1" ]; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; sleep 0.2
done
sleep 2
WAYLAND_DISPLAY="$1" timeout 20 wayland-info
"""
"""Sockets come before the last globals do: hence the pause."""


def read(text: str) -> dict[str, dict[str, int]]:
    """Take the file apart: compositor, with its version, to the versions of its globals."""
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        if line.startswith("  "):
            interface, version = line.split()
            found[next(reversed(found))][interface] = int(version)
        else:
            found[line] = {}
    return found


def write(recorded: Mapping[str, Mapping[str, int]]) -> str:
    """Put it together again."""
    lines = [
        "# Globals that compositors of Debian's offer, and their versions.",
        "# `python -m tests.tables offered` writes this file, of compositors that it runs.",
    ]
    for name, globals_ in recorded.items():
        lines += ["", name]
        lines += [f"  {each} {globals_[each]}" for each in sorted(globals_)]
    return "\n".join(lines) + "\n"


def record(directory: Path) -> dict[str, dict[str, int]]:
    """Run them all, and ask each what it has.

    Args:
        directory: an empty one.

    Raises:
        CannotRunError: this machine cannot, or the mirror does not answer.
    """
    root = directory / "root"
    packages = [each.package for each in COMPOSITORS.values()]
    compositors.make(root, [*packages, "dbus", "dbus-x11", "wayland-utils"])
    found: dict[str, dict[str, int]] = {}
    for name, each in COMPOSITORS.items():
        version = compositors.version(root, each.package)
        script = _SCRIPT.format(command=" ".join(each.command))
        runtime = f"/tmp/{each.package}"
        text = compositors.run(
            *compositors.inside(root, script), XDG_RUNTIME_DIR=runtime
        )
        offered = wayland_info.parse(text)
        found[f"{name} {version} (Debian {compositors.SUITE})"] = {
            each.interface: each.version for each in offered
        }
    return found
