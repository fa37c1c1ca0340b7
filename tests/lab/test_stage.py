"""Looking at compositors that are not the demo's own, and may not want that."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.stage import NoPictureError, foreign_picture
from lab.weston import Weston
from tests.integration.harness import eventually

NAME = "wl-private"


def test_a_display_without_a_compositor(tmp_path: Path) -> None:
    with pytest.raises(NoPictureError, match=r"^wl-private gives no picture \("):
        foreign_picture(tmp_path / NAME)


@pytest.mark.lab
def test_a_compositor_that_grants_no_picture(tmp_path: Path) -> None:
    """Weston, without the option with which anybody may capture it."""
    command = Weston().command("pixman", "kiosk", (640, 480), NAME)
    command.remove("--debug")
    display = Path(os.environ["XDG_RUNTIME_DIR"], NAME)
    with (tmp_path / "log").open("wb") as log:
        weston = subprocess.Popen(
            [*command, "--no-config"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        eventually(display.exists, "weston is up")
        with pytest.raises(NoPictureError, match=r"unauthorized.*; grim: "):
            foreign_picture(display)
    finally:
        weston.kill()
        weston.wait()
