"""A Debian of its own for compositors that this machine does not have, made by mmdebstrap.

They run in it without a screen, as an ordinary user, in a PID namespace that ends with the program
that was started: nothing of them stays.  Their sockets are reached from outside, within its tree.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lab.debian import mirror

SUITE: Final = "trixie"
TIMEOUT: Final = 1200
"""Seconds to make the Debian; the mirror may be slow."""

USER: Final = "recorder"

ENVIRON: Final = {
    "HOME": "/tmp",
    "KWIN_WAYLAND_NO_PERMISSION_CHECKS": "1",  # as its own settings and portals are served
    "LC_ALL": "C.UTF-8",
    "LIBSEAT_BACKEND": "noop",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "WLR_BACKENDS": "headless",
    "WLR_LIBINPUT_NO_DEVICES": "1",
    "WLR_RENDERER": "pixman",
}
"""The environment in which programs run in it."""

_ENTER: Final = """\
mount --bind /proc "$1/proc" && mount --rbind /dev "$1/dev" || exit
exec chroot "$1" su "$2" -c "$3"
"""


class CannotRunError(Exception):
    """A compositor cannot be run here; the argument says why."""


def make(root: Path, packages: Iterable[str]) -> None:
    """Make the Debian, with these packages, in a directory that is not there yet.

    Raises:
        CannotRunError: this machine cannot, or the mirror does not answer.
    """
    for program in ("mmdebstrap", "unshare"):
        if not shutil.which(program):
            raise CannotRunError(f"needs {program}")
    if os.geteuid() != 0:
        raise CannotRunError("needs root, for a chroot")
    include = f"--include={','.join(['passwd', *packages])}"
    run("mmdebstrap", "--variant=apt", include, SUITE, root, mirror())
    run("chroot", root, "useradd", USER)


def inside(root: Path, script: str) -> tuple[str, ...]:
    """Return the command that runs a shell script in it; killed, it takes along all of it."""
    own = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    return *own, "sh", "-c", _ENTER, "sh", str(root), USER, script


def version(root: Path, package: str) -> str:
    """Say which version of a package it has."""
    return run("chroot", root, "dpkg-query", "-W", "-f${Version}", package)


def run(*command: str | Path, **environ: str) -> str:
    """Run a program, and return what it prints.

    Raises:
        CannotRunError: it failed.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env={**ENVIRON, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise CannotRunError(f"{words[0]}: no answer") from exc
    if done.returncode:
        raise CannotRunError(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")
    return done.stdout
