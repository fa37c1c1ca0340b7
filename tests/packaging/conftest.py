"""Wheels of this tree, and of what it will be; a place to install them into."""

from pathlib import Path

import pytest

from tests.packaging.builds import ROOT, build_wheels, copy_with_version
from tests.packaging.environment import Environment, link_third_parties

NEXT_VERSION = "99.1.2"


@pytest.fixture(scope="package")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels by distribution."""
    return build_wheels(ROOT, tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="package")
def next_wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same, of a later version."""
    directory = tmp_path_factory.mktemp("next")
    copy_with_version(NEXT_VERSION, directory / "tree")
    return build_wheels(directory / "tree", directory / "wheels")


@pytest.fixture(scope="package")
def third_parties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What our distributions depend on, and pip."""
    directory = tmp_path_factory.mktemp("third-parties")
    link_third_parties(directory)
    return directory


@pytest.fixture
def environment(tmp_path: Path, third_parties: Path) -> Environment:
    """A new environment that has none of ours."""
    return Environment.make(tmp_path / "environment", third_parties)
