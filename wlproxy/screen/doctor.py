"""Checks whether a VM's own screen can be had, and what it costs."""

import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from wlproxy.host.doctor import Finding, Verdict, problem
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.qmp import QmpClient
from wlproxy.host.runtime_dir import screen_path
from wlproxy.screen.holders import Holder, holders
from wlproxy.transport.peer import peer_credentials

SUBJECT: Final = "screen"
SECONDS: Final = 10.0
"""For QEMU to say which displays it has."""

_OPTIONS: Final = "Start it with what `wlproxy qemu-args --screen` prints."
_ONE_VIEWER: Final = (
    "QEMU has one viewer at a time: the next one, such as `wlproxy screen`, takes its place. If it comes back and does "
    "the same, end it first."
)
_BLOB: Final = re.compile(r"\bblob = true\b")


def examine_screen(
    monitor: Path, program: str | None = None, status: Path | None = None
) -> list[Finding]:
    """Run every check; raises nothing of its own.  Blocks.

    Args:
        monitor: where QEMU's is, if the VM has one for this.
        program: QEMU's; by default that for this machine's processor.
        status: where the VM's status socket is, beside which that of `wlproxy screen` is; None: nowhere.
    """
    findings = _check_module(program or f"qemu-system-{platform.machine()}")
    if not monitor.is_socket():
        said = f"no monitor at {monitor}, by which `wlproxy screen` would be let in"
        return [*findings, Finding(SUBJECT, Verdict.OK, said)]
    try:
        with QmpClient(monitor) as client:
            options = client.execute("query-display-options")
            devices = client.monitor("info qtree")
            qemu = client.pid
    except HostError as exc:
        return [*findings, problem(SUBJECT, exc)]
    found = judge(options, devices)
    if all(each.verdict is not Verdict.PROBLEM for each in found):
        found += _viewers(qemu, status)
    return [*findings, *found]


def _viewers(qemu: int, status: Path | None) -> list[Finding]:
    """Say who shows the screen, as far as that can be seen."""
    try:
        found = holders(qemu)
    except OSError:  # another user's QEMU, or a kernel that does not tell
        return []
    ours = _screen_pid(status) if status is not None else 0
    return [judge_viewer(each, ours) for each in found]


def judge_viewer(viewer: Holder, ours: int) -> Finding:
    """Judge that somebody shows the screen.

    Args:
        viewer: who does.
        ours: the process of the VM's `wlproxy screen`; 0: there is none.
    """
    if viewer.pid == ours:
        return Finding(SUBJECT, Verdict.OK, f"it is shown by {viewer}")
    return Finding(
        SUBJECT, Verdict.WARNING, f"another viewer has it: {viewer}", _ONE_VIEWER
    )


def _screen_pid(status: Path) -> int:
    """Find the process of the VM's `wlproxy screen`; 0: there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(str(screen_path(status)))
            return peer_credentials(connection).pid
        except OSError:
            return 0


def judge(options: object, devices: str) -> list[Finding]:
    """Judge a display by what QEMU says of it.

    Args:
        options: the answer to `query-display-options`.
        devices: that to `info qtree`.
    """
    said = options if isinstance(options, dict) else {}
    kind = str(said.get("type"))
    if (kind, said.get("p2p")) != ("dbus", True):
        shown = kind if kind != "dbus" else "dbus, for a bus (without p2p=on)"
        explanation = f"QEMU's display is {shown}"
        return [Finding(SUBJECT, Verdict.PROBLEM, explanation, _OPTIONS)]
    if said.get("gl", "off") == "off" and _BLOB.search(devices):
        return [
            Finding(
                SUBJECT,
                Verdict.WARNING,
                "the GPU has blob=true and the display gl=off, where QEMU hands out its "
                "stdin for the picture (seen in 10 and 11): all of it is copied, twice",
                "Leave `blob=true` out, or give the display `gl=es` if there is a render "
                "node.",
            )
        ]
    return [Finding(SUBJECT, Verdict.OK, "QEMU's display is D-Bus")]


def _check_module(program: str) -> list[Finding]:
    """Look whether the QEMU of this host has the display's module; nothing if none is there."""
    found = shutil.which(program)
    if found is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - as the user's own shell would find it
            [found, "-display", "help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return [Finding(SUBJECT, Verdict.WARNING, f"{program} does not answer: {exc}")]
    if "dbus" in done.stdout.split():
        return []
    return [
        Finding(
            SUBJECT,
            Verdict.WARNING,
            f"{program} has no display `dbus`: its module ui-dbus.so is missing",
            "Install it (Debian: qemu-system-modules-opengl).",
        )
    ]
