from pathlib import Path

import pytest

from lab.weston import Weston


def installed(directory: Path, version: str) -> Weston:
    program = directory / "weston"
    program.write_text(f"#!/bin/sh\necho weston {version}\n")
    program.chmod(0o755)
    return Weston(("env", f"PATH={directory}"))


def test_an_old_one_is_told_modules_and_a_new_one_names(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()

    first = installed(old, "10.0.1").command("gl", "kiosk", (640, 480), "wl-x")
    second = installed(new, "14.0.2").command("gl", "kiosk", (640, 480), "wl-x")

    size = ["--width=640", "--height=480"]
    options = [*size, "--idle-time=0", "--debug", "--socket=wl-x"]
    backend = ["--backend=headless-backend.so", "--use-gl", "--shell=kiosk-shell.so"]
    assert first == ["env", f"PATH={old}", "weston", *backend, *options]
    backend = ["--backend=headless", "--renderer=gl", "--shell=kiosk"]
    assert second == ["env", f"PATH={new}", "weston", *backend, *options]


@pytest.mark.parametrize(("version", "has"), [("10.0.1", False), ("14.0.2", True)])
def test_says_how_pictures_are_had(tmp_path: Path, version: str, *, has: bool) -> None:
    assert installed(tmp_path, version).has_capture_protocol == has


def test_none_is_version_0(tmp_path: Path) -> None:
    assert Weston((str(tmp_path / "nothing"),)).version == 0
