"""A user's desktop entries."""

from pathlib import Path

import pytest

from tests.guest_agent.launcher.desktop import Desktop


@pytest.fixture
def desktop(tmp_path: Path) -> Desktop:
    return Desktop(tmp_path)
