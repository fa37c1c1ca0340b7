"""Where a table goes, and what is said if it cannot go there."""

from pathlib import Path
from typing import NoReturn

import pytest

from bench.document import print_table, replace_table
from bench.processes import BenchError


def test_a_table_is_put_between_its_marks() -> None:
    document = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n"
    replaced = replace_table(document, "new\n", "bench")
    assert replaced == "a\n<!-- bench -->\nnew\n<!-- /bench -->\nb\n"
    with pytest.raises(ValueError, match="no <!-- bench -->"):
        replace_table("a\n", "new\n", "bench")


def test_a_table_is_printed_and_goes_into_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "page.md"
    document.write_text("<!-- it -->\n<!-- /it -->\n")
    assert print_table(lambda: "new\n", document, "it") == 0
    assert capsys.readouterr().out == "new\n"
    assert document.read_text() == "<!-- it -->\nnew\n<!-- /it -->\n"


def test_what_cannot_be_measured_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def measure() -> NoReturn:
        raise BenchError("no sway")

    assert print_table(measure, None, "it") == 1
    assert capsys.readouterr().err == "no sway\n"


def test_a_document_without_the_marks_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "page.md"
    document.write_text("text\n")
    assert print_table(lambda: "new\n", document, "it") == 1
    assert "no <!-- it -->" in capsys.readouterr().err
    assert document.read_text() == "text\n"
