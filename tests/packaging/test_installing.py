"""Proxy and agent on one machine, by pip and by dpkg: both work, and go one by one."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.packaging.builds import NAMES
from tests.packaging.conftest import NEXT_VERSION
from tests.packaging.environment import COMMANDS, Environment
from wlproxy import __version__

pytestmark = pytest.mark.slow

ENDS = tuple(COMMANDS)
"""The distributions of which one can go."""


def other_than(name: str) -> str:
    (other,) = set(ENDS) - {name}
    return other


# ---- pip


def test_both_work_in_one_environment(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    environment.install(wheels.values())
    for name in ENDS:
        environment.assert_works(name, __version__)
    environment.pip("check")


def test_no_file_is_installed_by_two(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    environment.install(wheels.values())
    owners = environment.owners()
    assert {name for names in owners.values() for name in names} == {
        name.replace("_", "-") for name in NAMES
    }
    assert not {path: names for path, names in owners.items() if len(names) > 1}


@pytest.mark.parametrize("name", ENDS)
def test_each_works_without_the_other(
    environment: Environment, wheels: dict[str, Path], name: str
) -> None:
    environment.install([wheels["wlproxy_channel"], wheels[name]])
    environment.assert_works(name, __version__)
    environment.assert_gone(other_than(name))
    environment.pip("check")


@pytest.mark.parametrize("name", ENDS)
def test_either_is_removed_without_the_other(
    environment: Environment, wheels: dict[str, Path], name: str
) -> None:
    environment.install(wheels.values())
    environment.pip("uninstall", "--yes", name)
    environment.assert_gone(name)
    environment.assert_works(other_than(name), __version__)
    environment.pip("check")


def test_nothing_is_left_once_all_are_removed(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    before = environment.files()
    environment.install(wheels.values())
    assert environment.files() > before
    environment.pip("uninstall", "--yes", *NAMES)
    assert environment.files() == before


def test_both_are_updated_in_place(
    environment: Environment, wheels: dict[str, Path], next_wheels: dict[str, Path]
) -> None:
    environment.install(wheels.values())
    environment.install(next_wheels.values())
    for name in ENDS:
        environment.assert_works(name, NEXT_VERSION)
    environment.pip("check")


def test_what_was_left_behind_by_an_update_is_named(
    environment: Environment, wheels: dict[str, Path], next_wheels: dict[str, Path]
) -> None:
    environment.install(wheels.values())
    environment.install([next_wheels["wlproxy_channel"], next_wheels["wlproxy"]])
    done = environment.run(environment.python, "-m", "pip", "check")
    assert done.returncode == 1
    assert done.stdout == (
        f"wlproxy-guest {__version__} has requirement wlproxy-channel=={__version__},"
        f" but you have wlproxy-channel {NEXT_VERSION}.\n"
    )


# ---- dpkg


class DebianRoot:
    """A directory that dpkg takes for a machine without any package."""

    def __init__(self, directory: Path, environment: Environment) -> None:
        self._directory = directory
        self._root = directory / "root"
        self._python = environment
        for name in ("info", "updates"):
            (self._root / "var/lib/dpkg" / name).mkdir(parents=True)
        (self._root / "var/lib/dpkg/status").touch()

    def package(self, wheel: Path) -> Path:
        """Make a package of a wheel, as minimal as can be."""
        name, version = wheel.name.split("-")[:2]
        root = self._directory / f"{name}_{version}"
        options = ("--no-index", "--no-deps", "--no-compile", "--prefix=/usr")
        self._python.pip("install", *options, f"--root={root}", "--force", wheel)
        needs = "" if name == "wlproxy_channel" else f"wlproxy-channel (= {version})"
        fields = {
            "Package": name.replace("_", "-"),
            "Version": version,
            "Architecture": "all",
            "Maintainer": "nobody <nobody@example.org>",
            "Depends": needs,
            "Description": name,
        }
        control = root / "DEBIAN" / "control"
        control.parent.mkdir()
        control.write_text(
            "".join(f"{field}: {value}\n" for field, value in fields.items() if value)
        )
        archive = root.with_suffix(root.suffix + ".deb")
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", root, archive],
            check=True,
            capture_output=True,
        )
        return archive

    def packages(self, wheels: dict[str, Path]) -> dict[str, Path]:
        """Make a package of each wheel."""
        return {name: self.package(wheel) for name, wheel in wheels.items()}

    def dpkg(self, *words: str | Path) -> str:
        """Have dpkg do something; returns what it complains of."""
        command = ["dpkg", f"--root={self._root}", "--force-not-root"]
        # It asks for ldconfig, which a user need not have in PATH.
        command += ["--force-bad-path", "--log=/dev/null"]
        done = subprocess.run(
            [*command, *(str(word) for word in words)],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        assert bool(done.returncode) == bool(done.stderr), done.stdout + done.stderr
        return done.stderr

    def install(self, archives: Iterable[Path]) -> None:
        """Install packages, over what is there of them."""
        assert not self.dpkg("--install", *archives)

    @property
    def inside(self) -> Environment:
        """What is installed in it."""
        (site,) = self._root.glob("usr/**/wlproxy/protocol")
        packages = str(site.parent.parent)
        return Environment(
            self._python.python, self._root / "usr/bin", {"PYTHONPATH": packages}
        )


@pytest.fixture
def debian(tmp_path: Path, environment: Environment) -> DebianRoot:
    if not shutil.which("dpkg-deb"):
        pytest.skip("needs dpkg")
    return DebianRoot(tmp_path, environment)


def test_packages_share_no_file(debian: DebianRoot, wheels: dict[str, Path]) -> None:
    """Or dpkg would say "trying to overwrite"."""
    debian.install(debian.packages(wheels).values())
    for name in ENDS:
        debian.inside.assert_works(name, __version__)


@pytest.mark.parametrize("name", ENDS)
def test_either_package_is_removed_without_the_other(
    debian: DebianRoot, wheels: dict[str, Path], name: str
) -> None:
    debian.install(debian.packages(wheels).values())
    assert not debian.dpkg("--remove", name.replace("_", "-"))
    debian.inside.assert_gone(name)
    debian.inside.assert_works(other_than(name), __version__)


def test_what_both_share_stays_as_long_as_one_is_there(
    debian: DebianRoot, wheels: dict[str, Path]
) -> None:
    debian.install(debian.packages(wheels).values())
    refused = debian.dpkg("--remove", "wlproxy-channel", "wlproxy")
    assert re.search(r"wlproxy-guest depends on wlproxy-channel", refused)
    debian.inside.assert_works("wlproxy_guest", __version__)


def test_packages_are_updated_in_place(
    debian: DebianRoot, wheels: dict[str, Path], next_wheels: dict[str, Path]
) -> None:
    debian.install(debian.packages(wheels).values())
    debian.install(debian.packages(next_wheels).values())
    for name in ENDS:
        debian.inside.assert_works(name, NEXT_VERSION)
