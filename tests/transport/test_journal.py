"""What the journal is told, and by what it is known."""

import logging
import os
from pathlib import Path

import pytest

from wlproxy.transport.journal import JournalFormatter, is_journal


def line(level: int, text: str) -> str:
    record = logging.LogRecord("test", level, "", 0, text, None, None)
    return JournalFormatter().format(record)


def test_each_line_has_its_priority() -> None:
    assert line(logging.CRITICAL, "very bad\nindeed") == "<3>very bad\n<3>indeed"
    assert line(logging.ERROR, "bad") == "<3>bad"
    assert line(logging.WARNING, "odd") == "<4>odd"
    assert line(logging.INFO, "news") == "<6>news"
    assert line(logging.DEBUG, "detail") == "<7>detail"
    assert line(1, "less") == "<7>less"


def test_the_journal_is_known_by_its_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert not is_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert not is_journal(stream)
    assert not is_journal(stream)  # closed
    assert not is_journal(None)
