"""The floor of a hop: every way passes on what it is sent, and the table says what that costs."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.floor import PAIRS, WAYS, Pair, main, markdown, measure


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pairs", [1, 7])
def test_messages_pass_each_way(way: str, pairs: int) -> None:
    assert measure(WAYS[way], pairs, 2100) > 0


def test_what_arrives_as_something_else_is_no_measurement() -> None:
    def tells_tales(pairs: Sequence[Pair]) -> None:
        [(left, right)] = pairs
        left.recv(4096)
        right.send(b"what nobody said")

    with pytest.raises(ValueError, match="as something else"):
        measure(tells_tales, 1, 1)


def test_the_table_has_a_row_for_each_way() -> None:
    lines = markdown({name: [12.34, 5.6, 7.8] for name in WAYS}).splitlines()
    assert len(lines) == 2 + len(WAYS)
    assert [cell.strip() for cell in lines[2].split("|")[2:5]] == [
        "12.3",
        "5.60",
        "7.80",
    ]


def test_it_goes_into_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "document.md"
    document.write_text("a\n<!-- floor -->\n<!-- /floor -->\nb\n")
    assert main(["--quick", "--into", str(document)]) == 0, capsys.readouterr().err
    assert f"{PAIRS[-1]} ready at once" in document.read_text()


def test_a_document_without_a_place_for_it_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "document.md"
    document.write_text("nothing\n")
    assert main(["--quick", "--into", str(document)]) == 1
    assert "floor" in capsys.readouterr().err
