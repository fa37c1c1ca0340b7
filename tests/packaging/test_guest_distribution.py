"""The guest's distribution stands alone: all it imports of ours, it carries."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHARED_PACKAGES = {
    "wlproxy",
    "wlproxy/protocol",
    "wlproxy/protocol/channel",
    "wlproxy/transport",
}


def build(source: Path, target: str, into: Path) -> Path:
    """Build one archive with the locked hatchling, without an index or isolation."""
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        target,
        "-d",
        str(into),
    ]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (archive,) = into.iterdir()
    return archive


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "guest-agent", "wheel", tmp_path_factory.mktemp("wheel"))


def test_wheel_carries_what_is_shared_and_nothing_else_of_the_host(
    wheel: Path,
) -> None:
    shared = {Path(name) for name in names_in(wheel) if name.startswith("wlproxy/")}
    assert {path.parent.as_posix() for path in shared} == SHARED_PACKAGES
    for package in SHARED_PACKAGES:
        assert Path(package) / "__init__.py" in shared


def test_wheel_has_the_hosts_version(wheel: Path) -> None:
    from wlproxy import __version__

    assert wheel.name == f"wlproxy_guest-{__version__}-py3-none-any.whl"


def test_wheel_carries_the_systemd_units(wheel: Path) -> None:
    units = {path.name for path in (ROOT / "guest-agent/systemd").glob("*")}
    carried = {Path(name).name for name in names_in(wheel) if "/data/share/" in name}
    assert carried == units


def test_shared_code_runs_on_the_standard_library(wheel: Path) -> None:
    code = "import wlproxy.protocol.channel.codec as c; print(c.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={"PYTHONPATH": str(wheel)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(wheel))


def test_wheel_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = build(ROOT / "guest-agent", "sdist", tmp_path / "sdist")
    # Not tarfile: its `filter` came with 3.11.4, and later versions warn without it.
    subprocess.run(["tar", "-xf", str(sdist), "-C", str(tmp_path)], check=True)
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    again = build(unpacked, "wheel", tmp_path / "wheel")
    assert again.name == wheel.name
    assert names_in(again) == names_in(wheel)
