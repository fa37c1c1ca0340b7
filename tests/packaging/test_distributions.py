"""Three distributions: each file has one owner, and wheel and sdist agree."""

import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from lab import guest_agent
from tests.packaging.builds import DIRECTORIES, NAMES, ROOT, build, names_in
from wlproxy import __version__

SHARED_PACKAGES = {
    "wlproxy",
    "wlproxy/protocol",
    "wlproxy/protocol/channel",
    "wlproxy/protocol/channel/lanes",
    "wlproxy/transport",
}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if "/METADATA" in each)
        return Parser().parsestr(archive.read(name).decode())


def required_by(wheel: Path) -> set[str]:
    return set(metadata(wheel).get_all("Requires-Dist", []))


@pytest.mark.parametrize("name", NAMES)
def test_what_an_index_shows_of_it(wheels: dict[str, Path], name: str) -> None:
    """Licence and description, as `twine check --strict` wants them too."""
    shown = metadata(wheels[name])
    assert shown["License-Expression"] == "MIT"
    assert shown.get_all("License-File") == ["LICENSE"]
    assert shown["Description-Content-Type"] == "text/markdown"
    assert str(shown.get_payload()).startswith("# wlproxy")
    with zipfile.ZipFile(wheels[name]) as archive:
        (licence,) = (n for n in archive.namelist() if n.endswith("/licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_each_file_has_one_owner(wheels: dict[str, Path]) -> None:
    carried = [name for wheel in wheels.values() for name in names_in(wheel)]
    assert len(carried) == len(set(carried))


@pytest.mark.parametrize("package", ["wlproxy", "guest-agent/wlproxy_guest"])
def test_no_file_is_forgotten(wheels: dict[str, Path], package: str) -> None:
    root = (ROOT / package).parent
    files = {
        path.relative_to(root).as_posix()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    carried = {name for wheel in wheels.values() for name in names_in(wheel)}
    assert files <= carried


def test_the_channel_carries_what_is_shared_and_nothing_else(
    wheels: dict[str, Path],
) -> None:
    shared = {Path(name) for name in names_in(wheels["wlproxy_channel"])}
    assert {path.parent.as_posix() for path in shared} == SHARED_PACKAGES
    for package in SHARED_PACKAGES:
        assert Path(package) / "__init__.py" in shared


def test_the_agent_carries_nothing_of_the_hosts(wheels: dict[str, Path]) -> None:
    names = names_in(wheels["wlproxy_guest"])
    assert not [name for name in names if name.startswith("wlproxy/")]


def test_the_lab_ships_what_the_wheels_carry(wheels: dict[str, Path]) -> None:
    shipped = set()
    for source, target in guest_agent.sources():
        files = source.rglob("*") if source.is_dir() else [source]
        shipped |= {
            str(target / path.relative_to(source))
            for path in files
            if path.is_file() and "__pycache__" not in path.parts
        }
    code = names_in(wheels["wlproxy_channel"]) | names_in(wheels["wlproxy_guest"])
    assert shipped == {name for name in code if ".data/" not in name}


def test_wheels_have_one_version(wheels: dict[str, Path]) -> None:
    for name, wheel in wheels.items():
        assert wheel.name == f"{name}-{__version__}-py3-none-any.whl"


EXTRAS = {"pillow>=10.1; extra == 'label'"}
"""What is only depended on by who asks for it."""


@pytest.mark.parametrize("name", ["wlproxy", "wlproxy_guest"])
def test_what_they_share_must_have_their_version(
    wheels: dict[str, Path], name: str
) -> None:
    pins = {each for each in required_by(wheels[name]) if "==" in each} - EXTRAS
    assert pins == {f"wlproxy-channel=={__version__}"}


def test_what_they_depend_on_otherwise(wheels: dict[str, Path]) -> None:
    names = {
        name: {re.split(r"\W", each)[0] for each in required_by(wheel) - EXTRAS}
        for name, wheel in wheels.items()
    }
    assert names["wlproxy"] == {*("click", "pyudev", "rich", "trio", "wlproxy")}
    assert names["wlproxy_guest"] == {"pyudev", "trio", "wlproxy"}
    assert names["wlproxy_channel"] == {"trio"}


def test_the_proxy_carries_the_tables_of_interfaces(wheels: dict[str, Path]) -> None:
    assert "wlproxy/protocol/wayland/interfaces.txt" in names_in(wheels["wlproxy"])


def test_wheel_carries_the_systemd_units(wheels: dict[str, Path]) -> None:
    units = {path.name for path in (ROOT / "guest-agent/systemd").glob("*")}
    names = names_in(wheels["wlproxy_guest"])
    assert {Path(name).name for name in names if "/data/share/" in name} == units


def test_shared_code_runs_on_the_standard_library(wheels: dict[str, Path]) -> None:
    wheel = wheels["wlproxy_channel"]
    code = "import wlproxy.protocol.channel.codec as c; print(c.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={"PYTHONPATH": str(wheel)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(wheel))


@pytest.mark.parametrize("name", NAMES)
def test_wheel_from_the_sdist_is_the_same(
    wheels: dict[str, Path], name: str, tmp_path: Path
) -> None:
    sdist = build(ROOT / DIRECTORIES[name], "sdist", tmp_path / "sdist")
    # Not tarfile: its `filter` came with 3.11.4, and later versions warn without it.
    subprocess.run(["tar", "-xf", str(sdist), "-C", str(tmp_path)], check=True)
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert not (unpacked / "kernel").exists(), "of another licence"
    again = build(unpacked, "wheel", tmp_path / "wheel")
    assert again.name == wheels[name].name
    assert names_in(again) == names_in(wheels[name])
    assert required_by(again) == required_by(wheels[name])
