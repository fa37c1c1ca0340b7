"""The check of the coverage floors finds each fault that it is for."""

from pathlib import Path

import pytest
from coverage import Coverage

from tests import coverage_floors
from tests.coverage_floors import FILE, Floors, Measured, main, measure

GOOD, POOR = "wlproxy/good.py", "wlproxy/poor.py"
FLOORS = Floors(90, {POOR: "talks to a kernel"}, {GOOD: 95, POOR: 60})
MEASURED = {GOOD: Measured(97, 100), POOR: Measured(62, 100)}


def test_all_is_well() -> None:
    assert FLOORS.complaints(MEASURED) == []


@pytest.mark.parametrize(
    ("floors", "change", "complaint"),
    [
        (FLOORS, {GOOD: Measured(90, 100)}, f"{GOOD}: 90 %, and its floor is 95 %"),
        (FLOORS, {POOR: Measured(55, 100)}, f"{POOR}: 55 %, and its floor is 60 %"),
        (
            FLOORS,
            {GOOD: Measured(200, 200)},
            f"{GOOD}: 100 %, far above its floor, 95 %",
        ),
        (FLOORS, {"new.py": Measured(5, 5)}, "new.py: 100 %, and no floor yet"),
        (
            Floors(90, {}, FLOORS.floors),
            {},
            f"{POOR}: a floor below 90 %, and no exception",
        ),
        (
            Floors(60, FLOORS.exceptions, FLOORS.floors),
            {},
            f"{POOR}: an exception that is needed no more",
        ),
        (
            Floors(90, FLOORS.exceptions, {**FLOORS.floors, "gone.py": 95}),
            {},
            "gone.py: no such module",
        ),
        (
            Floors(90, {**FLOORS.exceptions, "gone.py": "why"}, FLOORS.floors),
            {},
            "gone.py: no such module",
        ),
    ],
)
def test_a_fault_is_found(
    floors: Floors, change: dict[str, Measured], complaint: str
) -> None:
    assert floors.complaints({**MEASURED, **change}) == [complaint]


def test_what_another_machine_can_run_raises_no_floor() -> None:
    assert FLOORS.complaints({**MEASURED, GOOD: Measured(200, 200)}, strict=False) == []


def test_floors_rise_and_do_not_fall() -> None:
    raised = FLOORS.raised({GOOD: Measured(100, 100), POOR: Measured(50, 100)})

    assert raised.floors == {GOOD: 100, POOR: 60}
    assert raised.exceptions == FLOORS.exceptions


def test_an_exception_goes_when_its_module_is_good_enough() -> None:
    raised = FLOORS.raised({POOR: Measured(100, 100), "new.py": Measured(10, 10)})

    assert raised == Floors(90, {}, {POOR: 100, "new.py": 100})


def test_no_exception_is_made_for_a_new_module() -> None:
    poor = {"new.py": Measured(1, 10)}
    raised = Floors(90, {}, {}).raised(poor)

    assert raised.complaints(poor) == ["new.py: a floor below 90 %, and no exception"]


@pytest.mark.parametrize("size", [*range(1, 30), 49, 50, 99, 100, 101, 1000])
def test_a_run_with_more_or_less_luck_is_no_fault(size: int) -> None:
    luck = min(4, size // 20)
    for ran in range(luck, size + 1):
        floors = Floors(0, {}, {}).raised({GOOD: Measured(ran, size)})
        for other in (ran - luck, min(ran + luck, size)):
            assert not floors.complaints({GOOD: Measured(other, size)})


def test_a_module_that_has_become_smaller_has_the_same_luck() -> None:
    """As many lines of client.py as ever were a matter of luck, when it had fewer."""
    floors = Floors(90, {}, {GOOD: 96})

    assert not floors.complaints({GOOD: Measured(390, 409)}, strict=False)
    assert floors.complaints({GOOD: Measured(388, 409)}, strict=False)


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "floors.toml"
    path.write_text(FLOORS.text())

    assert Floors.read(path) == FLOORS
    committed = Floors.read(FILE)
    assert FILE.read_text() == committed.text()


def test_every_exception_has_a_reason() -> None:
    assert all(Floors.read(FILE).exceptions.values())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is left by a run of a program of four lines, of which one is not reached."""
    monkeypatch.setattr(coverage_floors, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.coverage.run]\nbranch = true\n")
    module = tmp_path / "program.py"
    module.write_text("import sys\nif sys.argv is None:\n    print()\nprint(2)\n")
    coverage = Coverage(
        data_file=str(tmp_path / "data"), config_file=str(tmp_path / "pyproject.toml")
    )
    data = coverage.get_data()
    data.add_arcs({str(module): [(-1, 1), (1, 2), (2, 4), (4, -1)]})
    data.write()
    return tmp_path / "data"


def test_lines_and_branches_are_counted(data: Path) -> None:
    assert measure(data) == {"program.py": Measured(3 + 1, 4 + 2)}


def test_the_command_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "floors.toml"
    path.write_text(Floors(50, {}, {"program.py": 67}).text())
    options = ["--strict", "--data", str(data), "--floors", str(path)]

    assert main(["check", *options]) == 1
    assert "program.py: 66 %, and its floor is 67 %" in capsys.readouterr().out
    path.write_text(Floors(50, {"program.py": "why"}, {"program.py": 10}).text())
    assert main(["raise", *options]) == 0
    assert Floors.read(path) == Floors(50, {}, {"program.py": 66})
    assert main(["check", *options]) == 0
