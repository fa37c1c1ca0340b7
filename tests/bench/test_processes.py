"""Programs are started, waited for, and ended."""

import sys
from pathlib import Path

import pytest

from bench.processes import BenchError, started

PYTHON = (sys.executable, "-c")


def test_a_program_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    words = [*PYTHON, "raise SystemExit('no luck')"]
    with (
        started(words, tmp_path / "log") as program,
        pytest.raises(BenchError, match="it is up: ended:\nno luck"),
    ):
        program.wait_until(lambda: False, "it is up")


def test_a_program_has_no_display_but_what_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYLAND_DISPLAY", "the-users")
    script = "import os; print(os.environ.get('WAYLAND_DISPLAY'), os.environ['X'])"
    with started([*PYTHON, script], tmp_path / "log", {"X": "1"}) as program:
        program.wait_until(lambda: "None 1\n" in program.said(), "it says so")


def test_a_program_ends_with_the_block(tmp_path: Path) -> None:
    words = [*PYTHON, "import signal; print('up', flush=True); signal.pause()"]
    with started(words, tmp_path / "log") as program:
        program.wait_until(program.said, "it is up")
        assert not program.ended
    assert program.ended
