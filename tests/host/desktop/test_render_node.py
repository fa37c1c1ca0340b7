import os
from pathlib import Path

import pytest

from wlproxy.host.desktop.render_node import usable_render_node

DEVICE = Path("/dev/null")
"""A device that everybody may use."""


def nodes(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).symlink_to(DEVICE)
    return directory


def test_the_first_is_found(tmp_path: Path) -> None:
    nodes(tmp_path, "card0", "renderD129", "renderD128")
    assert usable_render_node(tmp_path, DEVICE) == tmp_path / "renderD128"


def test_what_is_no_device_is_none(tmp_path: Path) -> None:
    (tmp_path / "renderD128").touch()
    (tmp_path / "renderD129").symlink_to(tmp_path / "nowhere")
    assert usable_render_node(tmp_path, DEVICE) is None
    assert usable_render_node(tmp_path / "none", DEVICE) is None


def test_it_is_nothing_without_udmabuf(tmp_path: Path) -> None:
    nodes(tmp_path, "renderD128")
    assert usable_render_node(tmp_path, tmp_path / "udmabuf") is None


def test_who_may_not_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(tmp_path, "renderD128")
    monkeypatch.setattr(os, "access", lambda path, _mode: path == DEVICE)
    assert usable_render_node(tmp_path, DEVICE) is None
