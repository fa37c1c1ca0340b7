"""The guest's benchmark, as far as it needs no guest: the app's commands, and the table."""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.guest import main, markdown
from bench.guest_app import Teller
from bench.peers import APP_SIDE, weston, wlproxy
from bench.results import Results
from tests.bench import runs
from tests.bench.runs import add


def run_in_all_modes() -> Results:
    results = runs.results(pages="with gem_locate")
    for mode, small, large in (
        ("A", 10.0, 12.0),
        ("B", 20.0, 20.0),
        ("C", 10.0, 900.0),
    ):
        add(results, "frames-64", mode, "cpu_us", small, small)
        add(results, "frames-4k", mode, "cpu_us", large, large)
    add(results, "frames-4k", "C", "pixel_bytes_copied", 33177600.0)
    return results


def rows(text: str, name: str) -> list[list[str]]:
    """Find the cells of the rows of that name."""
    lines = [each for each in text.splitlines() if each.startswith(f"| {name} ")]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]


def test_modes_stand_beside_each_other_and_are_divided() -> None:
    text = markdown(run_in_all_modes())
    costs, copied = rows(text, "frames-4k")
    assert costs == ["12.0", "20.0", "900", "1.67", "75.0"]
    assert copied == ["", "", "33,177,600"]


def test_a_large_frame_is_divided_by_a_small_one() -> None:
    [found] = rows(markdown(run_in_all_modes()), "frames, 4K / 64x64")
    assert found == ["1.20", "1.00", "90.0", "", ""]


def test_it_says_that_all_of_it_is_emulated() -> None:
    text = markdown(run_in_all_modes())
    assert text.startswith("* **All is emulated")
    assert "with gem_locate" in text


def test_a_table_is_printed_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    run_in_all_modes().write(path)
    assert main(["--table", str(path)]) == 0
    assert capsys.readouterr().out == markdown(Results.read(path))


def test_a_table_goes_into_a_document(tmp_path: Path) -> None:
    now, document = tmp_path / "now.json", tmp_path / "document.md"
    run_in_all_modes().write(now)
    document.write_text("x\n<!-- guest -->\nold\n<!-- /guest -->\n")
    assert main(["--table", str(now), "--into", str(document)]) == 0
    table = markdown(Results.read(now))
    assert document.read_text() == f"x\n<!-- guest -->\n{table}<!-- /guest -->\n"


def test_a_document_without_marks_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, document = tmp_path / "now.json", tmp_path / "document.md"
    run_in_all_modes().write(now)
    document.write_text("x\n")
    assert main(["--table", str(now), "--into", str(document)]) == 1
    assert "<!-- guest -->" in capsys.readouterr().err
    assert document.read_text() == "x\n"


def test_what_is_no_table_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--table", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", [{"op": "run", "count": 1}, {"op": "dance"}])
def test_the_app_says_what_it_cannot_do(command: dict[str, object]) -> None:
    teller = Teller("/nowhere", os.getpid())
    with pytest.raises(ValueError, match="cannot do"):
        teller.obey(json.loads(json.dumps(command)))
    assert teller.obey({"op": "leave"}) == {}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_app_says_what_the_agent_and_each_unit_took() -> None:
    """Natively, with the agent and the proxy of the other benchmark."""
    if not shutil.which("weston"):
        pytest.skip("needs weston: apt-get install weston")
    with TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        with weston(directory) as shown, wlproxy(directory, shown) as peer:
            teller = Teller(peer.display, peer.ends[APP_SIDE])
            for workload, count in (("sync", 5), ("first-use-1080p", 2)):
                assert teller.obey({"op": "prepare", "workload": workload}) == {}
                told = json.loads(
                    json.dumps(teller.obey({"op": "run", "count": count}))
                )
                assert told["agent"] > 0
                assert len(told["taken"]) == count
                assert teller.obey({"op": "leave"}) == {}
            peer.wait_quiet()
            assert peer.pixel_bytes_copied() == 0
