import os
from pathlib import Path

import pytest

from tests.host.conftest import Weston
from wlproxy.host.errors import NoCompositorError, SecurityContextError
from wlproxy.host.security_context import SecurityContext


def test_weston_has_none(weston: Weston) -> None:
    before = os.listdir(weston.directory)
    with pytest.raises(SecurityContextError, match="has no wp_security_context"):
        SecurityContext(weston.socket, "org.example", "vm")
    assert os.listdir(weston.directory) == before


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NoCompositorError):
        SecurityContext(tmp_path / "wl", "org.example", "vm")
    assert not os.listdir(tmp_path)


def test_directory_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(SecurityContextError, match="ENOENT"):
        SecurityContext(tmp_path / "absent" / "wl", "org.example", "vm")


def test_names_have_a_limit(weston: Weston) -> None:
    with pytest.raises(SecurityContextError, match="longer"):
        SecurityContext(weston.socket, "org.example", "v" * 5000)
