"""Debian 12 as host: a kernel without udmabuf, and our own driver instead.

The whole demo runs there: QEMU 7.2, weston 10, Python 3.11 and the rest are that release's
own.  All of it is mode A: that weston has no linux-dmabuf where Mesa 22.3 has no GPU.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab import paths

LOG = Path("build") / "old-host.log"
PATIENCE = 1200
"""Seconds for as many emulated machines as the demo itself may use up."""

pytestmark = [
    pytest.mark.old_host,
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE + 60),
]


def demo(*options: str) -> str:
    """Run the demo; returns what it printed once it has succeeded."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "lab.demo", "--host", "bookworm", *options],
            cwd=paths.REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    text = LOG.read_text(errors="replace")
    assert done.returncode == 0, f"{LOG} ends:\n{text[-4000:]}"
    return text


def test_the_demo_shows_every_pixel_without_a_copy() -> None:
    printed = demo("--seconds", "5", "--renderer", "pixman")

    assert "pixel bytes copied by wlproxy, since it started: 0" in printed
    # It animates, and takes its buffers in turn.
    assert re.search(r"^ *pattern +XRGB8888 +A ", printed, re.MULTILINE)
    assert "every pixel right" in printed
