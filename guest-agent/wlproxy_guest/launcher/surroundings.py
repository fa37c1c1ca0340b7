"""The environment of what is started: this user's own, with the host's desktop as the display."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOCKET: Final = "/run/wlproxy/wayland-0"
"""The agent's, for apps."""
DISPLAY: Final = "wlproxy-0"
"""The name of a link to it in XDG_RUNTIME_DIR: apps make names of WAYLAND_DISPLAY."""
OF_THE_UNIT: Final = (
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MAINPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)
"""What systemd tells a service about itself: untrue of what it starts."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a command finds around it.

    Attributes:
        environ: its environment.
        directory: its working directory.
    """

    environ: Mapping[str, str]
    directory: Path


def display_of(environ: Mapping[str, str]) -> str:
    """Say what WAYLAND_DISPLAY is for the host's desktop: the name, where there is one."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.lexists(Path(runtime, DISPLAY)):
        return DISPLAY
    return SOCKET


def surroundings(environ: Mapping[str, str], display: str) -> Surroundings:
    """Make them of the launcher's own environment; nothing in them is of the host's.

    Args:
        environ: the launcher's.
        display: where the agent's Wayland socket is.
    """
    kept = {name: value for name, value in environ.items() if name not in OF_THE_UNIT}
    kept |= {"WAYLAND_DISPLAY": display, "XDG_SESSION_TYPE": "wayland"}
    home = Path(environ.get("HOME", "/"))
    return Surroundings(kept, home if os.access(home, os.X_OK) else Path("/"))
