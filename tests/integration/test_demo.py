"""The whole demo, on both of the releases that the lab has as hosts.

Debian 13 is what `make demo` shows where this machine has no udmabuf or no KVM: weston
with GL, which imports windows (mode B).  Debian 12 has a kernel without udmabuf, and our
own driver instead; QEMU 7.2, weston 10, Python 3.11 and the rest are that release's own.
All of it is mode A there: that weston has no linux-dmabuf where Mesa 22.3 has no GPU.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab import paths

LOGS = Path("build")
PATIENCE = 1200
"""Seconds for as many emulated machines as the demo itself may use up."""

pytestmark = [
    pytest.mark.demo,
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE + 60),
]


def demo(host: str, *options: str) -> str:
    """Run the demo; returns what it printed once it has succeeded."""
    LOGS.mkdir(exist_ok=True)
    log = LOGS / f"demo-{host}.log"
    with log.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "lab.demo", "--host", host, *options],
            cwd=paths.REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    text = log.read_text(errors="replace")
    assert done.returncode == 0, f"{log} ends:\n{text[-4000:]}"
    return text


@pytest.mark.parametrize(
    ("host", "options", "mode"),
    [
        ("trixie", [], "B"),
        ("bookworm", ["--seconds", "5", "--renderer", "pixman"], "A"),
    ],
    ids=["trixie", "bookworm"],
)
def test_the_demo_shows_every_pixel_without_a_copy(
    host: str, options: list[str], mode: str
) -> None:
    printed = demo(host, *options)

    assert "pixel bytes copied by wlproxy, since it started: 0\n" in printed
    # They animate, and take their buffers in turn: in pools, and in dma-bufs.
    for window in ("pattern", "pattern, in dma-bufs"):
        row = rf"^ *{window} +XRGB8888 +{mode} "
        assert re.search(row, printed, re.MULTILINE), window
    assert re.search(r"^agent: uid [1-9]\d*, no capability", printed, re.MULTILINE)
    assert printed.count("every pixel right") == 3
