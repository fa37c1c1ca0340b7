"""`lab.debug_kernel`: what is in the cache under which name, and options that got lost."""

from pathlib import Path

import pytest

from lab import debug_kernel

WANTED = """\
# A comment, and an empty line.

CONFIG_KASAN=y
CONFIG_UBSAN=y
CONFIG_LOG_BUF_SHIFT=20
"""


def test_an_option_that_did_not_come_through_is_missing() -> None:
    got = "CONFIG_KASAN=y\nCONFIG_UBSAN_BOUNDS=y\nCONFIG_LOG_BUF_SHIFT=17\n"

    assert debug_kernel.missing(WANTED, got) == [
        "CONFIG_UBSAN=y",
        "CONFIG_LOG_BUF_SHIFT=20",
    ]
    assert not debug_kernel.missing(WANTED, "CONFIG_OTHER=y\n" + WANTED)


def test_another_configuration_is_another_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = debug_kernel.path()
    config = tmp_path / "debug.config"
    config.write_text(WANTED)
    monkeypatch.setattr(debug_kernel, "CONFIG", config)

    assert debug_kernel.path() != before
    assert debug_kernel.path().is_relative_to(tmp_path)
