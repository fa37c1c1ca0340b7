"""The machine that is examined: its files, its programs, and who asks."""

import grp
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

AGENTS_GROUP: Final = "wlproxy"
"""Whose the port and the module's device are; the user of the unit has the same name."""
SOCKET: Final = "/run/wlproxy/wayland-0"
"""Where apps connect, as the socket unit says."""
DISPLAY: Final = "wlproxy-0"
"""The name of that socket in each user's XDG_RUNTIME_DIR."""
PATIENCE: Final = 30.0
"""Seconds that a program may take to answer, on a slow machine."""

Run = Callable[[Sequence[str]], str | None]
"""Runs a program and returns its output; None: it is not there, or has failed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks look at.

    Attributes:
        root: the directory that files are looked for in.
        environ: that of whoever asks.
        uid: who asks.
        groups: whose members they are just now.
        agents_group: the id of the agent's group; None: there is no such group.
        run: runs a program.
    """

    root: Path
    environ: Mapping[str, str]
    uid: int
    groups: frozenset[int]
    agents_group: int | None
    run: Run

    @classmethod
    def this(cls) -> Self:
        """Return the one that this runs on."""
        return cls(
            root=Path("/"),
            environ=os.environ,
            uid=os.geteuid(),
            groups=frozenset((*os.getgroups(), os.getegid())),
            agents_group=group_id(AGENTS_GROUP),
            run=run,
        )

    def path(self, absolute: str) -> Path:
        """Return where a file of it is."""
        return self.root / absolute.lstrip("/")

    def has_any(self, *absolute: str) -> bool:
        """Say whether one of these is there (any file, for a pattern in the last part)."""
        return any(
            True
            for each in map(self.path, absolute)
            for _ in each.parent.glob(each.name)
        )

    def read(self, absolute: str) -> str:
        """Read a small file; empty if that is not possible."""
        try:
            return self.path(absolute).read_text(errors="replace")
        except OSError:
            return ""


def group_id(name: str) -> int | None:
    """Look up a group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def run(command: Sequence[str]) -> str | None:
    """Run a program of the system's; see `Run`."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return done.stdout.decode(errors="replace")
