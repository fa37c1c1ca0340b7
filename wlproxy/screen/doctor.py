"""Checks whether a VM's own screen can be had, and what it costs."""

import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from wlproxy.host.doctor import Finding, Verdict, problem
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.qmp import QmpClient

SUBJECT: Final = "screen"
SECONDS: Final = 10.0
"""For QEMU to say which displays it has."""

_OPTIONS: Final = "Start it with what `wlproxy qemu-args --screen` prints."
_BLOB: Final = re.compile(r"\bblob = true\b")


def examine_screen(monitor: Path, program: str | None = None) -> list[Finding]:
    """Run every check; raises nothing of its own.  Blocks.

    Args:
        monitor: where QEMU's is, if the VM has one for this.
        program: QEMU's; by default that for this machine's processor.
    """
    findings = _check_module(program or f"qemu-system-{platform.machine()}")
    if not monitor.is_socket():
        said = f"no monitor at {monitor}, by which `wlproxy screen` would be let in"
        return [*findings, Finding(SUBJECT, Verdict.OK, said)]
    try:
        with QmpClient(monitor) as client:
            options = client.execute("query-display-options")
            devices = client.monitor("info qtree")
    except HostError as exc:
        return [*findings, problem(SUBJECT, exc)]
    return [*findings, *judge(options, devices)]


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
