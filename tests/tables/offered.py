"""Which globals compositors of today offer, as they were recorded: `tests/tables/offered.txt`.

`python -m tests.tables offered` records them anew, as root: it makes a Debian with mmdebstrap, in a
directory that is removed again, and runs each compositor in it without a screen.  What takes a GPU or
a monitor is not among them (syncobj, DRM leases, Xwayland's own), nor what a compositor has on
other hardware.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.debian import mirror
from tests.integration import wayland_info

OFFERED: Final = Path(__file__).with_name("offered.txt")
SUITE: Final = "trixie"
TIMEOUT: Final = 1200
"""Seconds to make the Debian; the mirror may be slow."""

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
mount --bind /proc "$1/proc" && mount --bind /dev "$1/dev" || exit
exec chroot "$1" su recorder -c '
mkdir -m 700 "$XDG_RUNTIME_DIR"
cd /tmp
timeout 60 '"$2"' >&2 &
tries=0
until set -- "$XDG_RUNTIME_DIR"/wayland-*[a-z0-9] && [ -S "$1" ]; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; sleep 0.2
done
sleep 2
WAYLAND_DISPLAY="$1" timeout 20 wayland-info
'
"""
"""Given the root and the command.  Sockets come before the last globals do: hence the pause."""

_ENVIRON: Final = {
    "HOME": "/tmp",
    "KWIN_WAYLAND_NO_PERMISSION_CHECKS": "1",  # as its own settings and portals are served
    "LC_ALL": "C.UTF-8",
    "LIBSEAT_BACKEND": "noop",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "WLR_BACKENDS": "headless",
    "WLR_LIBINPUT_NO_DEVICES": "1",
    "WLR_RENDERER": "pixman",
}


class NotRecordedError(Exception):
    """A compositor cannot be run here; the argument says why."""


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
        NotRecordedError: this machine cannot, or the mirror does not answer.
    """
    for program in ("mmdebstrap", "unshare"):
        if not shutil.which(program):
            raise NotRecordedError(f"needs {program}")
    if os.geteuid() != 0:
        raise NotRecordedError("needs root, for a chroot")
    root = directory / "root"
    packages = [each.package for each in COMPOSITORS.values()]
    include = ",".join([*packages, "dbus", "dbus-x11", "wayland-utils"])
    _run("mmdebstrap", "--variant=apt", f"--include={include}", SUITE, root, mirror())
    _run("chroot", root, "useradd", "recorder")
    found: dict[str, dict[str, int]] = {}
    for name, each in COMPOSITORS.items():
        version = _run("chroot", root, "dpkg-query", "-W", "-f${Version}", each.package)
        text = _run(
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", _SCRIPT, "sh", root, " ".join(each.command)),
            XDG_RUNTIME_DIR=f"/tmp/{each.package}",
        )
        offered = wayland_info.parse(text)
        found[f"{name} {version} (Debian {SUITE})"] = {
            each.interface: each.version for each in offered
        }
    return found


def _run(*command: str | Path, **environ: str) -> str:
    """Run a program, and return what it prints.

    Raises:
        NotRecordedError: it failed.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env={**_ENVIRON, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise NotRecordedError(f"{words[0]}: no answer") from exc
    if done.returncode:
        raise NotRecordedError(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")
    return done.stdout
