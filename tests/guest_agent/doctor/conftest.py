"""A guest to examine."""

from pathlib import Path

import pytest

from tests.guest_agent.doctor.guests import GuestTree


@pytest.fixture
def guest(tmp_path: Path) -> GuestTree:
    """One in which all is well."""
    return GuestTree(tmp_path)
